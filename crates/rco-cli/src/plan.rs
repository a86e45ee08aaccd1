//! The plan file: what was chosen for which problem, and how it was found.
//!
//! It holds nothing that depends on the clock or the machine, so that equal runs
//! write equal files.

use rco_core::knapsack::Certificate;
use rco_core::search::{MethodName, SearchOutcome};
use rco_core::{Budget, BudgetKind, Problem};
use rco_problems::file::{Entries, Instance};
use serde::Serialize;

/// A plan, as written to a file.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    format: &'static str,
    version: u32,
    rco: &'static str,
    problem: Origin,
    seed: u64,
    method: MethodName,
    found_by: String,
    loss: Option<f64>,
    heldout_loss: f64,
    budgets: Vec<Use>,
    certificate: Option<Certificate>,
    choices: Entries<String>,
}

#[derive(Debug, Serialize)]
struct Origin {
    file: String,
    sha256: String,
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct Use {
    resource: String,
    kind: BudgetKind,
    limit: u64,
    cost: u64,
    slack: u64,
}

impl Plan {
    pub(crate) fn new(
        instance: &Instance,
        file: &std::path::Path,
        seed: u64,
        outcome: &SearchOutcome,
    ) -> Self {
        let problem = &instance.problem;
        let name = file.file_name().unwrap_or_default();
        let use_of = |((budget, &cost), &slack): ((&Budget, &u64), &u64)| Use {
            resource: budget.resource.clone(),
            kind: budget.kind,
            limit: budget.limit,
            cost,
            slack,
        };
        Self {
            format: "rco-plan",
            version: 1,
            rco: env!("CARGO_PKG_VERSION"),
            problem: Origin {
                file: name.to_string_lossy().into_owned(),
                sha256: instance.sha256.clone(),
                name: instance.name.clone(),
            },
            seed,
            method: outcome.method,
            found_by: outcome.origin.clone(),
            loss: outcome.loss_calibration,
            heldout_loss: outcome.loss_heldout,
            budgets: problem
                .budgets()
                .iter()
                .zip(&outcome.costs)
                .zip(&outcome.slack)
                .map(use_of)
                .collect(),
            certificate: outcome.certificate,
            choices: choices(problem, outcome),
        }
    }
}

/// The name of the chosen option of every group, in group order.
fn choices(problem: &Problem, outcome: &SearchOutcome) -> Entries<String> {
    let choice = |group: usize| {
        let option = problem.option_name(group, outcome.assignment.option(group));
        (problem.group_name(group).to_owned(), option.to_owned())
    };
    Entries((0..problem.group_count()).map(choice).collect())
}
