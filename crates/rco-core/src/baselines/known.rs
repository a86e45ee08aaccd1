//! Plans that the caller knows from elsewhere.

use serde_json::Value;

use super::uniform::relative_costs;
use crate::search::fill::fill;
use crate::search::{Method, MethodName, Oracle, Progress, Sample, SearchError};

const NAME: MethodName = MethodName::Known;

/// The plans of [`crate::search::Objective::known_plans`] that keep the budgets, as they
/// are and filled up to the budget by the scores at hand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known;

impl Method for Known {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let values: Vec<f64> = match oracle.proxy_scores()? {
            Some(scores) => scores.iter().map(|s| -s).collect(),
            None => relative_costs(oracle),
        };
        let mut plans: Vec<Vec<u32>> = Vec::new();
        for (origin, plan) in oracle.known_plans() {
            if !oracle.is_feasible(&plan) {
                continue;
            }
            let mut filled = plan.clone();
            fill(oracle, &values, &mut filled);
            oracle.propose(NAME, &origin, &plan)?;
            if filled != plan {
                oracle.propose(NAME, &format!("{origin}, filled to the budget"), &filled)?;
                plans.push(filled);
            }
            plans.push(plan);
        }
        let losses = oracle.losses(NAME, &plans, Sample::Calibration)?;
        let best = losses.into_iter().min_by(f64::total_cmp);
        Ok(Progress { done: true, loss: best, ..Progress::default() })
    }

    fn wind_up(&mut self) {}

    fn save(&self) -> Result<Value, SearchError> {
        Ok(Value::Null)
    }

    fn restore(&mut self, _state: Value) -> Result<(), SearchError> {
        Ok(())
    }
}
