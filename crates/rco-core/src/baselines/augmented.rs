//! Augmented Lagrangian (Hestenes 1969, Powell 1969; for inequalities Rockafellar
//! 1973; Nocedal and Wright, *Numerical Optimization*, §17.3-17.4).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::relaxed::{RelaxSettings, RelaxState, Relaxed};
use crate::budget::BudgetKind;
use crate::search::settings::{at_least_one, positive};
use crate::search::{Method, MethodName, Oracle, Progress, SearchError, from_json, to_json};

const NAME: MethodName = MethodName::Augmented;
/// The penalty grows unless the violation has shrunk to this share.
const PROGRESS: f64 = 0.5;
/// Largest growth of the penalty over its first value.
const LARGEST_GROWTH: f64 = 1e6;

/// Settings of [`Augmented`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentedSettings {
    /// First weight of the penalty, above 0.
    pub weight: f64,
    /// Factor by which the weight grows where the violation does not halve, at least 1.
    pub growth: f64,
    /// Steps between two updates of the multipliers, at least 1.
    pub inner: u64,
    /// The relaxation.
    pub relax: RelaxSettings,
}

impl Default for AugmentedSettings {
    fn default() -> Self {
        Self { weight: 1.0, growth: 2.0, inner: 10, relax: RelaxSettings::default() }
    }
}

impl AugmentedSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SearchError::Setting`].
    pub fn validate(&self) -> Result<(), SearchError> {
        positive("baselines.augmented.weight", self.weight)?;
        positive("baselines.augmented.growth", self.growth)?;
        if self.growth < 1.0 {
            return Err(SearchError::Setting {
                setting: "baselines.augmented.growth",
                expected: "at least 1",
                found: self.growth.to_string(),
            });
        }
        at_least_one("baselines.augmented.inner", self.inner)?;
        self.relax.validate()
    }

    /// The range a benchmark should try.
    pub fn tunings() -> Vec<Self> {
        let mut out = Vec::new();
        for weight in [0.1, 1.0, 10.0] {
            for inner in [5, 20] {
                out.push(Self { weight, inner, ..Self::default() });
            }
        }
        out
    }
}

/// Descends in the augmented Lagrangian of the relative violations `h_r`, whose
/// derivative with respect to `h_r` is `μ_r + ρ h_r` (at least 0 for an `at most`
/// budget). Every few steps that derivative becomes the multiplier, and `ρ` grows
/// unless the violation has halved.
#[derive(Debug)]
pub struct Augmented {
    settings: AugmentedSettings,
    kinds: Vec<BudgetKind>,
    relaxed: Relaxed,
    dual: Dual,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Dual {
    multipliers: Vec<f64>,
    weight: f64,
    steps: u64,
    last: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct State {
    relaxed: RelaxState,
    dual: Dual,
}

impl Augmented {
    /// Takes `steps` steps for budgets of `kinds`.
    pub fn new(
        settings: &AugmentedSettings,
        kinds: Vec<BudgetKind>,
        seed: u64,
        steps: u64,
    ) -> Self {
        let relaxed = Relaxed::new(NAME, settings.relax, seed, steps);
        let dual = Dual {
            multipliers: vec![0.0; kinds.len()],
            weight: settings.weight,
            steps: 0,
            last: None,
        };
        Self { settings: settings.clone(), kinds, relaxed, dual }
    }
}

impl Dual {
    fn terms(
        &mut self,
        settings: &AugmentedSettings,
        kinds: &[BudgetKind],
        violations: &[f64],
    ) -> Vec<f64> {
        let derivative = |mu: f64, weight: f64, h: f64, kind: BudgetKind| match kind {
            BudgetKind::AtMost => (mu + weight * h).max(0.0),
            BudgetKind::Exactly => mu + weight * h,
        };
        self.steps += 1;
        if self.steps.is_multiple_of(settings.inner) {
            // Violation of the optimality conditions: an `at most` budget with slack
            // and a multiplier of 0 is satisfied.
            let mut violation = 0.0_f64;
            for ((mu, &h), &kind) in self.multipliers.iter_mut().zip(violations).zip(kinds) {
                let next = derivative(*mu, self.weight, h, kind);
                violation = violation.max(((next - *mu) / self.weight).abs());
                *mu = next;
            }
            let limit = settings.weight * LARGEST_GROWTH;
            if self.last.is_some_and(|last| violation > PROGRESS * last) {
                self.weight = (self.weight * settings.growth).min(limit);
            }
            self.last = Some(violation);
        }
        let pairs = self.multipliers.iter().zip(violations).zip(kinds);
        pairs.map(|((&mu, &h), &kind)| derivative(mu, self.weight, h, kind)).collect()
    }
}

impl Method for Augmented {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.relaxed.planned_steps())
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let (settings, kinds, dual) = (&self.settings, &self.kinds, &mut self.dual);
        self.relaxed.step(oracle, |violations| dual.terms(settings, kinds, violations))
    }

    fn wind_up(&mut self) {
        self.relaxed.wind_up();
    }

    fn save(&self) -> Result<Value, SearchError> {
        let (relaxed, dual) = (self.relaxed.state.clone(), self.dual.clone());
        to_json(NAME, &State { relaxed, dual })
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        let state: State = from_json(NAME, state)?;
        self.relaxed.state = state.relaxed;
        self.dual = state.dual;
        Ok(())
    }
}
