//! The exact knapsack on separable scores: the usual practice of sensitivity-based
//! mixed precision (an integer program over per-layer scores, as HAWQ-V3, Yao et
//! al. 2021, has it).

use serde_json::Value;

use super::scores::{Estimator, ScoreSettings, estimator_price};
use crate::search::{Method, MethodName, Oracle, Progress, SearchError, from_json, to_json};

const NAME: MethodName = MethodName::Proxy;

/// Solves the separable stand-in exactly. The scores are those of the objective
/// or averaged option gradients, and stay with the oracle for the methods after it.
#[derive(Debug)]
pub struct Proxy {
    settings: ScoreSettings,
    state: Estimator,
}

impl Proxy {
    /// Ready for its first step.
    pub fn new(settings: ScoreSettings) -> Self {
        Self { settings, state: Estimator::default() }
    }
}

impl Method for Proxy {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(estimator_price(&self.settings))
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let (loss, done) = self.state.step(oracle, NAME, self.settings.points)?;
        Ok(Progress { done, loss, ..Progress::default() })
    }

    fn wind_up(&mut self) {
        self.state.wind_up();
    }

    fn save(&self) -> Result<Value, SearchError> {
        to_json(NAME, &self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        self.state = from_json(NAME, state)?;
        Ok(())
    }
}
