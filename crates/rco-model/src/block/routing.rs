//! Which experts each token goes to.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{MlpConfig, ModelConfig};
use crate::error::ModelError;

/// Experts that a plan drops, by block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DroppedExperts {
    layers: BTreeMap<usize, Vec<usize>>,
}

impl DroppedExperts {
    /// Drops pairs of block and expert.
    ///
    /// # Errors
    /// An expert that does not exist, or fewer left in a block than a token is sent to.
    pub fn new(
        config: &ModelConfig,
        experts: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<Self, ModelError> {
        let mut layers: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (layer, expert) in experts {
            let count = config.blocks.get(layer).map_or(0, |b| match b.mlp {
                MlpConfig::Experts { experts, .. } => experts,
                MlpConfig::Dense { .. } => 0,
            });
            if expert >= count {
                return Err(ModelError::NoSuchExpert { layer, expert, experts: count });
            }
            layers.entry(layer).or_default().insert(expert);
        }
        for (&layer, dropped) in &layers {
            if let MlpConfig::Experts { experts, per_token, .. } = config.blocks[layer].mlp {
                let kept = experts - dropped.len();
                if kept < per_token {
                    return Err(ModelError::TooFewExperts { layer, kept, per_token });
                }
            }
        }
        let layers = layers.into_iter().map(|(l, set)| (l, set.into_iter().collect())).collect();
        Ok(Self { layers })
    }

    /// Dropped experts of a block, ascending.
    pub fn of(&self, layer: usize) -> &[usize] {
        self.layers.get(&layer).map_or(&[], Vec::as_slice)
    }
}

/// The experts of one token and their weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    /// Expert and weight, the largest first.
    pub(super) chosen: Vec<(usize, f64)>,
    /// Softmax of the router over the experts that remain; 0 for dropped ones.
    pub(super) probs: Vec<f64>,
    /// What the weights were divided by.
    divisor: f64,
    renormalise: bool,
}

impl Route {
    /// Softmax over the experts that are not `dropped` — as if the router had no rows for
    /// the others — then the largest `per_token`; of equal ones the first.
    pub(super) fn new(
        logits: &[f64],
        dropped: &[usize],
        per_token: usize,
        renormalise: bool,
    ) -> Self {
        let mut kept: Vec<usize> = (0..logits.len()).filter(|e| !dropped.contains(e)).collect();
        let max = kept.iter().map(|&e| logits[e]).fold(f64::NEG_INFINITY, f64::max);
        let mut probs = vec![0.0; logits.len()];
        for &e in &kept {
            probs[e] = (logits[e] - max).exp();
        }
        let sum: f64 = probs.iter().sum();
        for p in &mut probs {
            *p /= sum;
        }

        kept.sort_by(|&a, &b| probs[b].total_cmp(&probs[a]).then(a.cmp(&b)));
        kept.truncate(per_token);
        let divisor = if renormalise { kept.iter().map(|&e| probs[e]).sum() } else { 1.0 };
        let chosen = kept.into_iter().map(|e| (e, probs[e] / divisor)).collect();
        Self { chosen, probs, divisor, renormalise }
    }

    /// Gradient at the logits from the gradients `g` at the weights, in the order of
    /// `chosen`. The choice itself is taken as constant.
    pub(super) fn backward(&self, g: &[f64]) -> Vec<f64> {
        let mean: f64 = if self.renormalise {
            self.chosen.iter().zip(g).map(|((_, w), g)| w * g).sum()
        } else {
            0.0
        };
        // At the probabilities.
        let mut out = vec![0.0; self.probs.len()];
        for ((e, _), g) in self.chosen.iter().zip(g) {
            out[*e] = (g - mean) / self.divisor;
        }
        // Through the softmax.
        let mean: f64 = out.iter().zip(&self.probs).map(|(g, p)| g * p).sum();
        for (g, p) in out.iter_mut().zip(&self.probs) {
            *g = p * (*g - mean);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Route;

    const LOGITS: [f64; 5] = [0.3, 1.2, -0.4, 0.9, 1.1];

    #[test]
    fn a_dropped_expert_is_routed_around_as_if_it_never_was() {
        let route = Route::new(&LOGITS, &[1], 2, false);
        let smaller = Route::new(&[0.3, -0.4, 0.9, 1.1], &[], 2, false);
        let renumbered: Vec<_> =
            smaller.chosen.iter().map(|&(e, w)| (if e > 0 { e + 1 } else { e }, w)).collect();
        assert_eq!(route.chosen, renumbered);
        assert!(route.backward(&[0.5, -0.7])[1] == 0.0);
    }

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let g = [0.7, -1.3];
        for renormalise in [false, true] {
            let value = |logits: &[f64]| -> f64 {
                let route = Route::new(logits, &[2], 2, renormalise);
                route.chosen.iter().zip(g).map(|((_, w), g)| w * g).sum()
            };
            let analytic = Route::new(&LOGITS, &[2], 2, renormalise).backward(&g);
            for e in 0..5 {
                let shifted = |h: f64| {
                    let mut logits = LOGITS;
                    logits[e] += h;
                    value(&logits)
                };
                let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                assert!((numeric - analytic[e]).abs() < 1e-9, "{e}: {numeric} {}", analytic[e]);
            }
        }
    }

    #[test]
    fn equal_experts_are_taken_in_their_order() {
        let route = Route::new(&[1.0, 1.0, 1.0], &[], 2, true);
        assert_eq!(route.chosen, [(0, 0.5), (1, 0.5)]);
    }
}
