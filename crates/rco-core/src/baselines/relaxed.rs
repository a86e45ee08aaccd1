//! What penalty and Lagrangian methods share: unconstrained Adam on the softmax
//! relaxation, with the budget as a term of the objective.

use serde::{Deserialize, Serialize};

use crate::budget::BudgetKind;
use crate::optimizer::{Adam, AdamSettings};
use crate::relax::{Anneal, add_gumbel, softmax, softmax_backward};
use crate::search::rounding;
use crate::search::settings::{at_least_one, positive};
use crate::search::{MethodName, Oracle, Progress, SearchError};

/// Settings of the relaxation, the same as those of RCO where both have them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelaxSettings {
    /// Step of Adam, above 0.
    pub learning_rate: f64,
    /// Steps without a limit of evaluations, at least 1.
    pub steps: u64,
    /// Samples of each step, at least 1.
    pub samples: u64,
    /// First temperature, above 0.
    pub tau_start: f64,
    /// Last temperature, above 0.
    pub tau_end: f64,
}

impl Default for RelaxSettings {
    fn default() -> Self {
        Self { learning_rate: 0.1, steps: 200, samples: 4, tau_start: 1.0, tau_end: 0.1 }
    }
}

impl RelaxSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SearchError::Setting`].
    pub fn validate(&self) -> Result<(), SearchError> {
        positive("baselines.*.relax.learning_rate", self.learning_rate)?;
        at_least_one("baselines.*.relax.steps", self.steps)?;
        at_least_one("baselines.*.relax.samples", self.samples)?;
        positive("baselines.*.relax.tau_start", self.tau_start)?;
        positive("baselines.*.relax.tau_end", self.tau_end)
    }
}

/// State of the relaxation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RelaxState {
    logits: Vec<f64>,
    adam: Option<Adam>,
    step: u64,
    /// Loss that the first gradients say is at stake: `Σ_i (max_k g_ik − min_k g_ik)`.
    /// The budget terms are measured by it, so that their weights have no unit.
    range: Option<f64>,
    mean_gradient: Option<Vec<f64>>,
    finishing: bool,
}

/// The relaxation of one run.
#[derive(Debug)]
pub(crate) struct Relaxed {
    name: MethodName,
    settings: RelaxSettings,
    seed: u64,
    steps: u64,
    pub(crate) state: RelaxState,
}

impl Relaxed {
    pub(crate) fn new(name: MethodName, settings: RelaxSettings, seed: u64, steps: u64) -> Self {
        Self { name, settings, seed, steps, state: RelaxState::default() }
    }

    pub(crate) fn planned_steps(&self) -> u64 {
        self.steps + 1
    }

    pub(crate) fn wind_up(&mut self) {
        self.state.finishing = true;
    }

    /// Takes one step. `terms` turns the relative violations `(C_r − B_r) / B_r` of
    /// the budgets into the derivatives of the budget term with respect to them.
    pub(crate) fn step(
        &mut self,
        oracle: &mut Oracle<'_>,
        terms: impl FnOnce(&[f64]) -> Vec<f64>,
    ) -> Result<Progress, SearchError> {
        if self.state.finishing || self.state.step >= self.steps {
            return self.finish(oracle);
        }
        let decisions = oracle.decisions();
        let offsets = decisions.offsets();
        let dimension = decisions.option_count();
        self.state.logits.resize(dimension, 0.0);
        let anneal = Anneal {
            start: self.settings.tau_start,
            end: self.settings.tau_end,
            steps: self.steps,
        };
        let tau = anneal.at(self.state.step);

        let count = self.settings.samples;
        let mut noisy = Vec::with_capacity(count as usize);
        for n in 0..count {
            let mut values = vec![0.0; dimension];
            let index = self.state.step * count + n;
            add_gumbel(self.seed, index, false, &self.state.logits, &mut values);
            noisy.push(values);
        }
        let plans: Vec<Vec<u32>> = noisy.iter().map(|v| argmax(offsets, v)).collect();
        let measured = oracle.gradients(self.name, &plans)?;
        if measured.len() < plans.len() {
            self.state.finishing = true;
            return self.finish(oracle);
        }

        let share = 1.0 / count as f64;
        let mut gradient = vec![0.0; dimension];
        let mut option_gradient = vec![0.0; dimension];
        let mut probs = vec![0.0; dimension];
        for (values, measured) in noisy.iter_mut().zip(&measured) {
            for value in values.iter_mut() {
                *value /= tau;
            }
            softmax(offsets, values, &mut probs);
            softmax_backward(offsets, &probs, &measured.gradient, share / tau, &mut gradient);
            for (mean, g) in option_gradient.iter_mut().zip(&measured.gradient) {
                *mean += share * g;
            }
        }
        let range = *self.state.range.get_or_insert_with(|| range(offsets, &option_gradient));
        remember_mean(&mut self.state.mean_gradient, &option_gradient);

        softmax(offsets, &self.state.logits, &mut probs);
        let expected_cost = expected_costs(oracle, &probs);
        let violations = violations(oracle, &expected_cost);
        for (r, term) in terms(&violations).into_iter().enumerate() {
            let unit = range * term / oracle.problem().budgets()[r].limit.max(1) as f64;
            let costs: Vec<f64> = decisions.costs(r).iter().map(|&c| c as f64).collect();
            softmax_backward(offsets, &probs, &costs, unit, &mut gradient);
        }

        let adam = self.state.adam.get_or_insert_with(|| Adam::new(dimension));
        let mut direction = vec![0.0; dimension];
        adam.update(&AdamSettings::default(), &gradient, &mut direction);
        for (z, d) in self.state.logits.iter_mut().zip(&direction) {
            *z -= self.settings.learning_rate * d;
        }
        self.state.step += 1;
        let loss = measured.iter().map(|m| m.loss).sum::<f64>() * share;
        Ok(Progress { done: false, loss: Some(loss), expected_cost, tau: Some(tau) })
    }

    /// Reports the raw argmax and proposes feasible roundings.
    fn finish(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let decisions = oracle.decisions();
        self.state.logits.resize(decisions.option_count(), 0.0);
        let raw = argmax(decisions.offsets(), &self.state.logits);
        oracle.report_raw(self.name, &raw);
        let gradient = self.state.mean_gradient.as_deref();
        let loss = rounding::propose_all(oracle, self.name, &self.state.logits, gradient)?;
        Ok(Progress { done: true, loss, ..Progress::default() })
    }
}

/// The option of largest value for every decision; the first of equals.
pub(crate) fn argmax(offsets: &[usize], values: &[f64]) -> Vec<u32> {
    offsets
        .windows(2)
        .map(|w| {
            let values = &values[w[0]..w[1]];
            let mut best = 0;
            for (k, value) in values.iter().enumerate() {
                if *value > values[best] {
                    best = k;
                }
            }
            best as u32
        })
        .collect()
}

/// Expected cost of the relaxation for every resource.
pub(crate) fn expected_costs(oracle: &Oracle<'_>, probs: &[f64]) -> Vec<f64> {
    let decisions = oracle.decisions();
    (0..decisions.resource_count())
        .map(|r| decisions.costs(r).iter().zip(probs).map(|(&c, p)| c as f64 * p).sum())
        .collect()
}

/// `(C_r − B_r) / B_r` for every budget.
fn violations(oracle: &Oracle<'_>, expected: &[f64]) -> Vec<f64> {
    let budgets = oracle.problem().budgets();
    budgets
        .iter()
        .zip(expected)
        .map(|(b, c)| (c - b.limit as f64) / b.limit.max(1) as f64)
        .collect()
}

/// Forgets old gradients exponentially: `m ← 0.9 m + 0.1 g`.
pub(crate) fn remember_mean(mean: &mut Option<Vec<f64>>, gradient: &[f64]) {
    match mean {
        Some(mean) => {
            for (mean, g) in mean.iter_mut().zip(gradient) {
                *mean += 0.1 * (g - *mean);
            }
        }
        None => *mean = Some(gradient.to_vec()),
    }
}

fn range(offsets: &[usize], gradient: &[f64]) -> f64 {
    let total: f64 = offsets
        .windows(2)
        .map(|w| {
            let g = &gradient[w[0]..w[1]];
            let low = g.iter().copied().fold(f64::INFINITY, f64::min);
            let high = g.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            high - low
        })
        .sum();
    if total > 0.0 { total } else { 1.0 }
}

/// A violation as it counts: an `at most` budget is not violated by using less.
pub(crate) fn counted(kind: BudgetKind, violation: f64) -> f64 {
    match kind {
        BudgetKind::AtMost => violation.max(0.0),
        BudgetKind::Exactly => violation,
    }
}
