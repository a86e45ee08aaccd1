//! Runs that are killed and go on.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rco_core::rng::{Purpose, stream};

const KILLS: u64 = 20;
/// Steps of RCO: a run takes about two seconds.
const STEPS: u64 = 150;

/// A quadratic problem: every group interacts with eight others.
fn write_problem(path: &Path) {
    let mut random = stream(1, Purpose::Instance, 0);
    let (groups, options) = (80, 5);
    let mut text = String::from(
        "{\"format\": \"rco-problem\", \"version\": 1,\n\
         \"budgets\": [{\"resource\": \"bytes\", \"limit\": 12000}], \"groups\": [\n",
    );
    for i in 0..groups {
        let comma = if i == 0 { "" } else { ",\n" };
        let _ = write!(text, "{comma}{{\"name\": \"g{i}\", \"options\": [");
        for k in 0..options {
            let comma = if k == 0 { "" } else { ", " };
            let cost = 50 * (k + 1) + random.below(20);
            let loss = 0.25_f64.powf(k as f64) * random.uniform();
            let _ =
                write!(text, "{comma}{{\"name\": \"o{k}\", \"cost\": {cost}, \"loss\": {loss}}}");
        }
        text.push_str("]}");
    }
    text.push_str("],\n\"pairs\": [\n");
    let mut first = true;
    for i in 0..groups {
        for h in (i + 1..groups).take(8) {
            for (k, l) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)] {
                let comma = if first { "" } else { ",\n" };
                first = false;
                let loss = 0.2 * random.normal();
                let _ = write!(
                    text,
                    "{comma}{{\"groups\": [\"g{i}\", \"g{h}\"], \"options\": [\"o{k}\", \"o{l}\"], \
                     \"loss\": {loss}}}"
                );
            }
        }
    }
    text.push_str("]}\n");
    fs::write(path, text).unwrap();
}

fn solve(problem: &Path, run: &Path, steps: u64, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command
        .args(["solve", "--quiet", "--seed", "3", "--steps", &steps.to_string()])
        .args(["--threads", "2", "--checkpoint-every", "0", "--run"])
        .arg(run)
        .arg(problem)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

#[test]
fn a_run_killed_20_times_ends_with_the_plan_of_an_undisturbed_one() {
    let dir = tempfile::tempdir().unwrap();
    let problem = dir.path().join("problem.json");
    write_problem(&problem);
    let (calm, disturbed) = (dir.path().join("calm"), dir.path().join("disturbed"));

    let started = Instant::now();
    assert!(solve(&problem, &calm, STEPS, &[]).status().unwrap().success());
    let undisturbed = started.elapsed();

    let mut random = stream(2, Purpose::Instance, 0);
    let mut killed = 0;
    while killed < KILLS {
        let mut child = solve(&problem, &disturbed, STEPS, &[]).spawn().unwrap();
        sleep(undisturbed.mul_f64(0.12 * random.uniform()));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        // Too late once or twice is no harm: the next start finds a finished run.
        assert!(status.code().is_none() || status.success(), "{status}");
        killed += 1;
    }
    assert!(solve(&problem, &disturbed, STEPS, &[]).status().unwrap().success());

    let plan = |run: &Path| fs::read_to_string(run.join("plan.json")).unwrap();
    assert_eq!(plan(&calm), plan(&disturbed));
    let steps = |run: &Path| {
        let text = fs::read_to_string(run.join("history.jsonl")).unwrap();
        let step = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap()
        };
        text.lines().map(step).collect::<Vec<_>>()
    };
    assert_eq!(steps(&calm), steps(&disturbed), "the history has a gap or a repetition");
}

#[test]
fn a_changed_input_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (problem, run) = (dir.path().join("p.json"), dir.path().join("run"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/problems/pairs.json");
    let text = fs::read_to_string(source).unwrap();
    fs::write(&problem, &text).unwrap();
    let go = |more: &[&str]| {
        let output = solve(&problem, &run, STEPS, more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(go(&[]).0, Some(0));
    assert_eq!(go(&[]).0, Some(0), "a finished run can be started again");
    assert_eq!(go(&["--max-seconds", "60"]).0, Some(0), "a limit of time may change");

    let (code, error) = go(&["--budget", "300"]);
    assert_eq!(code, Some(6));
    assert!(error.contains("the budget") && error.contains("bytes <= 300"), "{error}");
    let (code, error) = go(&["--patience", "7"]);
    assert_eq!(code, Some(6));
    assert!(error.contains("`patience` was null and is now 7"), "{error}");
    fs::write(&problem, text.replace("0.45", "0.46")).unwrap();
    let (code, error) = go(&[]);
    assert_eq!(code, Some(6));
    assert!(error.contains("content (SHA-256) of the problem file"), "{error}");
}

#[test]
fn a_run_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    let lock = fs::File::create(run.join("lock")).unwrap();
    lock.lock().unwrap();
    let problem = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/problems/pairs.json");
    let output = solve(&problem, &run, STEPS, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("in use"), "{error}");
}

#[test]
fn a_damaged_description_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("run.json"), "{").unwrap();
    let problem = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/problems/pairs.json");
    let output = solve(&problem, &run, STEPS, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(String::from_utf8(output.stderr).unwrap().contains("run.json"));
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let problem = dir.path().join("problem.json");
    write_problem(&problem);
    let run = dir.path().join("run");
    let mut child = solve(&problem, &run, 100_000, &[]).spawn().unwrap();
    let waited = Instant::now();
    while !run.join("checkpoint.json").exists() && waited.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(run.join("checkpoint.json").exists());
    assert!(!run.join("plan.json").exists());
}
