//! `rco solve` from the command line: output, files, exit codes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn rco() -> Command {
    let mut command = Command::cargo_bin("rco").unwrap();
    command.current_dir(root()).env("NO_COLOR", "1");
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs the command; returns exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = rco().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Compares with a file under `tests/golden`, but for the line that tells the time.
fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let found: String =
        found.split_inclusive('\n').filter(|line| !line.starts_with("  time ")).collect();
    if std::env::var_os("RCO_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{name} differs; if it should, run the tests with RCO_UPDATE_GOLDEN=1\n{found}"
    );
}

const TWO: &str = "examples/problems/two-resources.json";
const PAIRS: &str = "examples/problems/pairs.json";
const EXPERTS: &str = "examples/problems/experts.csv";

#[test]
#[cfg(feature = "highs")]
fn two_resources_solved_exactly() {
    let (code, out, err) = run(&["solve", TWO, "--method", "exact", "--plan"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_golden("two-resources.txt", &out);
}

#[test]
fn an_exact_budget_of_a_csv_file() {
    let (code, out, err) = run(&["solve", EXPERTS, "--budget", "experts==5", "--method", "exact"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_golden("experts.txt", &out);
}

#[test]
fn a_dry_run_says_what_would_be_done() {
    let (code, out, _) =
        run(&["solve", PAIRS, "--dry-run", "--max-evaluations", "500", "--max-seconds", "90"]);
    assert_eq!(code, 0);
    assert_golden("dry-run.txt", &out);
}

#[test]
fn the_help_teaches_by_examples() {
    let (code, out, _) = run(&["solve", "--help"]);
    assert_eq!(code, 0);
    for part in ["Examples:", "--budget bytes=5.9GB", "GiB", "goes on where it stopped"] {
        assert!(out.contains(part), "{part}\n{out}");
    }
}

#[test]
fn the_schema_is_the_committed_one() {
    let (code, out, _) = run(&["schema"]);
    assert_eq!(code, 0);
    assert_eq!(out, fs::read_to_string(root().join("schemas/problem.schema.json")).unwrap());
}

#[test]
fn the_8b_problem_is_solved_with_proof() {
    let (code, out, err) = run(&["solve", "examples/problems/qwen3-8b-gguf.json", "--json"]);
    assert_eq!(code, 0, "{err}");
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["plan"]["certificate"]["gap"], 0.0);
    assert_eq!(value["plan"]["certificate"]["status"], "optimal");
    assert_eq!(value["plan"]["choices"].as_object().unwrap().len(), 252);
    let budget = &value["plan"]["budgets"][0];
    let total = budget["cost"].as_u64().unwrap() + budget["slack"].as_u64().unwrap();
    assert_eq!(total, 3_500_000_000);
}

#[test]
fn interactions_are_taken_into_account() {
    let (code, out, err) = run(&["solve", PAIRS, "--json"]);
    assert_eq!(code, 0, "{err}");
    let value: Value = serde_json::from_str(&out).unwrap();
    // By enumeration: b and c small, whose errors cancel, and a large.
    assert_eq!(
        value["plan"]["choices"],
        serde_json::json!({"a": "large", "b": "small", "c": "small"})
    );
    assert!((value["plan"]["loss"].as_f64().unwrap() - 0.3).abs() < 1e-12);
    assert!(value["plan"]["certificate"].is_null());
}

#[test]
fn json_output_is_one_object_without_nan() {
    let (_, out, _) = run(&["solve", PAIRS, "--json"]);
    assert!(serde_json::from_str::<Value>(&out).is_ok());
    let (_, text, _) = run(&["solve", PAIRS]);
    for output in [out, text] {
        assert!(!output.contains("NaN") && !output.contains("inf"), "{output}");
    }
}

#[test]
fn quiet_prints_nothing() {
    let (code, out, err) = run(&["solve", PAIRS, "--quiet"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
}

#[test]
fn equal_seeds_give_equal_plans_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |threads: &str| {
        let path = dir.path().join(format!("{threads}.json"));
        let name = path.to_str().unwrap();
        let arguments = [
            "solve", PAIRS, "--method", "rco", "--steps", "20", "--seed", "5", "--force", "-o",
            name,
        ];
        let (code, ..) = run(&[&arguments[..], &["--threads", threads]].concat());
        assert_eq!(code, 0);
        fs::read(path).unwrap()
    };
    assert_eq!(plan("1"), plan("2"));
    assert_eq!(plan("1"), plan("8"));
}

#[test]
fn a_plan_file_is_not_overwritten_without_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plan.json");
    fs::write(&path, "mine").unwrap();
    let name = path.to_str().unwrap();
    let (code, _, err) = run(&["solve", TWO, "-o", name]);
    assert_eq!(code, 2);
    assert!(err.contains("--force"), "{err}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    let (code, ..) = run(&["solve", TWO, "-o", name, "--force"]);
    assert_eq!(code, 0);
    let plan: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(plan["format"], "rco-plan");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn a_plan_file_needs_a_folder() {
    let (code, _, err) = run(&["solve", TWO, "-o", "nowhere/plan.json"]);
    assert_eq!(code, 5);
    assert!(err.contains("create nowhere first"), "{err}");
}

#[test]
fn wrong_usage_exits_with_2() {
    assert_eq!(run(&["solve"]).0, 2);
    assert_eq!(run(&["solve", TWO, "--budget", "5 apples"]).0, 2);
    assert_eq!(run(&["solve", TWO, "--method", "magic"]).0, 2);
    assert_eq!(run(&["solve", TWO, "--budget", "time=5"]).0, 2);
    assert_eq!(run(&["solve", PAIRS, "--method", "exact"]).0, 2);
    let (code, _, err) = run(&["solve", EXPERTS]);
    assert_eq!(code, 2);
    assert!(err.contains("--budget experts=AMOUNT"), "{err}");
}

#[test]
fn an_infeasible_budget_exits_with_3_and_names_the_smallest() {
    let (code, out, err) = run(&["solve", TWO, "--budget", "bytes=5KB"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("smallest possible total is 6750"), "{err}");
}

#[test]
fn a_wrong_file_exits_with_4_and_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.json");
    fs::write(&path, "{\"format\": \"rco-problem\",\n \"version\": 1, \"groups\": [}").unwrap();
    let (code, _, err) = run(&["solve", path.to_str().unwrap()]);
    assert_eq!(code, 4);
    assert!(err.contains("p.json: line 2, column"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn a_missing_file_exits_with_5() {
    let (code, _, err) = run(&["solve", "nowhere.json"]);
    assert_eq!(code, 5);
    assert!(err.contains("nowhere.json"), "{err}");
}

#[test]
fn a_settings_file_with_an_unknown_setting_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.json");
    fs::write(&path, "{\"lerning_rate\": 1}").unwrap();
    let (code, _, err) = run(&["solve", TWO, "--settings", path.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(err.contains("lerning_rate"), "{err}");
}

#[test]
fn the_geometry_holds() {
    let (code, out, err) = run(&["check", "geometry"]);
    assert_eq!(code, 0, "{out}{err}");
}
