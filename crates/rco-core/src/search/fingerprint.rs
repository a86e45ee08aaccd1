//! What a checkpoint belongs to.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::checkpoint::hex;
use super::settings::SearchSettings;
use crate::budget::{Budget, BudgetKind};
use crate::problem::Problem;

/// Settings that may change between a run and its continuation: they do not
/// change what the run computes, only when it is stopped or saved.
const FREE_SETTINGS: [&str; 3] = ["threads", "time_limit", "checkpoint"];

/// Identity of problem, objective and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    groups: usize,
    options: usize,
    budgets: Vec<Budget>,
    /// Hash of everything else in the problem: names, sizes, costs, ties, fixed choices.
    problem: String,
    objective: String,
    settings: Value,
}

/// The first thing in which two fingerprints differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) what: String,
    pub(crate) left: String,
    pub(crate) right: String,
}

impl Fingerprint {
    pub(crate) fn new(
        problem: &Problem,
        objective: String,
        settings: &SearchSettings,
    ) -> Result<Self, serde_json::Error> {
        let mut settings = serde_json::to_value(settings)?;
        if let Value::Object(entries) = &mut settings {
            entries.retain(|name, _| !FREE_SETTINGS.contains(&name.as_str()));
        }
        Ok(Self {
            groups: problem.group_count(),
            options: problem.option_count(),
            budgets: problem.budgets().to_vec(),
            problem: hash(problem),
            objective,
            settings,
        })
    }

    pub(crate) fn difference(&self, other: &Self) -> Option<Difference> {
        let found = |what: &str, left: String, right: String| {
            Some(Difference { what: what.to_owned(), left, right })
        };
        if self.groups != other.groups {
            let (left, right) = (self.groups.to_string(), other.groups.to_string());
            return found("the number of groups", left, right);
        }
        if self.options != other.options {
            let (left, right) = (self.options.to_string(), other.options.to_string());
            return found("the number of options", left, right);
        }
        if self.budgets != other.budgets {
            return found("the budget", show(&self.budgets), show(&other.budgets));
        }
        if self.problem != other.problem {
            let what = "the hash of names, sizes, costs, ties and fixed choices";
            return found(what, self.problem.clone(), other.problem.clone());
        }
        if self.objective != other.objective {
            return found("the objective", self.objective.clone(), other.objective.clone());
        }
        differing("setting", &self.settings, &other.settings)
    }
}

fn show(budgets: &[Budget]) -> String {
    let one = |b: &Budget| {
        let kind = match b.kind {
            BudgetKind::AtMost => "at most",
            BudgetKind::Exactly => "exactly",
        };
        format!("{kind} {} {}", b.limit, b.resource)
    };
    budgets.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The first leaf in which two JSON values differ.
fn differing(path: &str, left: &Value, right: &Value) -> Option<Difference> {
    if left == right {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (left, right) {
        let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
        for name in names {
            let (x, y) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
            let path = if path == "setting" {
                format!("setting `{name}`")
            } else {
                format!("{}.{name}`", path.trim_end_matches('`'))
            };
            if let Some(difference) = differing(&path, x, y) {
                return Some(difference);
            }
        }
    }
    Some(Difference { what: path.to_owned(), left: left.to_string(), right: right.to_string() })
}

/// SHA-256 over a form of the problem in which no two problems look alike: every
/// text and list is preceded by its length.
fn hash(problem: &Problem) -> String {
    let mut hash = Sha256::new();
    let number = |hash: &mut Sha256, n: u64| hash.update(n.to_le_bytes());
    let text = |hash: &mut Sha256, s: &str| {
        hash.update((s.len() as u64).to_le_bytes());
        hash.update(s.as_bytes());
    };
    for group in 0..problem.group_count() {
        text(&mut hash, problem.group_name(group));
        number(&mut hash, problem.size(group));
        number(&mut hash, problem.fixed(group).map_or(0, |k| k as u64 + 1));
        let options = problem.options_of(group);
        number(&mut hash, options.len() as u64);
        for (k, flat) in options.enumerate() {
            text(&mut hash, problem.option_name(group, k));
            for r in 0..problem.budgets().len() {
                number(&mut hash, problem.costs(r)[flat]);
            }
        }
    }
    for decision in 0..problem.decisions().len() {
        let members = problem.decisions().members(decision);
        number(&mut hash, members.len() as u64);
        for &group in members {
            number(&mut hash, u64::from(group));
        }
    }
    hex(&hash.finalize())
}
