//! The score-function gradient (REINFORCE, Williams 1992) with samples that keep
//! the budget and a leave-one-out baseline (Kool, van Hoof and Welling 2019).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::optimizer::{Adam, AdamSettings};
use crate::relax::{gumbel, softmax};
use crate::rng::{Purpose, stream};
use crate::search::rounding;
use crate::search::settings::{at_least_one, positive};
use crate::search::{
    Method, MethodName, Oracle, Progress, Sample, SearchError, from_json, to_json,
};

use super::relaxed::expected_costs;

const NAME: MethodName = MethodName::Reinforce;

/// Settings of [`Reinforce`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReinforceSettings {
    /// Step of Adam, above 0.
    pub learning_rate: f64,
    /// Steps without a limit of evaluations, at least 1.
    pub steps: u64,
    /// Samples of each step, at least 2.
    pub samples: u64,
}

impl Default for ReinforceSettings {
    fn default() -> Self {
        Self { learning_rate: 0.1, steps: 200, samples: 8 }
    }
}

impl ReinforceSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SearchError::Setting`].
    pub fn validate(&self) -> Result<(), SearchError> {
        positive("baselines.reinforce.learning_rate", self.learning_rate)?;
        at_least_one("baselines.reinforce.steps", self.steps)?;
        if self.samples < 2 {
            return Err(SearchError::Setting {
                setting: "baselines.reinforce.samples",
                expected: "at least 2: each sample is judged against the others",
                found: self.samples.to_string(),
            });
        }
        Ok(())
    }

    /// The range a benchmark should try.
    pub fn tunings() -> Vec<Self> {
        let mut out = Vec::new();
        for learning_rate in [0.03, 0.1, 0.3] {
            for samples in [4, 16] {
                out.push(Self { learning_rate, samples, ..Self::default() });
            }
        }
        out
    }
}

/// Ascends the expected negated loss by `Σ_s A_s ∇ log p(x_s)`. The samples are the
/// exact knapsack's answers to Gumbel-perturbed logits, so that each keeps the
/// budget; their probability is taken as the product over the decisions, as if the
/// budget did not bind. The advantage `A_s` is the mean loss of the other samples
/// minus its own. No option gradient is used.
#[derive(Debug)]
pub struct Reinforce {
    settings: ReinforceSettings,
    seed: u64,
    steps: u64,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    logits: Vec<f64>,
    adam: Option<Adam>,
    step: u64,
    finishing: bool,
}

impl Reinforce {
    /// Takes `steps` steps.
    pub fn new(settings: ReinforceSettings, seed: u64, steps: u64) -> Self {
        Self { settings, seed, steps, state: State::default() }
    }
}

impl Method for Reinforce {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.steps + 1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let decisions = oracle.decisions();
        let offsets = decisions.offsets();
        let dimension = decisions.option_count();
        self.state.logits.resize(dimension, 0.0);
        let count = self.settings.samples;
        let mut losses = Vec::new();
        let mut plans = Vec::with_capacity(count as usize);
        if !self.state.finishing && self.state.step < self.steps {
            for n in 0..count {
                let index = self.state.step * count + n;
                let mut stream = stream(self.seed, Purpose::Score, index);
                let values: Vec<f64> =
                    self.state.logits.iter().map(|z| z + gumbel(stream.uniform())).collect();
                plans.push(oracle.knapsack(&values)?);
            }
            losses = oracle.losses(NAME, &plans, Sample::Draws(1))?;
        }
        if losses.len() < 2 {
            let loss = rounding::propose_all(oracle, NAME, &self.state.logits, None)?;
            return Ok(Progress { done: true, loss, ..Progress::default() });
        }
        // A limit that cuts the last step short leaves fewer samples: use those.
        self.state.finishing |= losses.len() < plans.len();
        let share = 1.0 / losses.len() as f64;
        let mean = losses.iter().sum::<f64>() * share;
        // L_s minus the mean of the others.
        let others = losses.len() as f64 / (losses.len() as f64 - 1.0);

        let mut probs = vec![0.0; dimension];
        softmax(offsets, &self.state.logits, &mut probs);
        let mut gradient = vec![0.0; dimension];
        for (plan, loss) in plans.iter().zip(&losses) {
            let advantage = (loss - mean) * others * share;
            for (d, &k) in plan.iter().enumerate() {
                for j in decisions.options_of(d) {
                    gradient[j] -= advantage * probs[j];
                }
                gradient[offsets[d] + k as usize] += advantage;
            }
        }
        let adam = self.state.adam.get_or_insert_with(|| Adam::new(dimension));
        let mut direction = vec![0.0; dimension];
        adam.update(&AdamSettings::default(), &gradient, &mut direction);
        for (z, d) in self.state.logits.iter_mut().zip(&direction) {
            *z -= self.settings.learning_rate * d;
        }
        self.state.step += 1;
        let expected_cost = expected_costs(oracle, &probs);
        Ok(Progress { done: false, loss: Some(mean), expected_cost, tau: None })
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
