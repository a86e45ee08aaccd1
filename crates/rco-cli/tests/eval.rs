//! `rco eval` as a user types it, on the bundled model.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

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
