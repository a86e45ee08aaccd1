//! `rco prune` as a user types it, on the bundled model.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rco_formats::gguf::GgufModel;
use rco_formats::safetensors::HfFolder;
use serde_json::Value;

fn asset(name: &str) -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("../../assets").join(name)
}

fn prune(folder: &Path, model: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.arg("prune").arg(asset(model)).current_dir(folder);
    command.args(["--effort", "trial", "--text"]).arg(asset("text/scripture.txt"));
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// What the final choice goes by: the mean of both splits.
fn judged(candidate: &Value) -> f64 {
    let heldout = candidate["loss_heldout"].as_f64().unwrap();
    f64::midpoint(heldout, candidate["loss_calibration"].as_f64().unwrap_or(heldout))
}

const GGUF: &str = "tiny-moe/tiny-moe.bf16.gguf";

#[test]
fn a_gguf_loses_as_many_experts_in_each_layer_and_llama_cpp_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = prune(folder.path(), GGUF);
    command.args(["--experts", "25%", "--per-layer", "--json", "-o", "out.gguf"]);
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    let path = folder.path().join("out.gguf");
    assert_eq!(outcome["bytes"], std::fs::metadata(&path).unwrap().len());
    let kl = |of: &str| outcome["verified"][of]["kl_mean"]["value"].as_f64().unwrap();
    let (runtime, engine) = (kl("runtime"), kl("engine"));
    assert!(engine > 0.0 && (runtime / engine - 1.0).abs() < 0.1, "{runtime} against {engine}");
    assert!(!outcome["verified"]["sentence"].as_str().unwrap().is_empty());

    // Never worse than the rankings in use, on the texts that decide.
    let candidates = outcome["search"]["candidates"].as_array().unwrap();
    for name in ["router frequency", "router mass", "REAP saliency", "random"] {
        assert!(candidates.iter().any(|c| c["origin"] == name), "{name} is missing");
    }
    assert!(candidates.iter().all(|c| judged(c) >= judged(&candidates[0])));

    // What remains is what it was, in its order.
    let (source, written) =
        (GgufModel::open(asset(GGUF)).unwrap(), GgufModel::open(&path).unwrap());
    assert_eq!(written.metadata().u64("qwen3moe.expert_count"), Some(6));
    assert_eq!(source.len(), written.len());
    for (_, tensor) in source.tensors() {
        let name = &tensor.spec.name;
        let (before, after) = (source.read(name).unwrap(), written.read(name).unwrap());
        let shape = &written.tensor(name).unwrap().1.spec.shape;
        if !name.contains("_exps.") && !name.contains("ffn_gate_inp.") {
            assert_eq!((&before, &tensor.spec.shape), (&after, shape), "{name}");
            continue;
        }
        assert_eq!(shape.last(), Some(&6), "{name}");
        let layer: usize = name.split('.').nth(1).unwrap().parse().unwrap();
        let kept = outcome["layers"][layer]["kept"].as_array().unwrap();
        assert_eq!(kept.len(), 6);
        let each = before.len() / 8;
        let expected: Vec<u8> = kept
            .iter()
            .flat_map(|e| before[e.as_u64().unwrap() as usize * each..][..each].to_vec())
            .collect();
        assert_eq!(expected, after, "{name}");
    }
    // Without --run nothing else is left.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_loses_experts_where_they_matter_least_and_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let prune = || {
        let mut command = prune(folder.path(), "tiny-moe");
        command.args(["--experts", "9", "--min-experts", "4", "--json", "-o", "out"]);
        command
    };
    let (code, out, err) = run(&mut prune());
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    let counts: Vec<u64> = outcome["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["kept"].as_array().unwrap().len() as u64)
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 23);
    assert!(counts.iter().all(|&n| n >= 4));
    let written = HfFolder::open(folder.path().join("out")).unwrap();
    let most = counts.iter().max().unwrap();
    assert_eq!(written.config()["num_local_experts"], *most);
    if counts.iter().any(|n| n != most) {
        assert_eq!(written.config()["per_layer_num_experts"], serde_json::json!(counts));
    }
    let bytes: u64 = std::fs::read_dir(folder.path().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(outcome["bytes"], bytes);
    let (planned, read) =
        (&outcome["search"]["loss_heldout"], &outcome["domains"][0]["kl_mean"]["value"]);
    let (planned, read) = (planned.as_f64().unwrap(), read.as_f64().unwrap());
    assert!((planned / read - 1.0).abs() < 1e-3, "{planned} {read}");

    // Not twice, unless asked for; and never over a folder that is no model.
    let (code, _, err) = run(&mut prune());
    assert_eq!((code, err.contains("--force")), (2, true), "{err}");
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    let (code, _, err) = run(prune().args(["-o", "mine", "--force"]));
    assert_eq!(code, 2, "{err}");
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_mask_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let job = |name: &str, threads: &str| {
        let mut command = prune(folder.path(), GGUF);
        command.args(["--experts", "12.5%", "--per-layer", "--no-verify", "--threads", threads]);
        command.args(["--run", &format!("run-{name}"), "-o", &format!("{name}.gguf")]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let begun = Instant::now();
    let (code, _, err) = run(&mut job("whole", "1"));
    assert_eq!(code, 0, "{err}");
    let whole = begun.elapsed();
    let mut kills = 0;
    for n in 1..=4_u32 {
        let mut child = job("killed", "2").spawn().unwrap();
        let end = Instant::now() + whole.mul_f64(f64::from(n) / 6.0).min(Duration::from_secs(20));
        while Instant::now() < end && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0);
    let (code, _, err) = run(&mut job("killed", "2"));
    assert_eq!(code, 0, "{err}");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("whole.gguf") == read("killed.gguf"));
    assert_eq!(read("run-whole/plan.json"), read("run-killed/plan.json"));
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let dense = Path::new(&root).join("../rco-model/tests/fixtures/llama");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.arg("prune").arg(dense).args(["--experts", "25%", "--dry-run", "--text", "x"]);
    let (code, _, err) = run(&mut command);
    assert_eq!((code, err.contains("has no experts")), (4, true), "{err}");
    for (arguments, expected, says) in [
        (&["--experts", "100%", "--per-layer"][..], 3, "at most 24 (75%)"),
        (&["--experts", "40", "--per-layer"], 3, "at most 24 (75%)"),
        (&["--experts", "20%", "--per-layer"], 2, "12.5% and 25%"),
        (&["--experts", "25%"], 2, "--per-layer"),
        (&["--experts", "25%", "--per-layer", "--min-experts", "1"], 2, "at least 2"),
        (
            &["--experts", "25%", "--per-layer", "--output", "folder"],
            2,
            "formats are not converted",
        ),
        (&["--experts", "a lot"], 2, "a share such as 25%"),
        (&["--experts", "8", "--per-layer", "--weights", "1,2"], 2, "for 1 texts"),
        (&["--experts", "8", "--per-layer", "--weights", "0"], 2, "a positive number"),
        (&["--experts", "8", "--per-layer", "--protect", "x"], 2, "--protect-kl"),
        (&["--layers", "1", "--output", "folder"], 2, "formats are not converted"),
    ] {
        let (code, _, err) = run(prune(folder.path(), GGUF).args(arguments).arg("--dry-run"));
        assert_eq!((code, err.contains(says)), (expected, true), "{arguments:?}: {err}");
    }
    let (code, out, err) = run(prune(folder.path(), GGUF).args([
        "--experts",
        "25%",
        "--per-layer",
        "--dry-run",
        "--json",
    ]));
    assert_eq!(code, 0, "{err}");
    let outlook: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&outlook["dropped"], &outlook["kept_per_layer"]), (&8.into(), &6.into()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn whole_layers_go_and_llama_cpp_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = prune(folder.path(), GGUF);
    command.args(["--layers", "1", "--json", "--run", "run", "-o", "out.gguf"]);
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    let path = folder.path().join("out.gguf");
    assert_eq!(outcome["bytes"], std::fs::metadata(&path).unwrap().len());
    let kl = |of: &str| outcome["verified"][of]["kl_mean"]["value"].as_f64().unwrap();
    let (runtime, engine) = (kl("runtime"), kl("engine"));
    assert!(engine > 0.0 && (runtime / engine - 1.0).abs() < 0.02, "{runtime} against {engine}");

    // Of four plans that drop one layer it is the best on the texts that decide.
    let candidates = outcome["search"]["candidates"].as_array().unwrap();
    assert!(candidates.iter().all(|c| judged(c) >= judged(&candidates[0])));

    // What remains is what it was, under new numbers.
    let (source, written) =
        (GgufModel::open(asset(GGUF)).unwrap(), GgufModel::open(&path).unwrap());
    assert_eq!(written.metadata().u64("qwen3moe.block_count"), Some(3));
    let dropped = outcome["dropped"].as_array().unwrap();
    assert_eq!(dropped.len(), 1);
    let dropped = dropped[0].as_u64().unwrap();
    let kept: Vec<u64> = (0..4).filter(|&l| l != dropped).collect();
    for (_, tensor) in written.tensors() {
        let name = &tensor.spec.name;
        let before = match name.strip_prefix("blk.").and_then(|n| n.split_once('.')) {
            None => name.clone(),
            Some((l, rest)) => format!("blk.{}.{rest}", kept[l.parse::<usize>().unwrap()]),
        };
        assert_eq!(written.read(name).unwrap(), source.read(&before).unwrap(), "{name}");
    }
    let plan = std::fs::read(folder.path().join("run/plan.json")).unwrap();
    let plan: Value = serde_json::from_slice(&plan).unwrap();
    assert_eq!(plan["dropped_layers"], outcome["dropped"]);

    // The same command again finds all of it done, and another number is refused.
    let (code, again, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["plan_sha256"], outcome["plan_sha256"]);
    for (layers, expected) in [("0", "1 to 3"), ("4", "1 to 3")] {
        let mut command = prune(folder.path(), GGUF);
        let (code, _, err) = run(command.args(["--layers", layers, "-o", "other.gguf"]));
        assert_eq!(code, 3, "{err}");
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn whole_layers_of_a_folder_go_and_what_remains_is_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = prune(folder.path(), "tiny-moe");
    command.args(["--layers", "2", "--json", "-o", "out"]);
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    let bytes: u64 = std::fs::read_dir(folder.path().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(outcome["bytes"], bytes);
    let dropped: Vec<u64> =
        outcome["dropped"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap()).collect();
    assert_eq!(dropped.len(), 2);
    let kept: Vec<u64> = (0..4).filter(|l| !dropped.contains(l)).collect();

    let source = HfFolder::open(asset("tiny-moe")).unwrap();
    let written = HfFolder::open(folder.path().join("out")).unwrap();
    assert_eq!(written.config()["num_hidden_layers"], 2);
    assert_eq!(written.config()["rco"]["kept_layers"], serde_json::json!(kept));
    let mut seen = 0;
    for (_, tensor) in written.tensors() {
        let before = match tensor.name.strip_prefix("model.layers.") {
            None => tensor.name.clone(),
            Some(name) => {
                let (l, rest) = name.split_once('.').unwrap();
                seen |= 1 << l.parse::<u32>().unwrap();
                format!("model.layers.{}.{rest}", kept[l.parse::<usize>().unwrap()])
            }
        };
        let name = &tensor.name;
        assert_eq!(written.read(name).unwrap(), source.read(&before).unwrap(), "{name}");
    }
    assert_eq!(seen, 0b11);
}

#[test]
fn weights_are_zero_where_they_are_missed_least_and_the_others_are_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = prune(folder.path(), "tiny-moe");
    command.args(["--sparsity", "40%", "--json", "-o", "out"]);
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    let (dropped, weights) =
        (outcome["dropped"].as_u64().unwrap(), outcome["weights"].as_u64().unwrap());
    assert!(10 * dropped >= 4 * weights && 100 * dropped < 41 * weights, "{dropped} {weights}");

    let source = HfFolder::open(asset("tiny-moe")).unwrap();
    let written = HfFolder::open(folder.path().join("out")).unwrap();
    let (mut zeros, mut matrices) = (0, 0);
    for (_, tensor) in source.tensors() {
        let name = &tensor.name;
        let (before, after) = (source.read(name).unwrap(), written.read(name).unwrap());
        let levels = outcome["matrices"].as_array().unwrap();
        let Some(level) = levels.iter().find(|level| level["name"] == **name) else {
            assert_eq!(before, after, "{name}");
            continue;
        };
        matrices += 1;
        // Two bytes each.
        let pairs = before.chunks(2).zip(after.chunks(2));
        let gone = pairs.clone().filter(|(_, a)| *a == [0, 0]).count() as u64;
        assert!(pairs.clone().all(|(b, a)| b == a || a == [0, 0]), "{name}");
        assert!(gone >= level["dropped"].as_u64().unwrap(), "{name}");
        zeros += level["dropped"].as_u64().unwrap();
    }
    assert_eq!((zeros, matrices), (dropped, 112));
    // Less is lost than with the same share of every matrix.
    let candidates = outcome["search"]["candidates"].as_array().unwrap();
    let loss = |c: &Value| c["loss_heldout"].as_f64().unwrap();
    let is_uniform = |c: &&Value| c["origin"].as_str().unwrap().starts_with("the same share");
    let uniform = candidates.iter().find(is_uniform).unwrap();
    assert!(loss(&candidates[0]) < loss(uniform));

    for (model, share, says) in [
        (GGUF, "40%", "Hugging Face folder"),
        ("tiny-moe", "95%", "at most 90%"),
        ("tiny-moe", "400", "such as 50%"),
    ] {
        let mut command = prune(folder.path(), model);
        let (code, _, err) = run(command.args(["--sparsity", share, "--dry-run"]));
        assert!(code != 0 && err.contains(says), "{err}");
    }
}

#[test]
fn a_protected_text_loses_no_more_than_its_limit_or_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let prune = |limit: &str| {
        let mut command = prune(folder.path(), "tiny-moe");
        command.args(["--experts", "25%", "--max-spread", "3", "--json", "-o", "out", "--force"]);
        command.args(["--protect-kl", limit, "--run", "run", "--protect"]);
        command.arg(asset("text/novels.txt"));
        command
    };
    let (code, out, err) = run(&mut prune("9"));
    assert_eq!(code, 0, "{err}");
    let free: Value = serde_json::from_str(&out).unwrap();
    let kl = |outcome: &Value, domain: usize| {
        outcome["domains"][domain]["kl_mean"]["value"].as_f64().unwrap()
    };
    let counts: Vec<usize> = free["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["kept"].as_array().unwrap().len())
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 24);
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 3, "{counts:?}");

    // Less than it loses when nothing holds it: the run goes on with another limit.
    let limit = 0.75 * kl(&free, 1);
    let (code, out, err) = run(&mut prune(&limit.to_string()));
    assert_eq!(code, 0, "{err}");
    let held: Value = serde_json::from_str(&out).unwrap();
    assert!(kl(&held, 1) <= limit, "{} above {limit}", kl(&held, 1));

    std::fs::remove_dir_all(folder.path().join("out")).unwrap();
    let (code, _, err) = run(&mut prune("1e-9"));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("novels.txt") && err.contains("--protect-kl"), "{err}");
    assert!(!folder.path().join("out").exists());
}
