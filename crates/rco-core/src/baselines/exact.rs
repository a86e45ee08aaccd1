//! The exact knapsack on the losses of a separable objective.

use serde_json::Value;

use crate::search::{Method, MethodName, Oracle, Progress, Sample, SearchError};

const NAME: MethodName = MethodName::Exact;

/// Solves a separable problem with proof. It proposes nothing for an objective
/// that is not separable.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exact;

impl Method for Exact {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        if !oracle.is_separable() {
            return Err(SearchError::NotSeparable);
        }
        let scores = oracle.proxy_scores()?.ok_or(SearchError::SeparableWithoutScores)?;
        let values: Vec<f64> = scores.iter().map(|s| -s).collect();
        let (plan, certificate) = oracle.certified_knapsack(&values)?;
        oracle.propose(NAME, "exact knapsack", &plan)?;
        oracle.set_certificate(certificate);
        let loss = oracle.losses(NAME, &[plan], Sample::Calibration)?.pop();
        Ok(Progress { done: true, loss, ..Progress::default() })
    }

    fn wind_up(&mut self) {}

    fn save(&self) -> Result<Value, SearchError> {
        Ok(Value::Null)
    }

    fn restore(&mut self, _state: Value) -> Result<(), SearchError> {
        Ok(())
    }
}
