//! Random feasible plans.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rng::{Purpose, stream};
use crate::search::settings::at_least_one;
use crate::search::{
    Method, MethodName, Oracle, Progress, Sample, SearchError, from_json, to_json,
};

const NAME: MethodName = MethodName::Random;
/// Plans measured in one step.
const BATCH: u64 = 16;

/// Settings of [`Random`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomSettings {
    /// Plans drawn without a limit of evaluations, and in the portfolio; at least 1.
    pub plans: u64,
}

impl Default for RandomSettings {
    fn default() -> Self {
        Self { plans: 16 }
    }
}

impl RandomSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SearchError::Setting`].
    pub fn validate(&self) -> Result<(), SearchError> {
        at_least_one("baselines.random.plans", self.plans)
    }

    /// There is nothing to tune.
    pub fn tunings() -> Vec<Self> {
        vec![Self::default()]
    }
}

/// The best of many random feasible plans: uniform noise on every option, rounded
/// by the exact knapsack, so that every plan uses its budget.
#[derive(Debug)]
pub struct Random {
    seed: u64,
    plans: u64,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    drawn: u64,
    best: Option<(f64, Vec<u32>)>,
}

impl Random {
    /// Draws `plans` plans.
    pub fn new(seed: u64, plans: u64) -> Self {
        Self { seed, plans, state: State::default() }
    }
}

impl Method for Random {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.plans.div_ceil(BATCH))
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let count = BATCH.min(self.plans.saturating_sub(self.state.drawn));
        let options = oracle.decisions().option_count();
        let mut plans = Vec::with_capacity(count as usize);
        for n in 0..count {
            let mut stream = stream(self.seed, Purpose::Feasible, self.state.drawn + n);
            let values: Vec<f64> = (0..options).map(|_| stream.uniform()).collect();
            plans.push(oracle.knapsack(&values)?);
        }
        self.state.drawn += count;
        let losses = oracle.losses(NAME, &plans, Sample::Calibration)?;
        for (plan, &loss) in plans.iter().zip(&losses) {
            if self.state.best.as_ref().is_none_or(|(best, _)| loss < *best) {
                self.state.best = Some((loss, plan.clone()));
            }
        }
        let done = losses.len() < plans.len() || self.state.drawn >= self.plans;
        if done && let Some((_, plan)) = &self.state.best {
            oracle.propose(NAME, "best of the draws", plan)?;
        }
        let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        Ok(Progress { done, loss: (!losses.is_empty()).then_some(mean), ..Progress::default() })
    }

    fn wind_up(&mut self) {
        self.plans = self.state.drawn;
    }

    fn save(&self) -> Result<Value, SearchError> {
        to_json(NAME, &self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        self.state = from_json(NAME, state)?;
        Ok(())
    }
}
