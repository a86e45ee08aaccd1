//! The final choice: held-out loss over all candidates.

use super::error::SearchError;
use super::memory::Plan;
use super::oracle::{Oracle, Sample};
use super::outcome::Candidate;
use super::settings::SearchSettings;

/// Measures the results of all methods and the best other plans on the held-out
/// split and returns them, best first: by held-out loss, with that on the calibration split at
/// the share of `settings`, then by calibration loss, then by cost, then by age. Plans whose
/// calibration loss is more than `within` times the smallest are left out.
pub(crate) fn select(
    oracle: &mut Oracle<'_>,
    settings: &SearchSettings,
) -> Result<Vec<Candidate>, SearchError> {
    let (shortlist, within) = (settings.shortlist, settings.choose_within);
    let share = settings.choose_calibration;
    let memory = &oracle.state.memory;
    let ranked = memory.ranked();
    let others = ranked.iter().filter(|&&n| !memory.plans()[n].result).take(shortlist);
    let results = (0..memory.plans().len()).filter(|&n| memory.plans()[n].result);
    let losses = memory.plans().iter().filter_map(|p| p.calibration);
    let least = losses.fold(f64::INFINITY, f64::min);
    let hopeless = |p: &Plan| match (within, p.calibration) {
        (Some(ratio), Some(loss)) => least > 0.0 && loss > ratio * least,
        _ => false,
    };
    let plans: Vec<Plan> = results
        .chain(others.copied())
        .map(|n| memory.plans()[n].clone())
        .filter(|p| !hopeless(p))
        .collect();
    if plans.is_empty() {
        return Err(SearchError::NoPlan { evaluations: oracle.counts().limited() });
    }
    let choices: Vec<Vec<u32>> = plans.iter().map(|p| p.choices.clone()).collect();
    let losses = oracle.heldout(&choices)?;

    // The calibration loss of the best is reported, and it decides between equals.
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let needed = |n: &usize| share > 0.0 || losses[*n] == best;
    let needed: Vec<usize> = (0..plans.len()).filter(needed).collect();
    let mut calibration: Vec<Option<f64>> = plans.iter().map(|p| p.calibration).collect();
    for n in needed {
        if calibration[n].is_none() {
            let plan = std::slice::from_ref(&plans[n].choices);
            calibration[n] = oracle.losses(plans[n].method, plan, Sample::Calibration)?.pop();
        }
    }

    let decisions = oracle.decisions();
    let mut out: Vec<(u64, Candidate)> = plans
        .into_iter()
        .zip(losses)
        .zip(calibration)
        .map(|((plan, loss_heldout), loss_calibration)| {
            let costs = (0..decisions.resource_count())
                .map(|r| decisions.cost_of(&plan.choices, r))
                .collect();
            let candidate = Candidate {
                method: plan.method,
                origin: plan.origin,
                assignment: decisions.expand(&plan.choices),
                loss_heldout,
                loss_calibration,
                costs,
            };
            (plan.order, candidate)
        })
        .collect();
    out.sort_by(|(age_a, a), (age_b, b)| {
        let calibration = |c: &Candidate| c.loss_calibration.unwrap_or(f64::INFINITY);
        // Without room to measure the one, the other stands for both.
        let judged = |c: &Candidate| {
            let calibration = c.loss_calibration.unwrap_or(c.loss_heldout);
            share * calibration + (1.0 - share) * c.loss_heldout
        };
        judged(a)
            .total_cmp(&judged(b))
            .then_with(|| calibration(a).total_cmp(&calibration(b)))
            .then_with(|| a.costs.cmp(&b.costs))
            .then(age_a.cmp(age_b))
    });
    Ok(out.into_iter().map(|(_, candidate)| candidate).collect())
}
