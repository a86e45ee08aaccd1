//! The problem files under `examples/problems`.

use std::path::{Path, PathBuf};

use rco_problems::file::{Format, ReadOptions, read};

#[path = "../examples/qwen3_8b.rs"]
#[allow(dead_code, reason = "its main function is not called here")]
mod qwen3_8b;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/problems")
}

#[test]
fn every_example_file_reads() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let mut options = ReadOptions::default();
        if Format::of(&path).unwrap() == Format::Csv {
            options.budgets = vec!["experts==5".parse().unwrap()];
        }
        read(&path, &options).unwrap();
        count += 1;
    }
    assert!(count >= 4, "only {count} example files");
}

#[test]
fn the_8b_problem_is_what_its_generator_writes() {
    let committed = std::fs::read_to_string(folder().join("qwen3-8b-gguf.json")).unwrap();
    assert!(
        committed == qwen3_8b::document(),
        "run `cargo run --example qwen3_8b -p rco-problems > examples/problems/qwen3-8b-gguf.json`"
    );
}

#[test]
fn the_8b_problem_has_the_weights_and_bytes_of_the_model() {
    let path = folder().join("qwen3-8b-gguf.json");
    let problem = read(&path, &ReadOptions::default()).unwrap().problem;
    assert_eq!(problem.group_count(), 252);
    let weights: u64 = (0..252).map(|g| problem.size(g)).sum();
    // 36 × (2 × 4096² + 2 × 1024 × 4096 + 3 × 12288 × 4096)
    assert_eq!(weights, 6_945_767_424);
    let (smallest, largest) = problem.cost_range(0);
    assert_eq!(smallest, weights / 256 * 50);
    assert_eq!(largest, weights / 32 * 34);
}
