//! Lagrangian with dual ascent (Arrow, Hurwicz and Uzawa 1958; Bertsekas,
//! *Nonlinear Programming*, §6).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::relaxed::{RelaxSettings, RelaxState, Relaxed};
use crate::budget::BudgetKind;
use crate::search::settings::positive;
use crate::search::{Method, MethodName, Oracle, Progress, SearchError, from_json, to_json};

const NAME: MethodName = MethodName::Lagrangian;

/// Settings of [`Lagrangian`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LagrangianSettings {
    /// Step of the dual ascent per unit of relative violation, above 0.
    pub ascent: f64,
    /// The relaxation.
    pub relax: RelaxSettings,
}

impl Default for LagrangianSettings {
    fn default() -> Self {
        Self { ascent: 0.1, relax: RelaxSettings::default() }
    }
}

impl LagrangianSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SearchError::Setting`].
    pub fn validate(&self) -> Result<(), SearchError> {
        positive("baselines.lagrangian.ascent", self.ascent)?;
        self.relax.validate()
    }

    /// The range a benchmark should try.
    pub fn tunings() -> Vec<Self> {
        let rates = [0.01, 0.1, 1.0, 10.0];
        rates.into_iter().map(|ascent| Self { ascent, ..Self::default() }).collect()
    }
}

/// Descends in `L + R Σ_r μ_r h_r` and ascends in the multipliers, both once a step;
/// `h_r` is the relative violation of budget `r` by the expected cost and `R` the
/// range of the loss that the first gradients show. Multipliers of `at most` budgets
/// stay at 0 or above.
#[derive(Debug)]
pub struct Lagrangian {
    ascent: f64,
    kinds: Vec<BudgetKind>,
    relaxed: Relaxed,
    multipliers: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct State {
    relaxed: RelaxState,
    multipliers: Vec<f64>,
}

impl Lagrangian {
    /// Takes `steps` steps for budgets of `kinds`.
    pub fn new(
        settings: &LagrangianSettings,
        kinds: Vec<BudgetKind>,
        seed: u64,
        steps: u64,
    ) -> Self {
        let relaxed = Relaxed::new(NAME, settings.relax, seed, steps);
        let multipliers = vec![0.0; kinds.len()];
        Self { ascent: settings.ascent, kinds, relaxed, multipliers }
    }
}

impl Method for Lagrangian {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.relaxed.planned_steps())
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let (ascent, kinds, multipliers) = (self.ascent, &self.kinds, &mut self.multipliers);
        self.relaxed.step(oracle, |violations| {
            for ((mu, &h), kind) in multipliers.iter_mut().zip(violations).zip(kinds) {
                *mu += ascent * h;
                if *kind == BudgetKind::AtMost {
                    *mu = mu.max(0.0);
                }
            }
            multipliers.clone()
        })
    }

    fn wind_up(&mut self) {
        self.relaxed.wind_up();
    }

    fn save(&self) -> Result<Value, SearchError> {
        let (relaxed, multipliers) = (self.relaxed.state.clone(), self.multipliers.clone());
        to_json(NAME, &State { relaxed, multipliers })
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        let state: State = from_json(NAME, state)?;
        self.relaxed.state = state.relaxed;
        self.multipliers = state.multipliers;
        Ok(())
    }
}
