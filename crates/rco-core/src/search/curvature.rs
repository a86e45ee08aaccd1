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
                rest.iter_mut().for_each(|r| *r *= scale);
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
