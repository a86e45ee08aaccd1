//! Start logits from separable scores.

use crate::decisions::Decisions;

/// Logits `−score / s`. Retracted along the cost they tend to the separable optimum
/// as `s → 0`. The scale `s` is such that the median standard deviation of the
/// logits within a decision is `spread`; decisions that do not care (equal scores)
/// do not count.
pub(crate) fn start_logits(decisions: &Decisions, scores: &[f64], spread: f64) -> Vec<f64> {
    let mut deviations: Vec<f64> = (0..decisions.len())
        .map(|d| deviation(&scores[decisions.options_of(d)]))
        .filter(|&deviation| deviation > 0.0)
        .collect();
    if deviations.is_empty() {
        return vec![0.0; scores.len()];
    }
    let middle = deviations.len() / 2;
    let (_, &mut median, _) = deviations.select_nth_unstable_by(middle, f64::total_cmp);
    let mut logits: Vec<f64> = scores.iter().map(|s| -s * (spread / median)).collect();
    for d in 0..decisions.len() {
        let logits = &mut logits[decisions.options_of(d)];
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // A decision far more sensitive than the median is decided all the same;
        // larger differences would only cost digits.
        for z in logits {
            *z = (*z - top).max(-LARGEST_DIFFERENCE);
        }
    }
    logits
}

/// Largest difference of start logits within a decision.
const LARGEST_DIFFERENCE: f64 = 500.0;

fn deviation(values: &[f64]) -> f64 {
    let share = 1.0 / values.len() as f64;
    let mean = values.iter().sum::<f64>() * share;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() * share).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::testing::{Spec, problem};

    #[test]
    fn better_scores_get_larger_logits_at_the_wanted_spread() {
        let problem = problem(&Spec { groups: 9, options: 3, ..Spec::default() });
        let scores: Vec<f64> = (0..27).map(|j| f64::from(j % 3)).collect();
        let logits = start_logits(problem.decisions(), &scores, 2.0);
        assert!(logits[0] > logits[1] && logits[1] > logits[2]);
        assert!((deviation(&logits[..3]) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn scores_without_any_difference_start_flat() {
        let problem = problem(&Spec::default());
        let count = problem.decisions().option_count();
        let logits = start_logits(problem.decisions(), &vec![3.5; count], 2.0);
        assert!(logits.iter().all(|&z| z == 0.0));
    }
}
