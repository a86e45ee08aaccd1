//! Filling a plan up to the budget, and making a plan feasible.

use super::error::SearchError;
use super::oracle::Oracle;
use crate::budget::BudgetKind;

/// Spends what a feasible plan leaves of the budget: takes single moves that raise
/// the sum of `values`, the largest rise first, until none fits.
///
/// A plan for `exactly` budgets may only take moves that keep those costs.
pub(crate) fn fill(oracle: &Oracle<'_>, values: &[f64], plan: &mut [u32]) {
    let decisions = oracle.decisions();
    let budgets = oracle.problem().budgets();
    let mut total: Vec<u64> = (0..budgets.len()).map(|r| decisions.cost_of(plan, r)).collect();
    let mut moves: Vec<(f64, usize, u32)> = Vec::new();
    loop {
        let fits = |d: usize, from: u32, to: u32, total: &[u64]| {
            let start = decisions.offsets()[d];
            budgets.iter().enumerate().all(|(r, budget)| {
                let costs = decisions.costs(r);
                let (old, new) = (costs[start + from as usize], costs[start + to as usize]);
                match budget.kind {
                    BudgetKind::AtMost => total[r] - old + new <= budget.limit,
                    BudgetKind::Exactly => old == new,
                }
            })
        };
        moves.clear();
        for d in 0..decisions.len() {
            let range = decisions.options_of(d);
            let now = values[range.start + plan[d] as usize];
            for k in 0..range.len() as u32 {
                let gain = values[range.start + k as usize] - now;
                if gain > 0.0 && fits(d, plan[d], k, &total) {
                    moves.push((gain, d, k));
                }
            }
        }
        if moves.is_empty() {
            return;
        }
        moves.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut moved = vec![false; decisions.len()];
        for &(_, d, k) in &moves {
            if !moved[d] && fits(d, plan[d], k, &total) {
                let start = decisions.offsets()[d];
                for (r, total) in total.iter_mut().enumerate() {
                    let costs = decisions.costs(r);
                    *total = *total - costs[start + plan[d] as usize] + costs[start + k as usize];
                }
                plan[d] = k;
                moved[d] = true;
            }
        }
    }
}

/// The feasible plan that keeps most choices of `plan`; among equals, one of
/// larger `preference` (in 0..=1 for each option).
pub(crate) fn repair(
    oracle: &mut Oracle<'_>,
    plan: &[u32],
    preference: &[f64],
) -> Result<Vec<u32>, SearchError> {
    if oracle.is_feasible(plan) {
        return Ok(plan.to_vec());
    }
    let decisions = oracle.decisions();
    // All preferences together must not outweigh one kept choice.
    let share = 0.5 / decisions.len().max(1) as f64;
    let mut values: Vec<f64> = preference.iter().map(|p| p * share).collect();
    for (d, &k) in plan.iter().enumerate() {
        values[decisions.offsets()[d] + k as usize] += 1.0;
    }
    oracle.knapsack(&values)
}
