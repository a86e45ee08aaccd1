//! The stopping rule "no improvement".

use serde::{Deserialize, Serialize};

/// Weight of a new loss in the smoothed one of a stochastic objective.
const SMOOTHING: f64 = 0.1;

/// Steps since the loss has last improved.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Patience {
    best: Option<f64>,
    smoothed: Option<f64>,
    stale: u64,
}

impl Patience {
    /// Notes a step; returns the number of steps without improvement.
    ///
    /// A deterministic objective is judged by `best`, the best plan so far. Draws
    /// of a stochastic one are too noisy for that: there the mean of the `losses`
    /// of the steps, exponentially forgotten, has to fall.
    pub(crate) fn note(
        &mut self,
        deterministic: bool,
        best: Option<f64>,
        loss: Option<f64>,
    ) -> u64 {
        let current = if deterministic {
            best
        } else {
            if let Some(loss) = loss {
                let before = self.smoothed.unwrap_or(loss);
                self.smoothed = Some(before + SMOOTHING * (loss - before));
            }
            self.smoothed
        };
        let improved = match (current, self.best) {
            (Some(current), Some(best)) => current < best,
            (Some(_), None) => true,
            _ => false,
        };
        if improved {
            self.best = current;
            self.stale = 0;
        } else {
            self.stale += 1;
        }
        self.stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_without_a_better_plan_are_counted() {
        let mut patience = Patience::default();
        let stale: Vec<u64> =
            [3.0, 2.0, 2.0, 2.5, 1.0].map(|b| patience.note(true, Some(b), None)).to_vec();
        assert_eq!(stale, [0, 0, 1, 2, 0]);
    }

    #[test]
    fn one_lucky_draw_does_not_stop_a_falling_stochastic_loss() {
        let mut patience = Patience::default();
        let losses = [1.0, 0.2, 0.9, 0.88, 0.86, 0.84, 0.8, 0.75, 0.7];
        let worst = losses.iter().map(|&l| patience.note(false, None, Some(l))).max();
        assert!(worst.unwrap() < 5);
    }
}
