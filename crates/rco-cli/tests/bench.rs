//! Benchmarks of the main job as a user types them, on the bundled model: the rows that they
//! write, and that `--only` leaves out the rest.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets").join(name)
}

/// Runs a benchmark of the contenders whose names hold one of these.
fn bench(what: &str, model: &str, budget: [&str; 2], only: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rco"));
    command.args(["bench", what]).arg(asset(model)).args(budget);
    command.args(["--effort", "trial", "--windows", "1", "--evolution", "1", "--plain-steps", "0"]);
    for name in only {
        command.args(["--only", name]);
    }
    command.arg("--text").arg(asset("text/scripture.txt"));
    command.arg("--heldout").arg(asset("text/novels.txt"));
    command.arg("--run").arg(folder.join("run")).arg("--out").arg(folder);
    command.output().unwrap()
}

/// Rows of `results.csv` after a benchmark of some contenders, by column.
fn rows(what: &str, model: &str, budget: [&str; 2]) -> Vec<impl Fn(&str) -> String> {
    let folder = tempfile::tempdir().unwrap();
    let only = ["Fisher, knapsack", "evolution"];
    let output = bench(what, model, budget, &only, folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut reader = csv::Reader::from_path(folder.path().join("results.csv")).unwrap();
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
