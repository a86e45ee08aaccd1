//! `rco inspect` as its users call it.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;

use assert_cmd::Command;

/// Exit code, standard output and standard error.
fn inspect(args: &[&str]) -> (Option<i32>, String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env!("CARGO_BIN_EXE_rco"))
        .current_dir(root)
        .arg("inspect")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_file_and_a_folder_are_shown_as_tables() {
    for model in ["assets/tiny-moe/tiny-moe.bf16.gguf", "assets/tiny-moe"] {
        let (code, out, err) = inspect(&[model]);
        assert_eq!((code, &*err), (Some(0), ""));
        assert!(out.contains("8,137,472 weights") && out.contains("rows of 256"), "{out}");
    }
}

#[test]
fn json_has_every_tensor() {
    let (code, out, _) = inspect(&["--json", "assets/tiny-moe/tiny-moe.bf16.gguf"]);
    assert_eq!(code, Some(0));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["tensors"].as_array().unwrap().len(), 50);
    assert_eq!(report["architecture"], "qwen3moe");
}

#[test]
fn wrong_and_missing_files_have_their_own_exit_codes() {
    let (code, _, err) = inspect(&["Cargo.toml"]);
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("Cargo.toml") && err.contains("not a GGUF file"), "{err}");
    let (code, _, err) = inspect(&["no-such-model.gguf"]);
    assert_eq!(code, Some(5), "{err}");
}
