//! Temperature schedule.

use serde::{Deserialize, Serialize};

/// Geometric annealing: `τ_t = start · (end / start)^(t / (steps − 1))`, and `end` from
/// the last step on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Anneal {
    /// Temperature of step 0.
    pub start: f64,
    /// Temperature of the last step.
    pub end: f64,
    /// Number of steps.
    pub steps: u64,
}

impl Anneal {
    /// Temperature of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step == 0 && self.steps > 1 {
            return self.start;
        }
        if step + 1 >= self.steps {
            return self.end;
        }
        let share = step as f64 / (self.steps - 1) as f64;
        self.start * (self.end / self.start).powf(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_by_equal_ratios_from_start_to_end_and_stays() {
        let anneal = Anneal { start: 1.0, end: 0.01, steps: 5 };
        let ratio = anneal.at(1) / anneal.at(0);
        for t in 1..4 {
            assert!((anneal.at(t + 1) / anneal.at(t) - ratio).abs() < 1e-12);
        }
        assert_eq!(anneal.at(0), 1.0);
        assert_eq!(anneal.at(4), 0.01);
        assert_eq!(anneal.at(u64::MAX - 1), 0.01);
    }

    #[test]
    fn a_single_step_is_at_the_end() {
        assert_eq!(Anneal { start: 1.0, end: 0.1, steps: 1 }.at(0), 0.1);
    }
}
