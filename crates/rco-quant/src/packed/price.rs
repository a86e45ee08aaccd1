//! What the rules of a runtime cost, by the separable scores.

use rco_core::Problem;
use rco_core::knapsack::{Settings, Solver};
use serde::Serialize;

use super::error::PackedError;
use super::menu::Menu;
use super::sizes::Sizes;
use crate::error::QuantError;

/// The best sum of scores within a budget, with a rule and without it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RulePrice {
    /// The rule.
    pub rule: &'static str,
    /// The best sum under all rules.
    pub with: f64,
    /// The best sum under all but this one.
    pub without: f64,
}

/// What each rule costs by itself, and all of them together, where there are several.
///
/// # Errors
/// Whatever the solver meets.
pub(super) fn prices(
    menu: &Menu,
    sizes: &Sizes,
    budget: u64,
    scores: &[f64],
) -> Result<Vec<RulePrice>, PackedError> {
    if menu.rules.is_empty() {
        return Ok(Vec::new());
    }
    let best = |skip: &dyn Fn(usize) -> bool| -> Result<f64, PackedError> {
        let rules = menu.rules.iter().enumerate().filter(|(n, _)| !skip(*n));
        let ties: Vec<_> = rules.flat_map(|(_, rule)| rule.ties.iter().cloned()).collect();
        least_sum(&sizes.problem(menu, &ties, budget)?, scores)
    };
    let with = best(&|_| false)?;
    let mut out = Vec::new();
    for (n, rule) in menu.rules.iter().enumerate() {
        out.push(RulePrice { rule: rule.name, with, without: best(&|other| other == n)? });
    }
    if out.len() > 1 {
        out.push(RulePrice { rule: "all of these", with, without: best(&|_| true)? });
    }
    Ok(out)
}

/// The least sum of scores (of the options of all groups but that of the rest).
fn least_sum(problem: &Problem, scores: &[f64]) -> Result<f64, PackedError> {
    let failed = |error: rco_core::knapsack::KnapsackError| {
        PackedError::from(rco_core::search::SearchError::from(error))
    };
    let decisions = problem.decisions();
    let mut per_group = scores.to_vec();
    per_group.push(0.0);
    if per_group.len() != problem.option_count() {
        return Err(QuantError::Overflow { what: "the number of options" }.into());
    }
    let mut values = vec![0.0; decisions.option_count()];
    decisions.fold(problem, &per_group, &mut values);
    for value in &mut values {
        *value = -*value;
    }
    let mut choices = vec![0; decisions.len()];
    let mut solver =
        Solver::new(decisions, problem.budgets(), Settings::default()).map_err(failed)?;
    solver.solve(&values, &mut choices).map_err(failed)?;
    let chosen = choices.iter().enumerate();
    let sum: f64 = chosen.map(|(d, &k)| values[decisions.options_of(d).start + k as usize]).sum();
    Ok(-sum)
}
