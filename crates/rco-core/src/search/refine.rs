//! Separable scores corrected by measured losses.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::SearchError;
use super::method::{Method, Progress, from_json, to_json};
use super::name::MethodName;
use super::oracle::{Oracle, Sample};
use super::posterior::Posterior;
use super::settings::RefineSettings;
use crate::decisions::Decisions;
use crate::rng::{Purpose, stream};

const NAME: MethodName = MethodName::Refine;

/// A corrected score is at least this share of what it was: where the scores of many decisions
/// together are far too large, the correction of one would turn it into a gain, and its most
/// costly option into the best.
const LEAST: f64 = 0.05;

/// Draws in a row that lead to plans known already before the search counts as settled.
const STALE: u64 = 16;

/// Solves the knapsack of scores, measures the plan, learns from its loss what the scores
/// are wrong by, and begins anew.
///
/// Every batch holds the plan of the expected scores, and for the rest plans of scores
/// drawn from what the losses so far leave possible (Thompson sampling): a score that is
/// well known is used, one that is not gets measured.
#[derive(Debug)]
pub(crate) struct Refine {
    settings: RefineSettings,
    seed: u64,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Plans measured and their losses; `None` before the first step.
    measured: Option<(Vec<Vec<u32>>, Vec<f64>)>,
    draws: u64,
    finishing: bool,
}

impl Refine {
    pub(crate) fn new(settings: RefineSettings, seed: u64) -> Self {
        Self { settings, seed, state: State::default() }
    }

    /// Plans of the memory that were measured on the calibration data.
    fn begin(oracle: &Oracle<'_>) -> (Vec<Vec<u32>>, Vec<f64>) {
        let plans = oracle.state.memory.plans().iter();
        plans.filter_map(|p| p.calibration.map(|loss| (p.choices.clone(), loss))).unzip()
    }

    /// Scores whose sums agree with the losses in the median, if that is asked for.
    fn scaled(
        &self,
        scores: Vec<f64>,
        decisions: &Decisions,
        plans: &[Vec<u32>],
        losses: &[f64],
    ) -> Vec<f64> {
        if !self.settings.rescale {
            return scores;
        }
        let sum = |plan: &[u32]| -> f64 {
            plan.iter().zip(decisions.offsets()).map(|(&k, start)| scores[start + k as usize]).sum()
        };
        let ratios = plans.iter().zip(losses).map(|(plan, loss)| loss / sum(plan));
        let mut ratios: Vec<f64> = ratios.filter(|r| r.is_finite() && *r > 0.0).collect();
        ratios.sort_by(f64::total_cmp);
        let Some(&scale) = ratios.get(ratios.len() / 2) else { return scores };
        scores.iter().map(|score| score * scale).collect()
    }
}

/// Corrected scores that have kept their sign.
fn bounded(scores: &[f64], corrected: &[f64]) -> Vec<f64> {
    let bound = |(&before, &after): (&f64, &f64)| {
        let least = LEAST * before;
        if before > 0.0 { after.max(least) } else { after.min(least) }
    };
    scores.iter().zip(corrected).map(bound).collect()
}

impl Method for Refine {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.settings.plans.div_ceil(self.settings.batch as u64))
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let Some(scores) = oracle.scores().map(<[f64]>::to_vec) else {
            return Ok(Progress::done());
        };
        let (mut plans, mut losses) =
            self.state.measured.take().unwrap_or_else(|| Self::begin(oracle));
        let decisions = oracle.decisions();
        let spread = self.settings.spread;
        let scores = self.scaled(scores, decisions, &plans, &losses);
        let posterior = Posterior::new(decisions, &scores, &plans, &losses, spread);
        let mean = posterior.mean();
        let values = |corrected: &[f64]| -> Vec<f64> {
            bounded(&scores, corrected).into_iter().map(|s| -s).collect()
        };
        let expected = oracle.knapsack(&values(&mean))?;
        let mut batch = Vec::new();
        if !plans.contains(&expected) {
            batch.push(expected);
        }
        let mut stale = 0;
        let wanted = if self.state.finishing { batch.len() } else { self.settings.batch };
        while batch.len() < wanted && stale < STALE {
            let mut random = stream(self.seed, Purpose::Score, self.state.draws);
            self.state.draws += 1;
            let plan = oracle.knapsack(&values(&posterior.draw(&mut random)))?;
            if plans.contains(&plan) || batch.contains(&plan) {
                stale += 1;
            } else {
                batch.push(plan);
            }
        }
        let found = oracle.losses(NAME, &batch, Sample::Calibration)?;
        let done = self.state.finishing || found.is_empty() || found.len() < batch.len();
        let best = found.iter().copied().min_by(f64::total_cmp);
        plans.extend(batch.into_iter().take(found.len()));
        losses.extend(found);
        if done || oracle.remaining() == 0 {
            // The methods that follow start from what was learnt.
            let mean = Posterior::new(decisions, &scores, &plans, &losses, spread).mean();
            let mean = bounded(&scores, &mean);
            let expected = oracle.knapsack(&values(&mean))?;
            oracle.propose(NAME, "knapsack on corrected scores", &expected)?;
            oracle.set_scores(mean);
            return Ok(Progress { done: true, loss: best, ..Progress::default() });
        }
        self.state.measured = Some((plans, losses));
        Ok(Progress { loss: best, ..Progress::default() })
    }

    fn wind_up(&mut self) {
        self.state.finishing = true;
    }

    fn save(&self) -> Result<Value, SearchError> {
        to_json(NAME, &self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        self.state = from_json(NAME, state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST, bounded};
    use crate::search::posterior::Posterior;
    use crate::search::testing::{Spec, problem};

    /// Scores 25 times too large, measured on two plans of small losses and on a costly one
    /// that spares one decision: the loss of the costly plan can only be had with the scores of
    /// that decision below zero.
    #[test]
    fn scores_that_are_far_too_large_are_not_corrected_into_gains() {
        let problem = problem(&Spec { groups: 6, options: 3, ..Spec::default() });
        let scores: Vec<f64> =
            (0..18).map(|j| 25.0 * f64::from(3 - j % 3) * f64::from(j / 3 + 1)).collect();
        let plans = [vec![1; 6], vec![2; 6], vec![0, 0, 0, 0, 0, 1]];
        let losses = [42.0, 21.0, 372.0];
        let found = Posterior::new(problem.decisions(), &scores, &plans, &losses, 0.25).mean();
        assert!(found.iter().any(|&score| score < 0.0), "no test: {found:?}");
        for ((bounded, found), score) in bounded(&scores, &found).iter().zip(&found).zip(&scores) {
            assert_eq!(*bounded, found.max(LEAST * score));
        }
        // Scores may be gains from the start.
        assert_eq!(bounded(&[-1.0, 0.0], &[2.0, 0.0]), [-LEAST, 0.0]);
    }
}
