//! Settings of the optimiser.

use serde::{Deserialize, Serialize};

use super::{AdamSettings, OptimizerError};
use crate::knapsack;
use crate::manifold::Direction;
use crate::relax::Anneal;

/// Most samples of one step.
const MAX_SAMPLES: usize = 1 << 16;

/// Settings of [`super::Rco`]. Every field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RcoSettings {
    /// Seed of the Gumbel noise; default 0.
    pub seed: u64,
    /// Length of an Adam step in logits; default 0.2 (the paper takes 0.1).
    pub learning_rate: f64,
    /// Moments of Adam.
    pub adam: AdamSettings,
    /// Temperature of the first step; default 1.
    pub tau_start: f64,
    /// Temperature of the last step; default 0.1. The paper goes down to 0.01, where hardly
    /// any sample has a gradient; on separable problems that left a larger gap.
    pub tau_end: f64,
    /// Steps over which the temperature falls; default 200. Later steps are taken at
    /// `tau_end`.
    pub steps: u64,
    /// Gumbel samples, each evaluated once, of a step; default 4.
    pub samples_per_step: usize,
    /// Whether samples 2j and 2j + 1 share their uniforms, as `u` and `1 − u`;
    /// default true.
    pub antithetic: bool,
    /// Direction of the retraction; default [`Direction::Cost`].
    pub direction: Direction,
    /// Logits of a decision are kept within this distance of its largest; default 100,
    /// where the probability (4e-44) neither shows in the cost nor is ever sampled.
    pub logit_span: f64,
    /// How the samples are made feasible; the default proves every sample.
    pub solver: knapsack::Settings,
}

impl Default for RcoSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            learning_rate: 0.2,
            adam: AdamSettings::default(),
            tau_start: 1.0,
            tau_end: 0.1,
            steps: 200,
            samples_per_step: 4,
            antithetic: true,
            direction: Direction::Cost,
            logit_span: 100.0,
            solver: knapsack::Settings::default(),
        }
    }
}

impl RcoSettings {
    /// Checks the range of every setting.
    ///
    /// # Errors
    /// [`OptimizerError::Setting`], naming the first setting out of its range.
    pub fn validate(&self) -> Result<(), OptimizerError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let decay = |x: f64| (0.0..1.0).contains(&x);
        let samples = self.samples_per_step as f64;
        let checks = [
            ("learning_rate", self.learning_rate, positive(self.learning_rate), "positive"),
            ("adam.beta1", self.adam.beta1, decay(self.adam.beta1), "at least 0 and below 1"),
            ("adam.beta2", self.adam.beta2, decay(self.adam.beta2), "at least 0 and below 1"),
            ("adam.epsilon", self.adam.epsilon, positive(self.adam.epsilon), "positive"),
            ("tau_start", self.tau_start, positive(self.tau_start), "positive"),
            ("tau_end", self.tau_end, positive(self.tau_end), "positive"),
            ("tau_end", self.tau_end, self.tau_end <= self.tau_start, "at most `tau_start`"),
            ("steps", self.steps as f64, self.steps > 0, "at least 1"),
            ("samples_per_step", samples, self.samples_per_step > 0, "at least 1"),
            ("samples_per_step", samples, self.samples_per_step <= MAX_SAMPLES, "at most 65536"),
            (
                "logit_span",
                self.logit_span,
                self.logit_span.is_finite() && self.logit_span >= 40.0,
                "at least 40, where clamped options have no share in the cost",
            ),
        ];
        for (name, value, good, expected) in checks {
            if !good {
                return Err(OptimizerError::Setting { name, value, expected });
            }
        }
        Ok(())
    }

    /// The temperature schedule.
    pub fn anneal(&self) -> Anneal {
        Anneal { start: self.tau_start, end: self.tau_end, steps: self.steps }
    }
}
