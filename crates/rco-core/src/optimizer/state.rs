//! The state of the optimiser between two steps.

use serde::{Deserialize, Serialize};

use super::{Adam, OptimizerError};

/// Everything that a run needs to continue to the bit: random numbers are functions of
/// seed and step, so none are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RcoState {
    /// Steps taken.
    pub step: u64,
    /// Logits, in the flat order of the decisions.
    pub logits: Vec<f64>,
    /// Moments of Adam.
    pub adam: Adam,
    /// Which budgets hold with equality, one for each resource.
    pub tight: Vec<bool>,
    /// Running mean of each budget's Lagrange multiplier while it is tight.
    pub price: Vec<f64>,
}

impl RcoState {
    /// Checks lengths and that all numbers are finite.
    pub(super) fn check(&self, dimension: usize, resources: usize) -> Result<(), OptimizerError> {
        let lengths = [
            ("the list of logits", self.logits.len(), dimension),
            ("the first moment", self.adam.first.len(), dimension),
            ("the second moment", self.adam.second.len(), dimension),
            ("the list of tight budgets", self.tight.len(), resources),
            ("the list of prices", self.price.len(), resources),
        ];
        for (what, found, expected) in lengths {
            if found != expected {
                return Err(OptimizerError::Length { what, expected, found });
            }
        }
        let lists: [(&'static str, &[f64]); 4] = [
            ("the list of logits", &self.logits),
            ("the first moment", &self.adam.first),
            ("the second moment", &self.adam.second),
            ("the list of prices", &self.price),
        ];
        for (what, list) in lists {
            check_finite(what, list)?;
        }
        Ok(())
    }
}

pub(super) fn check_finite(what: &'static str, list: &[f64]) -> Result<(), OptimizerError> {
    match list.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(OptimizerError::NotFinite { what, index, value: list[index] }),
        None => Ok(()),
    }
}
