//! Separable scores: one number per option whose sum stands in for the loss.

use serde::{Deserialize, Serialize};

use super::uniform::uniform_plan;
use crate::search::{MethodName, Oracle, Sample, SearchError};

/// Settings of the scores that greedy, proxy and the warm start of RCO share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreSettings {
    /// Plans that the option gradient is averaged over; 0 where the scores of the
    /// objective are to be used as they are (without any, one plan is taken).
    pub points: u64,
}

impl Default for ScoreSettings {
    fn default() -> Self {
        Self { points: 8 }
    }
}

impl ScoreSettings {
    /// The range a benchmark should try.
    pub fn tunings() -> Vec<Self> {
        [1, 8, 32].into_iter().map(|points| Self { points }).collect()
    }
}

/// Evaluations of an [`Estimator`] at most: its points, and two plans measured.
pub(crate) fn estimator_price(settings: &ScoreSettings) -> u64 {
    settings.points.max(1) + 2
}

/// Finds the best separable scores step by step.
///
/// The scores that the objective brings along compete with the mean of option
/// gradients at feasible plans. Those plans follow each other as in the
/// conditional gradient method (Frank and Wolfe, 1956) with step 1/t: each is the
/// exact knapsack's answer to the mean so far, so that the gradient is taken where
/// the good plans are. The scores whose plan has the smaller calibration loss win.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Estimator {
    sum: Vec<f64>,
    count: u64,
    plan: Option<Vec<u32>>,
    /// Loss (if measured), scores and plan of the objective's own scores.
    given: Option<(Option<f64>, Vec<f64>)>,
    started: bool,
    finished: bool,
}

impl Estimator {
    /// Ends the collection: the next step decides by what there is.
    pub(crate) fn wind_up(&mut self) {
        self.finished = true;
    }

    /// Takes one step; returns the loss it measured, and whether the scores are now
    /// in the oracle's hands.
    pub(crate) fn step(
        &mut self,
        oracle: &mut Oracle<'_>,
        method: MethodName,
        points: u64,
    ) -> Result<(Option<f64>, bool), SearchError> {
        if oracle.scores().is_some() {
            return Ok((None, true));
        }
        if !self.started {
            self.started = true;
            if let Some(scores) = oracle.proxy_scores()? {
                let loss = measure(oracle, method, &scores, "given scores")?;
                self.given = Some((loss, scores));
                // The sum of the scores is the loss: no gradient can add to that.
                self.finished |= oracle.is_separable() || points == 0;
                return Ok((loss, false));
            }
        }
        if !self.finished && self.count < points.max(1) {
            let plan = match &self.plan {
                Some(plan) => plan.clone(),
                None => uniform_plan(oracle)?,
            };
            let Some(measured) = oracle.gradients(method, std::slice::from_ref(&plan))?.pop()
            else {
                self.finished = true;
                return Ok((None, false));
            };
            self.sum.resize(measured.gradient.len(), 0.0);
            for (sum, g) in self.sum.iter_mut().zip(&measured.gradient) {
                *sum += g;
            }
            self.count += 1;
            let next = oracle.knapsack(&self.sum.iter().map(|g| -g).collect::<Vec<_>>())?;
            // The gradient of a deterministic objective is known at a plan seen before.
            self.finished |= oracle.is_deterministic() && next == plan;
            self.plan = Some(next);
            return Ok((Some(measured.loss), false));
        }
        let scores = self.choose(oracle, method)?;
        oracle.set_scores(scores);
        Ok((None, true))
    }

    fn choose(
        &mut self,
        oracle: &mut Oracle<'_>,
        method: MethodName,
    ) -> Result<Vec<f64>, SearchError> {
        let given = self.given.take();
        if self.count == 0 {
            let none = || vec![0.0; oracle.decisions().option_count()];
            return Ok(given.map_or_else(none, |(_, scores)| scores));
        }
        let mean: Vec<f64> = self.sum.iter().map(|s| s / self.count as f64).collect();
        let loss = measure(oracle, method, &mean, "averaged option gradients")?;
        Ok(match (given, loss) {
            (Some((Some(known), scores)), Some(loss)) if known <= loss => scores,
            _ => mean,
        })
    }
}

/// Calibration loss of the best plan under `scores`, which becomes a result of
/// the proxy baseline.
fn measure(
    oracle: &mut Oracle<'_>,
    method: MethodName,
    scores: &[f64],
    origin: &str,
) -> Result<Option<f64>, SearchError> {
    let values: Vec<f64> = scores.iter().map(|s| -s).collect();
    let plan = oracle.knapsack(&values)?;
    oracle.propose(MethodName::Proxy, &format!("knapsack on {origin}"), &plan)?;
    Ok(oracle.losses(method, &[plan], Sample::Calibration)?.pop())
}
