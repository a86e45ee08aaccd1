//! One test for each thing that can be wrong with a file, and the readings that are right.

mod costs;
mod fields;
mod numbers;
mod published;
mod right;
mod structure;
mod tables;
mod text;

use rco_core::search::Split;
use rco_core::{Assignment, BudgetKind, ProblemError};

use super::*;

const GOOD: &str = r#"{
  "format": "rco-problem", "version": 1, "name": "two",
  "budgets": [{"resource": "bytes", "limit": 10}],
  "groups": [
    {"name": "a", "size": 3, "options": [
      {"name": "small", "cost": 2, "loss": 4},
      {"name": "large", "cost": 5, "loss": 1.5}]},
    {"name": "b", "options": [
      {"name": "small", "cost": 1, "loss": 2},
      {"name": "large", "cost": 9, "loss": -1}]}]
}"#;

fn parse(text: &str) -> Result<Instance, FileError> {
    parse_json(text.as_bytes(), "p.json", &ReadOptions::default())
}

/// The error of the good file with one piece of text replaced.
fn broken(from: &str, to: &str) -> FileErrorKind {
    assert!(GOOD.contains(from), "nothing to replace: {from}");
    kind(&GOOD.replacen(from, to, 1))
}

fn kind(text: &str) -> FileErrorKind {
    let error = parse(text).expect_err("this file is wrong");
    assert!(error.to_string().starts_with("p.json: "), "{error}");
    *error.kind
}

fn csv(text: &str, budget: &str) -> Result<Instance, FileError> {
    let budgets = budget.split_whitespace().map(|b| b.parse().unwrap()).collect();
    parse_csv(text.as_bytes(), "p.csv", &ReadOptions { budgets, ..ReadOptions::default() })
}

fn csv_kind(text: &str) -> FileErrorKind {
    *csv(text, "100").expect_err("this file is wrong").kind
}

macro_rules! assert_kind {
    ($kind:expr, $pattern:pat) => {
        let kind = $kind;
        assert!(matches!(kind, $pattern), "{kind:?}");
    };
}

use assert_kind;
