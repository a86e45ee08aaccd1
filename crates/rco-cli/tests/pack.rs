//! `rco quantize` of a Hugging Face folder as a user types it, on the bundled model.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rco_formats::safetensors::HfFolder;
use rco_formats::source::ReadAt;
use serde_json::{Value, json};

fn asset(name: &str) -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("../../assets").join(name)
}

fn quantize(folder: &Path, model: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.arg("quantize").arg(model).current_dir(folder);
    command.args(["--effort", "trial", "--json"]);
    command
}

fn with_text(folder: &Path, model: &Path) -> Command {
    let mut command = quantize(folder, model);
    command.arg("--text").arg(asset("text/scripture.txt"));
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn outcome(command: &mut Command) -> Value {
    let (code, out, err) = run(command);
    assert_eq!(code, 0, "{err}");
    let mut outcome: Value = serde_json::from_str(&out).unwrap();
    outcome["folders"][0].take()
}

/// Starts a run and kills it as soon as `when` says so.
fn kill_once(command: &mut Command, when: &dyn Fn() -> bool, stage: &str) {
    assert!(!when(), "{stage} came before it was waited for");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !when() {
        if let Some(status) = child.try_wait().unwrap() {
            let err = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
            panic!("the run ended before {stage}: {status} {err}");
        }
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "the run ended in {stage}: {status}");
}

/// A folder with files of the bundled model, `config.json` changed.
fn changed(folder: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let model = folder.join("changed");
    fs::create_dir_all(&model).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(asset("tiny-moe").join(name), model.join(name)).unwrap();
    }
    let config = fs::read(asset("tiny-moe/config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    change(&mut config);
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    model
}

#[test]
fn a_folder_is_packed_within_its_budget_and_a_run_that_was_killed_ends_alike() {
    let folder = tempfile::tempdir().unwrap();
    let order = |run: &str, threads: &str, out: &str| {
        let mut command = with_text(folder.path(), &asset("tiny-moe"));
        command.args(["--size", "5300000", "--runtime", "any", "--widths", "2,4"]);
        command.args(["--run", run, "--threads", threads, "-o", out]);
        command
    };
    let first = outcome(&mut order("calm", "2", "packed"));
    let file = folder.path().join("packed/model.safetensors");
    let bytes = fs::metadata(&file).unwrap().len();
    assert_eq!(first["bytes"], bytes);
    assert_eq!(first["written_bytes"], bytes);
    assert!((5_200_000..=5_300_000).contains(&bytes), "{bytes}");

    // Each module is stored as the plan says, in a group that matches its name.
    let written = HfFolder::open(folder.path().join("packed")).unwrap();
    let config = &written.config()["quantization_config"];
    let schemes = rco_formats::compressed_tensors::ModuleSchemes::parse(config).unwrap();
    for pair in first["plan"].as_array().unwrap() {
        let (module, form) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        let found = schemes.scheme(module, 256).map_or("source".to_owned(), |s| s.to_string());
        assert_eq!(found, form, "{module}");
        let packed = written.tensor(&format!("{module}.weight_packed")).is_some();
        assert_eq!(packed, form != "source");
    }
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let [before, after] =
            [asset("tiny-moe"), folder.path().join("packed")].map(|d| fs::read(d.join(name)));
        assert_eq!(before.unwrap(), after.unwrap(), "{name}");
    }

    // The same run on one thread, killed in five stages.
    let run = folder.path().join("disturbed");
    let lines = |path: PathBuf| fs::read_to_string(path).map_or(0, |text| text.lines().count());
    let logged =
        |text: &str| fs::read_to_string(run.join("log.txt")).is_ok_and(|log| log.contains(text));
    let journal = run.join("options/options.jsonl");
    let killed = |when: &dyn Fn() -> bool, stage: &str| {
        kill_once(&mut order("disturbed", "1", "again"), when, stage);
    };
    killed(&|| lines(journal.clone()) > 40, "options");
    assert!((41..113).contains(&lines(journal.clone())));
    // A file that is not as it was written is made again.
    let text = fs::read_to_string(&journal).unwrap();
    let record: Value = serde_json::from_str(text.lines().nth(5).unwrap()).unwrap();
    let module = record["module"].as_str().unwrap();
    let damaged = run.join(format!("options/{module}.safetensors"));
    let mut data = fs::read(&damaged).unwrap();
    *data.last_mut().unwrap() ^= 1;
    fs::write(&damaged, data).unwrap();
    killed(&|| lines(run.join("fisher.jsonl")) > 2, "sensitivities");
    killed(&|| logged("search 2/"), "search");
    let scales = fs::canonicalize(&run).unwrap().join("scales-0-5300000.safetensors");
    killed(&|| scales.exists(), "tuning");
    let again = folder.path().join("again");
    killed(&|| again.exists(), "reading the output");
    let second = outcome(&mut order("disturbed", "1", "again"));
    assert_eq!(first["search"]["loss_heldout"], second["search"]["loss_heldout"]);
    let files = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let (calm, disturbed) = (files(&folder.path().join("packed")), files(&again));
    assert_eq!(calm.len(), disturbed.len());
    for ((name, before), (other, after)) in calm.iter().zip(&disturbed) {
        assert!(name == other && before == after, "{name:?} {other:?}");
    }
    for name in ["plan.json", "options/options.jsonl"] {
        let [calm, disturbed] =
            ["calm", "disturbed"].map(|run| fs::read_to_string(folder.path().join(run).join(name)));
        let sorted = |text: std::io::Result<String>| {
            let mut lines: Vec<String> = text.unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            lines.dedup();
            lines
        };
        assert_eq!(sorted(calm), sorted(disturbed), "{name}");
    }

    // The same plan in 16 bits is the same model.
    let fake = outcome(order("calm", "2", "fake").args(["--format", "fake-quant"]));
    assert_eq!(fake["bytes"], bytes);
    assert_eq!(fake["kl_mean"], first["kl_mean"]);
    let source = fs::metadata(asset("tiny-moe/model.safetensors")).unwrap().len();
    assert_eq!(fake["written_bytes"], source);
    let config = fs::read(folder.path().join("fake/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert!(config.get("quantization_config").is_none());

    // A packed folder is a source of nothing.
    let (code, _, err) = crate::run(
        with_text(folder.path(), &folder.path().join("packed")).args(["--bpw", "4", "-o", "x"]),
    );
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("quantised already"), "{err}");
}

#[test]
fn runtimes_have_rules_and_rules_a_price() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = with_text(folder.path(), &asset("tiny-moe"));
    command.args(["--linear-bpw", "5.5", "--runtime", "vllm", "-o", "packed"]);
    let found = outcome(&mut command);
    let form = |module: String| {
        let plan = found["plan"].as_array().unwrap();
        let pair = plan.iter().find(|pair| pair[0] == module.as_str()).unwrap();
        pair[1].as_str().unwrap().to_owned()
    };
    for layer in 0..4 {
        let of = |tail: &str| form(format!("model.layers.{layer}.{tail}"));
        let query = of("self_attn.q_proj");
        assert!(["4g128", "8g128", "source"].contains(&&*query), "{query}");
        assert_eq!(query, of("self_attn.k_proj"));
        assert_eq!(query, of("self_attn.v_proj"));
        let first = of("mlp.experts.0.gate_proj");
        for expert in 0..8 {
            for part in ["gate", "up", "down"] {
                assert_eq!(first, of(&format!("mlp.experts.{expert}.{part}_proj")));
            }
        }
    }
    let rules = found["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 3, "query, key and value; experts; both");
    for rule in rules {
        assert!(rule["with"].as_f64().unwrap() >= rule["without"].as_f64().unwrap());
    }
    // Without --run nothing else is left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_done_is_said_before_it_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let model = asset("tiny-moe");
    for (flags, expected, named) in [
        (vec!["--size", "3MB"], 3, "--linear-bpw"),
        (vec!["--linear-bpw", "2"], 3, "raise --linear-bpw to that"),
        (vec!["--bpw", "20"], 3, "fits into"),
        (vec!["--bpw", "6", "--widths", "9"], 2, "--widths 9"),
        (vec!["--bpw", "6", "--runtime", "vllm", "--widths", "3"], 2, "4 and 8"),
        (vec!["--bpw", "6", "--group-size", "48"], 2, "32, 64 or 128"),
        (vec!["--bpw", "6", "--zero-points", "always"], 2, "--zero-points"),
        (vec!["--bpw", "6", "--imatrix", "x.gguf"], 2, "--imatrix is for a GGUF file"),
        (vec!["--bpw", "6", "--damping", "2"], 2, "from 0 to 1"),
    ] {
        let mut command = with_text(folder.path(), &model);
        let (code, _, err) = run(command.args(&flags).args(["-o", "out"]));
        assert_eq!(code, expected, "{flags:?}: {err}");
        assert!(err.contains(named), "{flags:?}: {err}");
    }
    let (code, _, err) = run(quantize(folder.path(), &model).args(["--bpw", "6", "-o", "out"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--text"), "{err}");
    let gguf = asset("tiny-moe/tiny-moe.bf16.gguf");
    let (code, _, err) =
        run(quantize(folder.path(), &gguf).args(["--bpw", "6", "--act-order", "-o", "out.gguf"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--act-order is for a Hugging Face folder"), "{err}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // A configuration that contradicts the tensors, and weights that are not numbers.
    let wrong = changed(folder.path(), |config| config["moe_intermediate_size"] = json!(128));
    let (code, _, err) = run(with_text(folder.path(), &wrong).args(["--bpw", "6", "-o", "out"]));
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("shape"), "{err}");
    let model = changed(folder.path(), |_| {});
    let path = model.join("model.safetensors");
    let name = "model.layers.2.mlp.experts.3.up_proj.weight";
    let opened = HfFolder::open(&model).unwrap();
    let (file, entry) = opened.tensor(name).unwrap();
    let at = file.header().data_start + entry.start + 2 * (5 * 256 + 7);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at as usize..at as usize + 2].copy_from_slice(&[0xc0, 0x7f]);
    fs::write(&path, bytes).unwrap();
    let (code, _, err) = run(with_text(folder.path(), &model).args(["--bpw", "6", "-o", "out"]));
    assert_eq!(code, 4, "{err}");
    assert!(err.contains(name) && err.contains("row 5, column 7"), "{err}");
    assert!(!folder.path().join("out").exists());
}

/// A copy of a packed folder, with other bytes at the end of a tensor or another configuration.
fn copied(from: &Path, to: &Path, change: impl FnOnce(&mut Vec<u8>, &mut Value)) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    let read = |name: &str| fs::read(from.join(name)).unwrap();
    let mut config: Value = serde_json::from_slice(&read("config.json")).unwrap();
    let mut tensors = read("model.safetensors");
    change(&mut tensors, &mut config);
    fs::write(to.join("model.safetensors"), tensors).unwrap();
    fs::write(to.join("config.json"), config.to_string()).unwrap();
    to.to_owned()
}

#[test]
fn tuning_changes_scales_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let order = |steps: &str, out: &str| {
        let mut command = quantize(folder.path(), &asset("tiny-moe"));
        command.args(["--linear-bpw", "2.5", "--run", "run", "--tuning-steps", steps, "-o", out]);
        command.arg("--text").arg(asset("text/novels-calibration.txt"));
        command
    };
    let tuned = outcome(&mut order("64", "tuned"));
    let tuning = &tuned["tuning"];
    let figure = |value: &Value| value.as_f64().unwrap();
    assert_eq!((&tuning["taken"], &tuning["steps"]), (&json!(true), &json!(64)));
    assert_eq!(tuning["before"], tuned["search"]["loss_heldout"]);
    // Far beyond what chance can do.
    assert!(figure(&tuning["after"]) < 0.9 * figure(&tuning["before"]), "{tuning}");
    assert!((figure(&tuned["kl_mean"]["value"]) / figure(&tuning["after"]) - 1.0).abs() < 1e-3);

    // Another run does not go on where tuning is not wanted; what was searched is the same.
    let (code, _, err) = run(&mut order("0", "plain"));
    assert_ne!(code, 0);
    assert!(err.contains("tuning_steps"), "{err}");
    fs::remove_file(folder.path().join("run/run.json")).unwrap();
    let plain = outcome(&mut order("0", "plain"));
    assert_eq!((&tuned["plan"], &tuned["bytes"]), (&plain["plan"], &plain["bytes"]));
    assert!(plain["tuning"].is_null());
    let [tuned, plain] =
        ["tuned", "plain"].map(|name| HfFolder::open(folder.path().join(name)).unwrap());
    let mut changed = 0;
    for (_, tensor) in tuned.tensors() {
        let read = |folder: &HfFolder| {
            let data = folder.data(&tensor.name).unwrap();
            let mut bytes = vec![0; data.size() as usize];
            data.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        if read(&tuned) != read(&plain) {
            assert!(tensor.name.ends_with(".weight_scale"), "{}", tensor.name);
            changed += 1;
        }
    }
    assert!(changed > 100, "{changed}");
}

/// Windows for second moments come on top of those that the search learns from, where there is
/// text for them.
#[test]
fn a_text_with_windows_for_the_search_alone_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let text: String =
        fs::read_to_string(asset("text/scripture.txt")).unwrap().chars().take(3600).collect();
    fs::write(folder.path().join("short.txt"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.arg("quantize").arg(asset("tiny-moe")).current_dir(folder.path());
    command.args(["--effort", "trial", "--linear-bpw", "4", "--text", "short.txt"]);
    let (code, _, err) = run(command.args(["-o", "packed"]));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("of the 16 calibration windows that are best"), "{err}");
}

#[test]
fn a_packed_folder_of_others_gives_options() {
    let folder = tempfile::tempdir().unwrap();
    let model = asset("tiny-moe");
    // One width everywhere: there is room for nothing else.
    let mut command = with_text(folder.path(), &model);
    command.args(["--linear-bpw", "4.13", "--widths", "4", "--zero-points", "never"]);
    let theirs = outcome(command.args(["--runtime", "any", "-o", "theirs"]));
    let forms: Vec<&str> =
        theirs["plan"].as_array().unwrap().iter().map(|pair| pair[1].as_str().unwrap()).collect();
    assert_eq!(forms, ["4g128"; 112]);

    let theirs = folder.path().join("theirs");
    let order = |options: &Path, runtime: &str| {
        let mut command = with_text(folder.path(), &model);
        command.args(["--linear-bpw", "4.13", "--widths", "2,8", "--zero-points", "never"]);
        command.args(["--runtime", runtime, "--run", "run", "-o", "packed", "--options"]);
        command.arg(options);
        command
    };
    let (code, out, err) = run(order(&theirs, "any").arg("--dry-run"));
    assert_eq!(code, 0, "{err}");
    let outlook: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(outlook["forms"], json!(["2g128", "4g128@1", "8g128", "source"]));
    assert_eq!(outlook["foreign"][0]["matrices"], 112);

    let found = outcome(&mut order(&theirs, "any"));
    let kl = |name: &str| found["search"][name].as_f64().unwrap();
    let read_again = found["kl_mean"]["value"].as_f64().unwrap();
    assert!((read_again - kl("loss_heldout")).abs() <= 1e-3 * read_again + 1e-6);
    let [packed, source] = [&folder.path().join("packed"), &theirs].map(HfFolder::open);
    let (packed, source) = (packed.unwrap(), source.unwrap());
    let mut taken = 0;
    for pair in found["plan"].as_array().unwrap() {
        let (module, form) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        if form != "4g128@1" {
            continue;
        }
        taken += 1;
        for part in ["weight_packed", "weight_scale", "weight_shape"] {
            let name = format!("{module}.{part}");
            assert_eq!(packed.read(&name).unwrap(), source.read(&name).unwrap(), "{name}");
        }
    }
    assert!(taken > 56, "{}", found["plan"]);

    // The run is one with these options.
    let (at, _) = packed_range(&theirs, "model.layers.0.self_attn.q_proj.weight_packed");
    let other = copied(&theirs, &folder.path().join("other"), |tensors, _| tensors[at] ^= 1);
    let (code, _, err) = run(order(&other, "any").arg("--force"));
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("the setting `options`"), "{err}");
}

/// First byte of a tensor in the file of a folder, and its bytes.
fn packed_range(folder: &Path, name: &str) -> (usize, usize) {
    let opened = HfFolder::open(folder).unwrap();
    let (file, entry) = opened.tensor(name).unwrap();
    ((file.header().data_start + entry.start) as usize, entry.length as usize)
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = asset("tiny-moe");
    let mut command = with_text(folder.path(), &model);
    command.args(["--linear-bpw", "3.13", "--widths", "3", "--zero-points", "never"]);
    outcome(command.args(["--runtime", "any", "-o", "theirs"]));
    let theirs = folder.path().join("theirs");
    let refused = |options: &Path, more: &[&str], named: &[&str]| {
        let mut command = with_text(folder.path(), &model);
        command.args(["--linear-bpw", "4.5", "-o", "packed", "--options"]).arg(options);
        let (code, _, err) = run(command.args(more));
        assert_eq!(code, 4, "{named:?}: {err}");
        assert!(err.contains("cannot be taken for options"), "{err}");
        for name in named {
            assert!(err.contains(name), "{name}: {err}");
        }
        assert!(!folder.path().join("packed").exists());
        // What was begun belongs to these options.
        let _ = fs::remove_dir_all(folder.path().join("packed.rco"));
    };
    let to = folder.path().join("changed");
    let changed = |change: &dyn Fn(&mut Vec<u8>, &mut Value)| copied(&theirs, &to, change);

    refused(&theirs, &["--runtime", "vllm"], &["is stored as 3g128", "4 or 8 bits"]);
    refused(&model, &[], &["no quantization_config"]);
    refused(&asset("tiny-moe/tiny-moe.bf16.gguf"), &[], &["no folder"]);
    let group = "/quantization_config/config_groups/group_0/weights";
    let wider = changed(&|_, config| {
        *config.pointer_mut(&format!("{group}/num_bits")).unwrap() = json!(4);
    });
    refused(&wider, &[], &["weight_packed", "shape"]);
    let other = changed(&|_, config| config["rms_norm_eps"] = json!(1e-5));
    refused(&other, &[], &["another model"]);
    let float = changed(&|_, config| {
        *config.pointer_mut(&format!("{group}/type")).unwrap() = json!("float");
    });
    refused(&float, &[], &["weights.type"]);
    let of = |module: &str, part: &str| packed_range(&theirs, &format!("{module}.{part}"));
    let query = "model.layers.0.self_attn.q_proj";
    let (at, _) = of(query, "weight_shape");
    let shape = changed(&|tensors, _| tensors[at] ^= 1);
    refused(&shape, &[], &["q_proj.weight_shape"]);
    let (at, _) = of("model.layers.1.input_layernorm", "weight");
    let norm = changed(&|tensors, _| tensors[at] ^= 1);
    refused(&norm, &[], &["model.layers.1.input_layernorm.weight", "other values"]);
    let (at, _) = of(query, "weight_scale");
    let scale = changed(&|tensors, _| tensors[at..at + 2].copy_from_slice(&[0xc0, 0x7f]));
    refused(&scale, &[], &[query, "NaN"]);
}
