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
fn tuning_changes_scales_of_blocks_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let order = |steps: &str, out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
        command.arg("quantize").arg(model()).current_dir(folder.path());
        command.args(["--types", "Q2_K,Q4_0,Q6_K", "--effort", "trial", "--size", "3.1MB"]);
        command.args(["--json", "--run", "run", "--tuning-steps", steps, "-o", out]);
        let (code, out, err) = run(command.arg("--text").arg(asset("text/novels-calibration.txt")));
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<Value>(&out).unwrap()["files"][0].clone()
    };
    let tuned = order("64", "tuned.gguf");
    let tuning = &tuned["tuning"];
    let figure = |value: &Value| value.as_f64().unwrap();
    assert_eq!((&tuning["taken"], &tuning["steps"]), (&true.into(), &64.into()), "{tuning}");
    assert_eq!(tuning["before"], tuned["search"]["loss_heldout"]);
    // Far beyond what chance can do; llama.cpp finds it too, and the check was of tuned scales.
    assert!(figure(&tuning["after"]) < 0.93 * figure(&tuning["before"]), "{tuning}");
    let checked = |file: &Value| figure(&file["verified"]["runtime"]["kl_mean"]["value"]);

    std::fs::remove_file(folder.path().join("run/run.json")).unwrap();
    let plain = order("0", "plain.gguf");
    assert_eq!((&tuned["plan"], &tuned["bytes"]), (&plain["plan"], &plain["bytes"]));
    assert_ne!(tuned["plan_sha256"], plain["plan_sha256"]);
    assert!(plain["tuning"].is_null());
    assert!(checked(&tuned) < 0.95 * checked(&plain), "{} {}", checked(&tuned), checked(&plain));
    let open = |name: &str| GgufModel::open(folder.path().join(name)).unwrap();
    let (tuned, plain, source) = (open("tuned.gguf"), open("plain.gguf"), open_source());
    let mut changed = 0;
    for (_, tensor) in plain.tensors() {
        let (name, ty) = (&tensor.spec.name, tensor.spec.ty);
        let [new, old] = [&tuned, &plain].map(|file| file.read(name).unwrap());
        if source.tensor(name).unwrap().1.spec.ty == ty {
            assert!(new == old, "{name} is as in the source");
            continue;
        }
        // Where the halves of a block lie that are scales.
        let scales = match ty {
            TensorType::Q2_K => 80..84,
            TensorType::Q4_0 => 0..2,
            TensorType::Q6_K => 208..210,
            other => panic!("{name} is {other}"),
        };
        let block = ty.layout().unwrap().bytes as usize;
        for (at, _) in new.iter().zip(&old).enumerate().filter(|(_, (new, old))| new != old) {
            assert!(scales.contains(&(at % block)), "{name}, byte {at}");
            changed += 1;
        }
    }
    assert!(changed > 1000, "{changed}");
}

fn open_source() -> GgufModel {
    GgufModel::open(model()).unwrap()
}

#[test]
fn experts_go_where_no_types_are_small_enough() {
    let folder = tempfile::tempdir().unwrap();
    // Too few bytes for all eight experts of a layer in the smallest type.
    let budget = 2_500_000;
    let command = |step: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
        command.arg(step).arg(model()).current_dir(folder.path());
        command.args(["--types", "Q2_K,Q4_0,Q6_K", "--effort", "trial", "--size", "2.5MB"]);
        command.arg("--text").arg(text()).args(["-o", "out.gguf"]).args(more);
        run(&mut command)
    };
    let (code, _, err) = command("quantize", &["--dry-run"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("2500000 bytes are too few"), "{err}");
    let more = ["--drop-experts", "--run", "run", "--json"];
    let (code, out, err) = command("quantize", &more);
    assert_eq!(code, 0, "{err}");

    let outcome: Value = serde_json::from_str(&out).unwrap();
    let file = &outcome["files"][0];
    let path = folder.path().join("out.gguf");
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() <= budget && bytes.len() > budget - 50_000, "{}", bytes.len());
    assert_eq!(file["bytes"], bytes.len());
    let kept = file["experts"].as_array().unwrap();
    let count = kept[0].as_array().unwrap().len();
    assert!(kept.len() == 4 && count < 8);
    assert!(kept.iter().all(|layer| layer.as_array().unwrap().len() == count));
    // llama.cpp has loaded it, and the engine finds the same with experts masked.
    let kl = |of: &str| file["verified"][of]["kl_mean"]["value"].as_f64().unwrap();
    let (runtime, engine) = (kl("runtime"), kl("engine"));
    assert!(engine > 0.0 && (runtime / engine - 1.0).abs() < 0.02, "{runtime} against {engine}");

    let (written, source) = (GgufModel::open(&path).unwrap(), GgufModel::open(model()).unwrap());
    assert_eq!(written.metadata().u64("qwen3moe.expert_count"), Some(count as u64));
    for (_, tensor) in written.tensors() {
        let (_, whole) = source.tensor(&tensor.spec.name).unwrap();
        let is_cut = tensor.spec.name.contains("_exps") || tensor.spec.name.contains("gate_inp");
        let expected = if is_cut { Some(&(count as u64)) } else { whole.spec.shape.last() };
        assert_eq!(tensor.spec.shape.last(), expected, "{}", tensor.spec.name);
    }

    // The plan that was kept makes the same file again; one for other experts is refused.
    std::fs::remove_file(&path).unwrap();
    let (code, _, err) = command("build", &more);
    assert_eq!(code, 0, "{err}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let plan = folder.path().join("run/plan.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    json["files"][0]["experts"][0][0] = 7.into();
    std::fs::write(&plan, json.to_string()).unwrap();
    let (code, _, err) = command("build", &[&more[..], &["--force"]].concat());
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("experts that it keeps"), "{err}");
}

#[test]
fn a_model_that_fits_is_copied_only_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let source = std::fs::read(model()).unwrap();
    let (code, _, err) = run(quantize(folder.path(), "out.gguf").args(["--size", "20MB"]));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("as it is") && err.contains("--copy"), "{err}");
    assert!(!path.exists());
    let mut copy = quantize(folder.path(), "out.gguf");
    copy.args(["--size", "20MB", "--copy", "--json"]);
    let (code, out, err) = run(&mut copy);
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(outcome["files"][0]["bytes"], source.len());
    assert_eq!(std::fs::read(&path).unwrap(), source);
    // What is there is not overwritten.
    let (code, _, err) = run(&mut copy);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("out.gguf"), "{err}");
}

#[test]
fn parts_keep_to_the_budget_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = quantize(folder.path(), "out.gguf");
    let job = command.args(["--size", "4MB", "--split-size", "1MB", "--json"]);
    let (code, out, err) = run(job);
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    let file = &outcome["files"][0];
    let first = PathBuf::from(file["path"].as_str().unwrap());
    assert!(first.to_string_lossy().contains("out-00001-of-0000"), "{first:?}");
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        sizes.push(entry.unwrap().metadata().unwrap().len());
    }
    assert!(sizes.len() >= 4, "{sizes:?}");
    let bytes: u64 = sizes.iter().sum();
    assert!(bytes <= 4_000_000 && bytes > 3_980_000, "{bytes}");
    assert_eq!(file["bytes"], bytes);
    // llama.cpp has loaded it, and its reader here takes the parts for one model.
    assert!(file["verified"]["runtime"]["kl_mean"]["value"].as_f64().unwrap() > 0.0);
    let written = GgufModel::open(folder.path().join(first.file_name().unwrap())).unwrap();
    assert_eq!(written.tensors().count(), GgufModel::open(model()).unwrap().tensors().count());
    // A second run refuses to overwrite the parts, before it computes anything.
    let (code, _, err) = run(job);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("out-00001-of"), "{err}");
}

#[test]
fn without_gradients_llama_cpp_measures_the_plans() {
    let folder = tempfile::tempdir().unwrap();
    let job = |output: &str| {
        let mut command = quantize(folder.path(), output);
        command.args(["--size", "5MB", "--json", "--no-gradients"]);
        command
    };
    let (code, out, err) = run(&mut job("out.gguf"));
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    let file = &outcome["files"][0];
    assert!(file["bytes"].as_u64().unwrap() <= 5_000_000);
    let search = &file["search"];
    assert_eq!(search["counts"]["gradients"], 0);
    assert!(search["counts"]["calibration"].as_u64().unwrap() > 8, "{search}");
    // llama.cpp measured it in the search and afterwards, each time on the same windows.
    let found = search["loss_heldout"].as_f64().unwrap();
    let runtime = file["verified"]["runtime"]["kl_mean"]["value"].as_f64().unwrap();
    assert!((found - runtime).abs() < 1e-9, "{found} in the search, {runtime} afterwards");
    assert!(file["verified"]["engine"].is_null());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // The same again is the same to the byte.
    let (code, _, err) = run(job("again.gguf").args(["--threads", "1"]));
    assert_eq!(code, 0, "{err}");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("out.gguf") == read("again.gguf"));
}

#[test]
fn a_model_that_the_engine_does_not_know_is_told_what_does_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unknown.gguf");
    let source = rco_formats::gguf::Gguf::open(model()).unwrap();
    let mut writer = rco_formats::gguf::GgufWriter::copy_of(&source).unwrap();
    writer.metadata_mut().set("general.architecture", "stablelm").unwrap();
    writer.write(&path, rco_formats::atomic::WriteOptions::default()).unwrap();
    let job = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
        command.arg("quantize").arg(&path).args(["--size", "5MB", "-o", "out.gguf"]);
        command.args(["--types", "Q4_0,Q6_K,Q8_0", "--text"]).arg(text());
        command.args(flags).current_dir(folder.path());
        run(&mut command)
    };
    let (code, _, err) = job(&[]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("stablelm") && err.contains("--no-gradients"), "{err}");
    let (code, out, err) = job(&["--no-gradients", "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("stablelm"), "{out}");
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
fn types_that_others_outdo_are_on_the_menu_only_when_named() {
    let types = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
        command.arg("quantize").arg(model()).args(["--size", "4MB", "--dry-run", "-o", "x.gguf"]);
        let (code, out, err) = run(command.args(more));
        assert_eq!(code, 0, "{err}");
        let line = out.lines().find(|line| line.trim_start().starts_with("types")).unwrap();
        line.to_owned()
    };
    let default = types(&[]);
    assert!(default.contains("IQ3_S ×29") && default.contains("Q4_K ×29"), "{default}");
    for ty in ["Q3_K", "Q4_0", "IQ1_S"] {
        assert!(!default.contains(ty), "{default}");
        let pinned = types(&["--pin", &format!("token_embd={ty}")]);
        assert!(pinned.contains(ty), "{pinned}");
        assert!(types(&["--types", &format!("{ty},IQ2_S")]).contains(ty));
    }
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

#[test]
fn three_steps_make_what_one_command_makes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let step = |name: &str, run: &str, output: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
        command.arg(name).arg(model()).current_dir(dir).arg("--text").arg(text());
        command.args(["--types", "Q4_0,Q6_K,Q8_0", "--effort", "trial", "--no-verify"]);
        command.args(["--size", "5MB", "--run", run]);
        if !output.is_empty() {
            command.args(["-o", output]);
        }
        command
    };
    let (code, _, err) = run(&mut step("quantize", "whole", "whole.gguf"));
    assert_eq!(code, 0, "{err}");

    let (code, _, err) = run(&mut step("build", "steps", "steps.gguf"));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("rco search"), "{err}");
    let (code, out, err) = run(&mut step("options", "steps", ""));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("rco search"), "{out}");
    assert!(dir.join("steps/options/Q4_0.gguf").exists());
    assert!(!dir.join("steps/plan.json").exists());
    let (code, out, err) = run(&mut step("search", "steps", ""));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("rco build"), "{out}");
    assert!(!dir.join("steps.gguf").exists());
    let (code, out, err) = run(&mut step("build", "steps", "steps.gguf"));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("steps.gguf"), "{out}");
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert_eq!(read("whole/plan.json"), read("steps/plan.json"));
    assert!(read("whole.gguf") == read("steps.gguf"), "the files differ");

    // The log has a line for each stage of each step, in the order of time.
    let log = String::from_utf8(read("steps/log.txt")).unwrap();
    let places = ["options ", "encoding options", "options: done", "search: done", "build: done"]
        .map(|words| log.find(words).unwrap_or_else(|| panic!("no {words} in\n{log}")));
    assert!(places.is_sorted(), "{log}");
    assert!(log.lines().all(|line| line.as_bytes()[10] == b'T' && line.contains(" s  ")), "{log}");

    // A plan that was changed by hand is built as it is, or refused.
    let plan: Value = serde_json::from_slice(&read("steps/plan.json")).unwrap();
    let with = |ty: &str| {
        let mut plan = plan.clone();
        plan["files"][0]["tensors"]["token_embd.weight"] = ty.into();
        std::fs::write(dir.join("steps/plan.json"), plan.to_string()).unwrap();
        run(&mut step("build", "steps", "changed.gguf"))
    };
    let (code, _, err) = with("Q2_K");
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("token_embd.weight as Q2_K"), "{err}");
    let (code, _, err) = with("Q4_0");
    assert_eq!(code, 0, "{err}");
    let changed = GgufModel::open(dir.join("changed.gguf")).unwrap();
    assert_eq!(changed.tensor("token_embd.weight").unwrap().1.spec.ty, TensorType::Q4_0);

    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    let (code, _, err) = run(command.arg("search").arg(model()).args(["--size", "5MB"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--run"), "{err}");
}

#[test]
fn tensors_of_another_file_are_options_too() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let quantize = |types: &str, size: &str, output: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
        command.arg("quantize").arg(model()).current_dir(dir).arg("--text").arg(text());
        command.args(["--types", types, "--effort", "trial", "--size", size, "-o", output]);
        command
    };
    // A pinned tensor counts with its own bytes.
    let mut theirs = quantize("Q6_K", "7.5MB", "theirs.gguf");
    let (code, _, err) = run(theirs.args(["--no-verify", "--pin", "token_embd=Q6_K"]));
    assert_eq!(code, 0, "{err}");
    let mut ours = quantize("Q4_0", "5MB", "ours.gguf");
    // Their scales as they are.
    ours.args(["--options", "theirs.gguf", "--run", "run", "--tuning-steps", "0"]);
    let (code, out, err) = run(ours.arg("--json"));
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(outcome["options"][0]["name"], "theirs.gguf");
    let plan = outcome["files"][0]["plan"].as_array().unwrap().clone();
    let (written, theirs) = (
        GgufModel::open(dir.join("ours.gguf")).unwrap(),
        GgufModel::open(dir.join("theirs.gguf")).unwrap(),
    );
    let taken: Vec<&str> = plan
        .iter()
        .filter(|entry| entry[1] == "Q6_K@theirs.gguf")
        .map(|entry| entry[0].as_str().unwrap())
        .collect();
    assert!(!taken.is_empty(), "{plan:?}");
    for name in taken {
        assert_eq!(written.read(name).unwrap(), theirs.read(name).unwrap(), "{name}");
    }
    assert!(!outcome["files"][0]["verified"].is_null());
    let json: Value =
        serde_json::from_slice(&std::fs::read(dir.join("run/plan.json")).unwrap()).unwrap();
    assert_eq!(json["options"], outcome["options"]);

    // Another content under the same name is another run.
    let mut other = quantize("Q4_0", "7MB", "theirs.gguf");
    let (code, _, err) = run(other.args(["--no-verify", "--force"]));
    assert_eq!(code, 0, "{err}");
    let mut ours = quantize("Q4_0", "5MB", "ours.gguf");
    let (code, _, err) = run(ours.args(["--options", "theirs.gguf", "--run", "run"]));
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("options"), "{err}");
    let mut ours = quantize("Q4_0", "5MB", "ours.gguf");
    let (code, _, err) = run(ours.args(["--force", "--options", "text.txt"]));
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("text.txt"), "{err}");
}

#[test]
fn a_split_source_gives_the_file_of_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let source = rco_formats::gguf::Gguf::open(model()).unwrap();
    let parts = rco_formats::gguf::GgufWriter::copy_of(&source)
        .unwrap()
        .write_split(dir.join("model"), 6_000_000, rco_formats::atomic::WriteOptions::default())
        .unwrap();
    let first = parts[0].0.clone();
    assert_eq!(first.file_name().unwrap(), "model-00001-of-00003.gguf");
    let quantize = |model: &Path, output: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
        command.arg("quantize").arg(model).current_dir(dir).arg("--text").arg(text());
        command.args(["--types", "Q4_0,Q8_0", "--effort", "trial", "--size", "5MB", "-o", output]);
        command
    };
    let (code, _, err) = run(quantize(&model(), "whole.gguf").arg("--no-verify"));
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = run(quantize(&first, "split.gguf").args(["--run", "run"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("it writes"), "{out}");
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert!(read("whole.gguf") == read("split.gguf"), "the files differ");

    // A change of any part is a change of the model.
    let last = &parts[2].0;
    let mut bytes = std::fs::read(last).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(last, bytes).unwrap();
    let (code, _, err) = run(quantize(&first, "split.gguf").args(["--run", "run"]));
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("SHA-256"), "{err}");
}
