//! How often the objective was asked.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Evaluations of the objective, each entry of a batch counted once.
///
/// A loss that is known already (a deterministic objective at a plan seen before)
/// is not counted, for the objective is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Losses with option gradient, one draw each.
    pub gradients: u64,
    /// Losses on single draws: a loss over `count` draws counts `count`.
    pub draws: u64,
    /// Losses on the calibration split, one for each plan.
    pub calibration: u64,
    /// Losses on the held-out split, one for each plan. They only select.
    pub heldout: u64,
}

impl Counts {
    /// What the limit of evaluations limits: everything that the search learns
    /// from, so all but the held-out losses.
    pub fn limited(&self) -> u64 {
        self.gradients + self.draws + self.calibration
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.gradients += other.gradients;
        self.draws += other.draws;
        self.calibration += other.calibration;
        self.heldout += other.heldout;
    }
}
