//! `rco eval` as a user types it, on the bundled model.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

fn asset(name: &str) -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("../../assets").join(name)
}

/// Mean KL of a model against another on one text.
fn kl(model: &Path, against: &Path, runtime: &str, cache: &Path) -> (f64, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.arg("eval").arg(model).arg("--against").arg(against);
    command.arg("--text").arg(asset("text/novels.txt")).arg("--cache").arg(cache);
    command.args(["--windows", "2", "--window", "64", "--json", "--threads", "1"]);
    let output = command.args(["--runtime", runtime]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    (json["texts"][0]["kl_mean"]["value"].as_f64().unwrap(), json)
}

#[test]
fn a_model_is_no_distance_from_itself_in_either_runtime_and_either_form() {
    let cache = tempfile::tempdir().unwrap();
    let (gguf, folder) = (asset("tiny-moe/tiny-moe.bf16.gguf"), asset("tiny-moe"));
    for runtime in ["engine", "llama.cpp"] {
        let (found, json) = kl(&gguf, &gguf, runtime, cache.path());
        assert_eq!(found, 0.0, "{runtime}");
        assert_eq!(json["texts"][0]["same_top"]["value"], 1.0);
        assert_eq!(json["texts"][0]["tokens"], 128);
    }
    // The same weights as a Hugging Face folder.
    assert_eq!(kl(&folder, &gguf, "engine", cache.path()).0, 0.0);
}

#[test]
fn a_cache_that_is_cut_off_goes_on_with_what_it_has() {
    let cache = tempfile::tempdir().unwrap();
    let (gguf, folder) = (asset("tiny-moe/tiny-moe.bf16.gguf"), asset("tiny-moe"));
    let (_, whole) = kl(&folder, &gguf, "engine", cache.path());
    // As if it had been killed while it wrote the second window.
    let index = cache.path().join("states.txt");
    let lines = std::fs::read_to_string(&index).unwrap();
    let kept: Vec<&str> = lines.lines().take(2).collect();
    std::fs::write(&index, format!("{}\n77", kept.join("\n"))).unwrap();
    let before = std::fs::metadata(cache.path().join("states.bin")).unwrap().len();
    let (_, again) = kl(&folder, &gguf, "engine", cache.path());
    assert_eq!(whole, again);
    assert_eq!(std::fs::read_to_string(&index).unwrap(), lines);
    assert_eq!(std::fs::metadata(cache.path().join("states.bin")).unwrap().len(), before);
}

/// `rco eval` of the bundled folder against the file, over enough windows to be killed.
fn long_comparison(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.arg("eval").arg(asset("tiny-moe")).arg("--against");
    command.arg(asset("tiny-moe/tiny-moe.bf16.gguf"));
    command.arg("--text").arg(asset("text/novels.txt")).arg("--cache").arg(cache);
    command.args(["--windows", &WINDOWS.to_string(), "--window", "192", "--json"]);
    command.args(["--threads", "1"]).stderr(Stdio::null());
    command
}

const WINDOWS: usize = 12;

#[test]
fn a_comparison_that_is_killed_while_it_writes_the_cache_goes_on() {
    let (calm, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let undisturbed = long_comparison(calm.path()).output().unwrap();
    assert!(undisturbed.status.success());

    let (index, data) = (killed.path().join("states.txt"), killed.path().join("states.bin"));
    let records = || {
        let text = std::fs::read_to_string(&index).unwrap_or_default();
        text.matches('\n').count().saturating_sub(1)
    };
    let size = || std::fs::metadata(&data).map_or(0, |m| m.len());
    let record = std::fs::metadata(calm.path().join("states.bin")).unwrap().len() / WINDOWS as u64;
    let mut kept = 0;
    for target in [2, 5] {
        let mut child = long_comparison(killed.path()).stdout(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while records() < target && started.elapsed() < Duration::from_secs(120) {
            // What an earlier process has left is never thrown away.
            assert!(size() >= kept);
            sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "it was not killed but ended");
        assert!((target..WINDOWS).contains(&records()), "{}", records());
        // The last record may have been cut off.
        kept = records() as u64 * record;
    }
    let before = records();
    let lines = std::fs::read_to_string(&index).unwrap();
    let resumed = long_comparison(killed.path()).output().unwrap();
    assert!(resumed.status.success());
    assert_eq!(resumed.stdout, undisturbed.stdout);
    assert!(before < records() && records() == WINDOWS);
    let after = std::fs::read_to_string(&index).unwrap();
    let whole = &lines[..=lines.rfind('\n').unwrap()];
    assert!(after.starts_with(whole));
    assert_eq!(after, std::fs::read_to_string(calm.path().join("states.txt")).unwrap());
}

#[test]
fn too_little_memory_is_refused_before_anything_is_computed() {
    let cache = tempfile::tempdir().unwrap();
    let run = |memory: &str, more: &[&str]| {
        let mut command = long_comparison(cache.path());
        let output = command.args(["--memory", memory]).args(more);
        output.stderr(Stdio::piped()).output().unwrap()
    };
    let dry = run("1GB", &["--dry-run"]);
    assert!(dry.status.success());
    let json: Value = serde_json::from_slice(&dry.stdout).unwrap();
    let needed = json["memory"].as_u64().unwrap();
    assert!(needed < 1_000_000_000, "{needed}");
    let refused = run("1MB", &[]);
    assert_eq!(refused.status.code(), Some(3));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("bytes of memory are needed and 1000000 are allowed"), "{error}");
    assert!(!cache.path().join("states.bin").exists());
}
