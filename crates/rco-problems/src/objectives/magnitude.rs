//! Keeps sums of losses finite.

use rco_core::{Problem, ProblemError};

/// The exact knapsack takes values up to 1e300; sums and differences of sums stay below.
const LIMIT: f64 = 1e299;

/// Refuses finite losses whose sum is too large: the search adds and subtracts such sums.
/// `extra` is the sum of all other terms, in absolute value.
pub(super) fn check(problem: &Problem, losses: &[f64], extra: f64) -> Result<(), ProblemError> {
    let largest = |group: usize| {
        losses[problem.options_of(group)].iter().fold(0.0_f64, |max, loss| max.max(loss.abs()))
    };
    let sum: f64 = (0..problem.group_count()).map(largest).sum::<f64>() + extra;
    if sum <= LIMIT {
        return Ok(());
    }
    Err(ProblemError::NotFinite {
        what: format!("the sum of the largest losses (limit {LIMIT:e})"),
        value: f64::INFINITY,
    })
}
