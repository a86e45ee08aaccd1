//! From logits to feasible plans.

use super::error::SearchError;
use super::fill::{fill, repair};
use super::name::MethodName;
use super::oracle::{Oracle, Sample};
use crate::baselines::relaxed::argmax;
use crate::baselines::uniform::relative_costs;
use crate::relax::softmax;

/// Evaluations that [`propose_all`] takes at most: methods keep so many back.
pub(crate) const EVALUATIONS: u64 = 8;

/// Rounds `logits` in several ways, fills every plan up to the budget, measures
/// them and makes them results of `method`. Returns the smallest loss, if any
/// could be measured.
///
/// The knapsack on log-probabilities is the one on logits: they differ by a
/// constant in each decision. `gradient` is the mean option gradient of the last
/// steps. Filling follows it too; without it, a costlier option counts as better.
pub(crate) fn propose_all(
    oracle: &mut Oracle<'_>,
    method: MethodName,
    logits: &[f64],
    gradient: Option<&[f64]>,
) -> Result<Option<f64>, SearchError> {
    let offsets = oracle.decisions().offsets();
    let mut probs = vec![0.0; logits.len()];
    softmax(offsets, logits, &mut probs);
    let mut rounded: Vec<(&str, Vec<u32>)> = vec![
        ("knapsack on log p", oracle.knapsack(logits)?),
        ("argmax, repaired", repair(oracle, &argmax(offsets, logits), &probs)?),
        ("knapsack on p", oracle.knapsack(&probs)?),
    ];
    let values: Vec<f64> = match gradient {
        Some(gradient) => {
            let values: Vec<f64> = gradient.iter().map(|g| -g).collect();
            rounded.push(("knapsack on the mean gradient", oracle.knapsack(&values)?));
            values
        }
        None => relative_costs(oracle),
    };

    let mut plans: Vec<Vec<u32>> = Vec::new();
    for (origin, plan) in rounded {
        let mut filled = plan.clone();
        fill(oracle, &values, &mut filled);
        let is_full = filled == plan;
        for (plan, origin) in [(filled, format!("{origin}, filled")), (plan, origin.to_owned())] {
            if !plans.contains(&plan) {
                let origin = if is_full { origin.trim_end_matches(", filled") } else { &origin };
                oracle.propose(method, origin, &plan)?;
                plans.push(plan);
            }
        }
    }
    let losses = oracle.losses(method, &plans, Sample::Calibration)?;
    Ok(losses.into_iter().min_by(f64::total_cmp))
}
