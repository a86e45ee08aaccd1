//! Keeps sums of losses finite.

use rco_core::{Problem, ProblemError};

/// Sums and differences of sums of losses stay below this share of the largest number.
const HEADROOM: f64 = 16.0;

/// Refuses finite losses whose sum overflows: the search adds and subtracts such sums.
/// `extra` is the sum of all other terms, in absolute value.
pub(super) fn check(problem: &Problem, losses: &[f64], extra: f64) -> Result<(), ProblemError> {
    let largest = |group: usize| {
        losses[problem.options_of(group)].iter().fold(0.0_f64, |max, loss| max.max(loss.abs()))
    };
    let sum: f64 = (0..problem.group_count()).map(largest).sum::<f64>() + extra;
    if (sum * HEADROOM).is_finite() {
        return Ok(());
    }
    Err(ProblemError::NotFinite {
        what: "the sum of the largest losses".into(),
        value: f64::INFINITY,
    })
}
