//! Quadratic penalty on the budget (Courant 1943; Nocedal and Wright, *Numerical
//! Optimization*, §17.1), the usual way to put a budget into a loss.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::relaxed::{RelaxSettings, Relaxed, counted};
use crate::budget::BudgetKind;
use crate::search::settings::positive;
use crate::search::{Method, MethodName, Oracle, Progress, SearchError, from_json, to_json};

const NAME: MethodName = MethodName::Penalty;

/// Settings of [`Penalty`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PenaltySettings {
    /// Weight of the squared relative violation, in units of the loss at stake, above 0.
    pub weight: f64,
    /// The relaxation.
    pub relax: RelaxSettings,
}

impl Default for PenaltySettings {
    fn default() -> Self {
        Self { weight: 10.0, relax: RelaxSettings::default() }
    }
}

impl PenaltySettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SearchError::Setting`].
    pub fn validate(&self) -> Result<(), SearchError> {
        positive("baselines.penalty.weight", self.weight)?;
        self.relax.validate()
    }

    /// The range a benchmark should try.
    pub fn tunings() -> Vec<Self> {
        let weights = [0.1, 1.0, 10.0, 100.0, 1000.0];
        weights.into_iter().map(|weight| Self { weight, ..Self::default() }).collect()
    }
}

/// Minimises `L + w R Σ_r h_r²`, where `h_r` is the relative violation of budget `r`
/// by the expected cost (only its excess for an `at most` budget) and `R` the range
/// of the loss that the first gradients show.
#[derive(Debug)]
pub struct Penalty {
    weight: f64,
    kinds: Vec<BudgetKind>,
    relaxed: Relaxed,
}

impl Penalty {
    /// Takes `steps` steps for budgets of `kinds`.
    pub fn new(settings: &PenaltySettings, kinds: Vec<BudgetKind>, seed: u64, steps: u64) -> Self {
        let relaxed = Relaxed::new(NAME, settings.relax, seed, steps);
        Self { weight: settings.weight, kinds, relaxed }
    }
}

impl Method for Penalty {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.relaxed.planned_steps())
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let (weight, kinds) = (self.weight, &self.kinds);
        self.relaxed.step(oracle, |violations| {
            let pairs = violations.iter().zip(kinds);
            pairs.map(|(&h, &kind)| 2.0 * weight * counted(kind, h)).collect()
        })
    }

    fn wind_up(&mut self) {
        self.relaxed.wind_up();
    }

    fn save(&self) -> Result<Value, SearchError> {
        to_json(NAME, &self.relaxed.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        self.relaxed.state = from_json(NAME, state)?;
        Ok(())
    }
}
