//! `rco quantize` as a user types it, on the bundled model.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rco_formats::gguf::{GgufModel, TensorType};
use serde_json::Value;

fn asset(name: &str) -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("../../assets").join(name)
}

fn model() -> PathBuf {
    asset("tiny-moe/tiny-moe.bf16.gguf")
}

fn text() -> PathBuf {
    asset("text/scripture.txt")
}

/// A job that is quick: few types, hardly a search.
fn quantize(folder: &Path, output: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.arg("quantize").arg(model()).current_dir(folder);
    command.args(["--types", "Q2_K,Q4_0,Q6_K,Q8_0", "--effort", "trial", "--text"]);
    command.arg(text()).args(["-o", output]);
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_file_fits_and_llama_cpp_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = run(quantize(folder.path(), "out.gguf").args([
        "--size",
        "4MB",
        "--json",
        "--threads",
        "1",
    ]));
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    let file = &outcome["files"][0];
    let path = folder.path().join("out.gguf");
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!(bytes <= 4_000_000);
    assert_eq!(file["bytes"], bytes);
    assert_eq!(file["slack"], 4_000_000 - bytes);
    // The runtime's mean KL and ours, on the same tokens.
    let kl = |of: &str| file["verified"][of]["kl_mean"]["value"].as_f64().unwrap();
    let (runtime, engine) = (kl("runtime"), kl("engine"));
    assert!(engine > 0.0 && (runtime / engine - 1.0).abs() < 0.02, "{runtime} against {engine}");
    assert!(!file["verified"]["sentence"].as_str().unwrap().is_empty());

    let written = GgufModel::open(&path).unwrap();
    let source = GgufModel::open(model()).unwrap();
    assert_eq!(written.metadata().str("rco.plan_sha256"), file["plan_sha256"].as_str());
    assert_eq!(written.metadata().u64("rco.budget_bytes"), Some(4_000_000));
    for (key, value) in source.metadata().iter() {
        if !key.starts_with("general.file_type") && !key.starts_with("general.quantization") {
            assert_eq!(written.metadata().get(key), Some(value), "{key}");
        }
    }
    for (_, tensor) in source.tensors() {
        let (_, found) = written.tensor(&tensor.spec.name).unwrap();
        assert_eq!(found.spec.shape, tensor.spec.shape);
        if found.spec.ty == tensor.spec.ty {
            assert_eq!(
                written.read(&tensor.spec.name).unwrap(),
                source.read(&tensor.spec.name).unwrap()
            );
        } else {
            let types = [TensorType::Q2_K, TensorType::Q4_0, TensorType::Q6_K, TensorType::Q8_0];
            assert!(types.contains(&found.spec.ty));
        }
    }
    // Without --run nothing else is left.
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bytes_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let job = |name: &str, threads: &str| {
        let mut command = quantize(folder.path(), &format!("{name}.gguf"));
        command.args(["--size", "4MB", "--no-verify", "--run", name, "--threads", threads]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let begun = Instant::now();
    let (code, _, err) = run(&mut job("whole", "1"));
    assert_eq!(code, 0, "{err}");
    let whole = begun.elapsed();

    // Killed at moments spread over the whole run, each time a little further.
    let mut kills = 0;
    for n in 1..=8_u32 {
        let mut child = job("killed", "2").spawn().unwrap();
        let end = Instant::now() + whole.mul_f64(f64::from(n) / 10.0).min(Duration::from_secs(20));
        while Instant::now() < end && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let output = folder.path().join("killed.gguf");
        // A file under the final name is a whole file.
        if output.exists() {
            GgufModel::open(&output).unwrap();
            std::fs::remove_file(output).unwrap();
        }
    }
    assert!(kills >= 2, "only {kills} of the runs were killed in time");
    let (code, _, err) = run(&mut job("killed", "2"));
    assert_eq!(code, 0, "{err}");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("whole.gguf") == read("killed.gguf"), "the files differ");
    assert_eq!(read("whole/plan.json"), read("killed/plan.json"));

    // The same folder for something else is refused.
    let mut other = job("killed", "2");
    let (code, _, err) = run(other.args(["--seed", "9", "--force"]));
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("seed"), "{err}");
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_would_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = run(quantize(folder.path(), "x.gguf")
        .args(["--bpw", "4.5,6", "--dry-run", "-o", "{bpw}.gguf"])
        .env("NO_COLOR", "1"));
    // -o was given twice.
    assert_eq!(code, 2, "{out}{err}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.arg("quantize").arg(model()).args(["--bpw", "4.5,6", "--dry-run"]);
    let (code, out, err) = run(command.args(["-o", "{bpw}.gguf"]).current_dir(folder.path()));
    assert_eq!(code, 0, "{err}");
    for words in ["qwen3moe", "8,137,472", "29 tensors", "4,577,328 bytes", "6,103,104 bytes"] {
        assert!(out.contains(words), "{words} is missing in\n{out}");
    }
    assert!(!folder.path().join("4.5.gguf").exists());
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut cases: Vec<(&str, Command, i32, &[&str])> = Vec::new();
    let with = |args: &[&str]| {
        let mut command = quantize(dir, "out.gguf");
        command.args(args);
        command
    };
    cases.push((
        "a budget too small",
        with(&["--size", "1MB"]),
        3,
        &["smallest file", "token_embd.weight"],
    ));
    cases.push((
        "a source that fits",
        with(&["--size", "17MB"]),
        3,
        &["fits into 17000000 as it is"],
    ));
    cases.push(("no budget", with(&[]), 2, &["--size"]));
    cases.push((
        "a pin of nothing",
        with(&["--size", "4MB", "--pin", "nothing=Q4_0"]),
        2,
        &["--pin nothing=Q4_0", "no tensor matches"],
    ));
    cases.push((
        "a type of no tensor",
        with(&["--size", "4MB", "--pin", "token_embd=Q5_K"]),
        2,
        &["token_embd.weight can take"],
    ));
    cases.push((
        "a tie of nothing",
        with(&["--size", "4MB", "--tie", "output_norm"]),
        2,
        &["--tie output_norm"],
    ));
    std::fs::write(dir.join("there.gguf"), b"x").unwrap();
    let mut there = quantize(dir, "there.gguf");
    there.args(["--size", "4MB"]);
    cases.push(("an output that exists", there, 2, &["there.gguf exists", "--force"]));
    for (what, mut command, code, words) in cases {
        let (found, _, err) = run(&mut command);
        assert_eq!(found, code, "{what}: {err}");
        for word in words {
            assert!(err.contains(word), "{what}: `{word}` is missing in {err}");
        }
    }
    assert_eq!(std::fs::read(dir.join("there.gguf")).unwrap(), b"x");
}

#[test]
fn damaged_models_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let source = GgufModel::open(model()).unwrap();
    let name = "blk.1.attn_k.weight";
    let (file, tensor) = source.tensor(name).unwrap();
    let start = (file.header().data_start + tensor.offset) as usize;
    let mut bytes = std::fs::read(model()).unwrap();
    // A NaN in row 1, whose length is that of the tensor's rows.
    let at = start + 2 * (tensor.spec.row_length() as usize + 3);
    bytes[at..at + 2].copy_from_slice(&0x7fc0_u16.to_le_bytes());
    std::fs::write(dir.join("nan.gguf"), &bytes).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(dir.join("cut.gguf"), &bytes).unwrap();
    for (model, words) in [("nan.gguf", [name, "row 1"]), ("cut.gguf", ["cut.gguf", "bytes"])] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
        command.arg("quantize").arg(model).current_dir(dir).arg("--text").arg(text());
        command.args(["--size", "5MB", "--types", "Q4_0", "--effort", "trial", "-o", "out.gguf"]);
        let (code, _, err) = run(&mut command);
        assert_eq!(code, 4, "{model}: {err}");
        for word in words {
            assert!(err.contains(word), "{model}: `{word}` is missing in {err}");
        }
        assert!(!dir.join("out.gguf").exists());
    }
}
