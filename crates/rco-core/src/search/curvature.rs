//! A quadratic model of the loss, learnt from option gradients at several plans.

use serde::{Deserialize, Serialize};

use crate::decisions::Decisions;

/// Numbers that a [`GradientHistory`] holds at most; it is part of every checkpoint.
const MOST_NUMBERS: usize = 1 << 18;
/// Gradients that it holds at most.
const MOST_GRADIENTS: usize = 256;
/// A history with fewer gradients is not worth its memory.
const LEAST_GRADIENTS: usize = 8;
/// An update is left out if its denominator is smaller than this share of what it
/// could be, or if it changes nothing beyond rounding.
const LEAST_CURVATURE: f64 = 1e-6;

/// The last option gradients of a deterministic objective, no plan twice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct GradientHistory {
    entries: Vec<(Vec<u32>, Vec<f64>)>,
    capacity: usize,
}

impl GradientHistory {
    /// For `options` options; it stays empty where they are too many to keep.
    pub(crate) fn new(options: usize) -> Self {
        let fit = (MOST_NUMBERS / options.max(1)).min(MOST_GRADIENTS);
        let capacity = if fit < LEAST_GRADIENTS { 0 } else { fit };
        Self { entries: Vec::new(), capacity }
    }

    pub(crate) fn record(&mut self, plan: &[u32], gradient: &[f64]) {
        if self.capacity == 0 || self.find(plan).is_some() {
            return;
        }
        if self.entries.len() == self.capacity {
            self.entries.remove(0);
        }
        self.entries.push((plan.to_vec(), gradient.to_vec()));
    }

    /// Whether gradients are remembered at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.capacity > 0
    }

    /// The gradient at a plan.
    pub(crate) fn find(&self, plan: &[u32]) -> Option<&[f64]> {
        self.entries.iter().find(|(known, _)| known == plan).map(|(_, gradient)| &**gradient)
    }
}

/// `L(x) ≈ L(base) + ⟨g, x − base⟩ + ½ Σ_m sign_m ⟨f_m, x − base⟩²`, with plans as one-hot
/// vectors.
///
/// The curvature is that of symmetric rank-one updates (Broyden 1967; see Nocedal and
/// Wright, Numerical Optimization, 6.2): each gradient at another plan tells how the
/// matrix acts on the difference of the plans. Where the loss is quadratic the model is
/// exact on everything that these differences span.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// Derivatives relative to the option of the base in each decision.
    pub(super) gradient: Vec<f64>,
    /// `f_m` of every option: `signs.len()` numbers for each.
    pub(super) vectors: Vec<f64>,
    pub(super) signs: Vec<f64>,
}

impl Model {
    /// Fits the model at `base`, where the gradient is known.
    pub(crate) fn fit(
        decisions: &Decisions,
        history: &GradientHistory,
        base: &[u32],
        gradient: &[f64],
    ) -> Self {
        // A constant added to the derivatives of one decision means nothing, and
        // objectives may add a different one at every plan.
        let relative = |gradient: &[f64]| -> Vec<f64> {
            let mut out = gradient.to_vec();
            for (d, &k) in base.iter().enumerate() {
                let range = decisions.options_of(d);
                let own = gradient[range.start + k as usize];
                out[range].iter_mut().for_each(|g| *g -= own);
            }
            out
        };
        let gradient = relative(gradient);
        let mut updates: Vec<Vec<f64>> = Vec::new();
        let mut signs = Vec::new();
        for (plan, found) in &history.entries {
            let moved: Vec<usize> = (0..base.len())
                .filter(|&d| plan[d] != base[d])
                .map(|d| decisions.offsets()[d] + plan[d] as usize)
                .collect();
            if moved.is_empty() {
                continue;
            }
            let along = |vector: &[f64]| moved.iter().map(|&j| vector[j]).sum::<f64>();
            let mut rest = relative(found);
            rest.iter_mut().zip(&gradient).for_each(|(r, g)| *r -= g);
            let size = norm(&rest);
            for (update, sign) in updates.iter().zip(&signs) {
                let factor = sign * along(update);
                rest.iter_mut().zip(update).for_each(|(r, f)| *r -= factor * f);
            }
            let curvature = along(&rest);
            let left = norm(&rest);
            let enough = LEAST_CURVATURE * left * (moved.len() as f64).sqrt();
            if left > LEAST_CURVATURE * size && curvature.abs() > enough {
                let scale = 1.0 / curvature.abs().sqrt();
                for r in &mut rest {
                    *r *= scale;
                }
                signs.push(curvature.signum());
                updates.push(rest);
            }
        }
        let rank = signs.len();
        let mut vectors = vec![0.0; gradient.len() * rank];
        for (m, update) in updates.iter().enumerate() {
            for (j, &f) in update.iter().enumerate() {
                vectors[j * rank + m] = f;
            }
        }
        Self { gradient, vectors, signs }
    }

    /// `f` of one option.
    pub(super) fn vector(&self, flat: usize) -> &[f64] {
        let rank = self.signs.len();
        &self.vectors[flat * rank..(flat + 1) * rank]
    }

    /// Predicted change of the loss when the base moves to the options `to` (flat), one
    /// for each decision that changes.
    pub(crate) fn predict(&self, to: &[usize]) -> f64 {
        let linear: f64 = to.iter().map(|&j| self.gradient[j]).sum();
        let bent: f64 = (0..self.signs.len())
            .map(|m| {
                let along: f64 = to.iter().map(|&j| self.vector(j)[m]).sum();
                self.signs[m] * along * along
            })
            .sum();
        linear + 0.5 * bent
    }
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::search::testing::{Spec, Synthetic, feasible, problem};
    use crate::search::{Draw, Objective};

    #[test]
    fn a_quadratic_loss_is_learnt_exactly_whatever_constants_the_gradients_carry() {
        let problem = problem(&Spec { groups: 5, options: 3, seed: 4, ..Spec::default() });
        let decisions = problem.decisions();
        let mut objective = Synthetic::quadratic(&problem, 4);
        let mut random = stream(4, Purpose::Instance, 7);
        let mut history = GradientHistory::new(decisions.option_count());
        let plans: Vec<Vec<u32>> = (0..60)
            .map(|_| (0..decisions.len()).map(|_| random.below(3) as u32).collect())
            .collect();
        for plan in &plans {
            let found = objective.evaluate(&decisions.expand(plan), Draw(0)).unwrap();
            let mut gradient = found.gradient;
            for d in 0..decisions.len() {
                let constant = random.normal();
                gradient[decisions.options_of(d)].iter_mut().for_each(|g| *g += constant);
            }
            history.record(plan, &gradient);
        }
        let base = plans[0].clone();
        let model = Model::fit(decisions, &history, &base, history.find(&base).unwrap());
        let truth = objective.truth(&decisions.expand(&base));
        for assignment in feasible(&problem) {
            let plan = decisions.restrict(&assignment);
            let to: Vec<usize> = (0..plan.len())
                .filter(|&d| plan[d] != base[d])
                .map(|d| decisions.offsets()[d] + plan[d] as usize)
                .collect();
            let change = objective.truth(&assignment) - truth;
            let predicted = model.predict(&to);
            assert!((predicted - change).abs() < 1e-6, "{plan:?}: {predicted} {change}");
        }
    }

    #[test]
    fn a_history_forgets_the_oldest_and_is_empty_where_options_are_many() {
        let mut history = GradientHistory::new(MOST_NUMBERS / LEAST_GRADIENTS);
        for k in 0..10 {
            history.record(&[k], &[f64::from(k)]);
            history.record(&[k], &[0.0]);
        }
        assert_eq!(history.find(&[1]), None);
        assert_eq!(history.find(&[2]), Some(&[2.0][..]));
        let mut history = GradientHistory::new(MOST_NUMBERS / LEAST_GRADIENTS + 1);
        history.record(&[0], &[1.0]);
        assert_eq!(history.find(&[0]), None);
    }

    #[test]
    fn equal_gradients_everywhere_make_a_linear_model() {
        let problem = problem(&Spec { groups: 4, options: 3, ..Spec::default() });
        let gradient: Vec<f64> = (0..12).map(f64::from).collect();
        let mut history = GradientHistory::new(12);
        for plan in [[0, 0, 0, 0], [1, 2, 0, 1], [2, 2, 2, 2]] {
            history.record(&plan, &gradient);
        }
        let model = Model::fit(problem.decisions(), &history, &[0, 0, 0, 0], &gradient);
        assert_eq!(model.signs.len(), 0);
        assert_eq!(model.predict(&[2, 4]), 3.0);
    }
}
