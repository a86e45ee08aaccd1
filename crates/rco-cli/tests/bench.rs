//! Benchmarks of the main job as a user types them, on the bundled model: the rows that they
//! write, and that `--only` leaves out the rest.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use serde_json::{Value, json};

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets").join(name)
}

/// Runs a benchmark of the contenders whose names hold one of these.
fn bench(what: &str, model: &str, budget: [&str; 2], only: &[&str], folder: &Path) -> Output {
    command(what, model, budget, only, folder).output().unwrap()
}

fn command(what: &str, model: &str, budget: [&str; 2], only: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.args(["bench", what]).arg(asset(model)).args(budget);
    command.args(["--effort", "trial", "--windows", "1", "--evolution", "1", "--plain-steps", "0"]);
    for name in only {
        command.args(["--only", name]);
    }
    command.arg("--text").arg(asset("text/scripture.txt"));
    command.arg("--heldout").arg(asset("text/novels.txt"));
    command.arg("--run").arg(folder.join("run")).arg("--out").arg(folder);
    command
}

/// Rows of `results.csv` after a benchmark of some contenders, by column.
fn rows(what: &str, model: &str, budget: [&str; 2]) -> Vec<impl Fn(&str) -> String> {
    let folder = tempfile::tempdir().unwrap();
    let only = ["Fisher, knapsack", "evolution"];
    let output = bench(what, model, budget, &only, folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read(folder.path())
}

/// The rows that a benchmark has written.
fn read(folder: &Path) -> Vec<impl Fn(&str) -> String + use<>> {
    let mut reader = csv::Reader::from_path(folder.join("results.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let cell = |record: csv::StringRecord| {
        let header = header.clone();
        move |column: &str| {
            let at = header.iter().position(|name| name == column).unwrap();
            record[at].to_owned()
        }
    };
    reader.records().map(|record| cell(record.unwrap())).collect()
}

fn check(rows: &[impl Fn(&str) -> String]) {
    let contenders: BTreeSet<String> = rows.iter().map(|row| row("contender")).collect();
    let expected = ["Fisher, knapsack", "evolution, 1 × evaluations"];
    assert_eq!(contenders, BTreeSet::from(expected.map(str::to_owned)));
    for row in rows {
        let number = |column| row(column).parse::<f64>().unwrap();
        assert_eq!((number("over"), row("text").as_str()), (0.0, "novels"));
        assert!(number("bytes") <= number("budget"));
        assert!(number("kl") > 0.0 && number("error") > 0.0);
    }
}

#[test]
fn files_of_one_size() {
    let rows = rows("quantize", "tiny-moe/tiny-moe.bf16.gguf", ["--sizes", "3900000"]);
    check(&rows);
    assert!(rows.iter().all(|row| row("budget") == "3900000"));
}

#[test]
fn packed_folders_of_one_width() {
    check(&rows("pack", "tiny-moe", ["--linear-bpw", "4.0"]));

    // A contender with tuned scales needs the plan, which has its row too.
    let folder = tempfile::tempdir().unwrap();
    let only = ["Fisher, knapsack, scales tuned"];
    let output = bench("pack", "tiny-moe", ["--linear-bpw", "4.0"], &only, folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let contenders: Vec<_> = read(folder.path()).iter().map(|row| row("contender")).collect();
    assert_eq!(contenders, ["Fisher, knapsack", "Fisher, knapsack, scales tuned"]);
}

#[test]
fn another_program_searches_among_the_same_options() {
    let folder = tempfile::tempdir().unwrap();
    let handed = folder.path().join("handed");
    let start = || {
        let budget = ["--linear-bpw", "4.0"];
        let mut command = command("pack", "tiny-moe", budget, &[], folder.path());
        command.args(["--widths", "2,4", "--zero-points", "never"]);
        command
    };
    let output = start().arg("--export").arg(&handed).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let index = fs::read(handed.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let matrices = index["matrices"].as_array().unwrap();
    let tensors = fs::read(handed.join("2g128.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&tensors).unwrap();
    for matrix in matrices {
        let values = tensors.tensor(matrix["module"].as_str().unwrap()).unwrap();
        assert_eq!(values.shape().iter().product::<usize>() as u64, matrix["weights"]);
        assert!(values.data().iter().any(|&byte| byte != 0));
    }
    let tokens = fs::read(handed.join("tokens.safetensors")).unwrap();
    let tokens = SafeTensors::deserialize(&tokens).unwrap();
    assert_eq!(tokens.tensor("tokens").unwrap().shape(), [8, 64]);

    // What comes back is measured as it is, and what takes too much is shown to do so.
    let budget = index["budgets"][0].as_u64().unwrap();
    let plan = |form: &str| {
        let module = |m: &Value| m["module"].as_str().unwrap().to_owned();
        let forms = matrices.iter().map(|m| (module(m), Value::from(form)));
        json!({
            "contender": format!("theirs {form}"), "budget": budget, "gradients": 7,
            "seconds": 1.5, "forms": forms.collect::<serde_json::Map<_, _>>(),
        })
    };
    let plans = folder.path().join("plans.json");
    fs::write(&plans, json!([plan("2g128"), plan("4g128")]).to_string()).unwrap();
    let output = start().args(["--only", "theirs"]).arg("--plans").arg(&plans).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = read(folder.path());
    assert_eq!(rows.len(), 4);
    for (row, form) in rows.iter().zip(["2g128", "4g128"]) {
        let bytes: u64 = matrices.iter().map(|m| m["forms"][form].as_u64().unwrap()).sum();
        assert_eq!(row("bytes"), bytes.to_string());
        assert_eq!(row("over"), bytes.saturating_sub(budget).to_string());
        assert_eq!((row("gradients").as_str(), row("seconds").as_str()), ("7", "1.5"));
    }
    assert!(rows[1]("over") != "0");
    // Then with tuned scales: the same bytes, and a gradient more for each step.
    for (row, before) in rows[2..].iter().zip(&rows) {
        assert_eq!(row("contender"), before("contender") + ", scales tuned");
        assert_eq!((row("bytes"), row("gradients").as_str()), (before("bytes"), "23"));
    }
    let kl = |row: &dyn Fn(&str) -> String| row("kl").parse::<f64>().unwrap();
    assert!(kl(&rows[2]) < kl(&rows[0]), "{} {}", kl(&rows[2]), kl(&rows[0]));

    let wrong = folder.path().join("wrong.json");
    for (content, problem) in [
        (plan("3g128").to_string(), "has no form `3g128`; it has 2g128, 4g128, source"),
        (plan("4g128").to_string().replace("self_attn.q_proj", "q"), "the plan has no form for"),
        (
            json!({ "contender": "c", "budget": 1, "gradients": 0, "seconds": 0.0, "forms": {} })
                .to_string(),
            "is for 1 bytes, which is none of the budgets",
        ),
        ("{}".to_owned(), "wrong.json"),
    ] {
        fs::write(&wrong, content).unwrap();
        let output = start().arg("--plans").arg(&wrong).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(problem), "{told}");
    }
}

#[test]
fn zeros_of_one_share_and_a_contender_that_nobody_knows() {
    check(&rows("sparsity", "tiny-moe", ["--sparsity", "40%"]));
    let folder = tempfile::tempdir().unwrap();
    let output = bench("sparsity", "tiny-moe", ["--sparsity", "40%"], &["nobody"], folder.path());
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("`nobody`"), "{told}");
}
