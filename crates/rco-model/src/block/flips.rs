//! What it would do to the loss to drop or take back single experts.
//!
//! With `G` the gradient at the output `y` of the experts, dropping or taking back expert
//! `e` changes the loss by `⟨G, Δy⟩` to first order. Here `Δy` is exact: the token is routed
//! anew, weights are renormalised as the architecture does, and all outputs that the new
//! mixture needs have been computed. The estimate is of first order only in what `Δy` does to
//! the rest of the model. A derivative with respect to a mask that multiplies the weight of
//! an expert is of first order in the mask as well, and a mask goes all the way from 1 to 0:
//! it knows neither the expert that steps in nor that the others' weights grow.
//!
//! Every product `⟨G, output⟩` is taken once for each pair of a token and an expert; a change
//! of the mixture is then a handful of numbers, and no vector is formed for it.

use candle_core::{D, DType, Device, Tensor};

use super::routing::Route;
use super::{Block, Emitter};
use crate::config::MlpConfig;
use crate::error::ModelError;
use crate::key::WeightKind;
use crate::ops::linear;

/// How the change of the loss is estimated when an expert is dropped or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlipForm {
    /// `⟨G, Δy⟩` with the exact change of the mixture.
    #[default]
    Exact,
    /// The derivative with respect to a mask on the weights of the mixture, which are not
    /// divided anew. For comparison.
    Unnormalised,
    /// The derivative with respect to a mask on the weights before they are divided by their
    /// sum. For comparison: among two experts of a token what one loses the other gains.
    Renormalised,
}

/// Estimates for all experts of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertFlips {
    /// The block.
    pub layer: usize,
    /// Number of experts.
    pub experts: usize,
    /// Change of the loss (the mean over all tokens of the batch) that comes from each
    /// sequence when expert `e` is dropped, or taken back if it is dropped:
    /// `values[sequence · experts + e]`.
    pub values: Vec<f64>,
}

impl ExpertFlips {
    /// Change of the loss for each expert.
    pub fn totals(&self) -> Vec<f64> {
        let mut out = vec![0.0; self.experts];
        for sequence in self.values.chunks(self.experts.max(1)) {
            for (sum, value) in out.iter_mut().zip(sequence) {
                *sum += value;
            }
        }
        out
    }
}

/// A token's mixture and what it would be after single changes.
struct Mix<'a> {
    /// `exp(logit − largest)` of every expert.
    exps: Vec<f64>,
    /// Sum over the experts that are not dropped.
    sum: f64,
    /// Those, the largest first.
    order: Vec<usize>,
    is_kept: &'a [bool],
    per_token: usize,
    renormalise: bool,
}

impl<'a> Mix<'a> {
    fn new(logits: &[f64], is_kept: &'a [bool], per_token: usize, renormalise: bool) -> Self {
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exps: Vec<f64> = logits.iter().map(|z| (z - largest).exp()).collect();
        let mut order: Vec<usize> = (0..logits.len()).filter(|&e| is_kept[e]).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let sum = order.iter().map(|&e| exps[e]).sum();
        Self { exps, sum, order, is_kept, per_token, renormalise }
    }

    fn chosen(&self) -> &[usize] {
        &self.order[..self.per_token.min(self.order.len())]
    }

    /// Whether a dropped expert would be chosen if it were there.
    fn would_be_chosen(&self, e: usize) -> bool {
        match self.chosen().last() {
            Some(&last) if self.order.len() >= self.per_token => {
                let (new, old) = (self.exps[e], self.exps[last]);
                new > old || new == old && e < last
            }
            _ => true,
        }
    }

    /// Experts beside the chosen ones whose outputs some change needs.
    fn besides(&self) -> impl Iterator<Item = usize> + '_ {
        let next = self.order.get(self.per_token).copied();
        let back = (0..self.exps.len()).filter(|&e| !self.is_kept[e] && self.would_be_chosen(e));
        next.into_iter().chain(back)
    }

    /// `Σ weight · part` over a mixture of `chosen` when the kept experts sum to `sum`.
    fn mixture(
        &self,
        chosen: impl Iterator<Item = usize> + Clone,
        sum: f64,
        part: &impl Fn(usize) -> f64,
    ) -> f64 {
        let divisor =
            if self.renormalise { chosen.clone().map(|e| self.exps[e]).sum() } else { sum };
        if divisor > 0.0 {
            chosen.map(|e| self.exps[e] * part(e)).sum::<f64>() / divisor
        } else {
            0.0
        }
    }

    /// The mixture of the numbers `part` after expert `e` was dropped or taken back, minus
    /// that before.
    fn change(&self, e: usize, part: &impl Fn(usize) -> f64) -> f64 {
        let chosen = self.chosen();
        let now = self.mixture(chosen.iter().copied(), self.sum, part);
        let then = if self.is_kept[e] {
            let sum = self.sum - self.exps[e];
            if chosen.contains(&e) {
                let more = self.order.get(self.per_token);
                let without = chosen.iter().chain(more).copied().filter(|&other| other != e);
                self.mixture(without, sum, part)
            } else {
                self.mixture(chosen.iter().copied(), sum, part)
            }
        } else {
            let sum = self.sum + self.exps[e];
            if self.would_be_chosen(e) {
                let stay = chosen.len().min(self.per_token - 1);
                self.mixture(chosen[..stay].iter().copied().chain([e]), sum, part)
            } else {
                self.mixture(chosen.iter().copied(), sum, part)
            }
        };
        then - now
    }

    /// The derivative with respect to a mask, times the change of the mask.
    fn slope(&self, e: usize, renormalised: bool, part: &impl Fn(usize) -> f64) -> f64 {
        let chosen = self.chosen();
        let at_work = chosen.contains(&e);
        // A dropped expert counts if it is among the first of all experts.
        let better = (0..self.exps.len()).filter(|&other| {
            self.exps[other] > self.exps[e] || self.exps[other] == self.exps[e] && other < e
        });
        if !at_work && (self.is_kept[e] || better.count() >= self.per_token) {
            return 0.0;
        }
        let divisor =
            if self.renormalise { chosen.iter().map(|&e| self.exps[e]).sum() } else { self.sum };
        let mean = if renormalised && self.renormalise {
            self.mixture(chosen.iter().copied(), self.sum, part)
        } else {
            0.0
        };
        let slope = self.exps[e] / divisor * (part(e) - mean);
        if at_work { -slope } else { slope }
    }
}

impl Block<'_> {
    /// Estimates what single changes of the experts do to the loss, if that is wanted. `g` is
    /// the gradient at the output of the experts, and `own` gives its product with the output
    /// of the j-th expert of a token.
    pub(super) fn flips(
        &self,
        x: &Tensor,
        g: &Tensor,
        routes: &[Route],
        own: &dyn Fn(usize, usize) -> f64,
        emit: &mut Emitter<'_>,
    ) -> Result<(), ModelError> {
        let layer = self.weights.layer();
        let MlpConfig::Experts { experts, per_token, renormalise, .. } = self.config.mlp else {
            return Ok(());
        };
        let Some(form) = emit.flip_form(layer) else { return Ok(()) };
        let is_kept: Vec<bool> = (0..experts).map(|e| !self.dropped.contains(&e)).collect();
        let logits = linear(x, self.weights.get(WeightKind::Router)?, None)?;
        let logits: Vec<Vec<f64>> = logits.to_dtype(DType::F64)?.to_vec2()?;
        let tokens: Vec<Mix<'_>> = logits
            .iter()
            .map(|logits| Mix::new(logits, &is_kept, per_token, renormalise))
            .collect();

        // Products of the gradient with the outputs of experts, by token.
        let mut parts: Vec<Vec<(usize, f64)>> = routes
            .iter()
            .enumerate()
            .map(|(t, route)| {
                let chosen = route.chosen.iter().enumerate();
                chosen.map(|(j, &(e, _))| (e, own(t, j))).collect()
            })
            .collect();
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); experts];
        for (t, token) in tokens.iter().enumerate() {
            for e in token.besides() {
                members[e].push(t as u32);
            }
        }
        for (e, members) in members.into_iter().enumerate().filter(|(_, m)| !m.is_empty()) {
            let index = Tensor::from_slice(&members, members.len(), x.device())?;
            let rows = x.index_select(&index, 0)?;
            let key = |kind| self.weights.expert_key(e, kind);
            let output = self.gated_output(&self.gated_forward(&rows, key)?, key)?;
            let products = (g.index_select(&index, 0)? * output)?.sum(D::Minus1)?;
            let products: Vec<f64> =
                products.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?;
            for (&t, product) in members.iter().zip(products) {
                parts[t as usize].push((e, product));
            }
        }

        let mut values = vec![0.0; self.sequences * experts];
        for (t, (token, parts)) in tokens.iter().zip(&parts).enumerate() {
            let part = |e: usize| {
                parts.iter().find(|(other, _)| *other == e).map_or(0.0, |(_, product)| *product)
            };
            let sequence = &mut values[t / self.len * experts..][..experts];
            for (e, value) in sequence.iter_mut().enumerate() {
                *value += match form {
                    FlipForm::Exact => token.change(e, &part),
                    FlipForm::Unnormalised => token.slope(e, false, &part),
                    FlipForm::Renormalised => token.slope(e, true, &part),
                };
            }
        }
        emit.flips(&ExpertFlips { layer, experts, values })
    }
}

#[cfg(test)]
mod tests {
    use super::{Mix, Route};

    const LOGITS: [f64; 6] = [0.3, 1.2, -0.4, 0.9, 1.1, 0.3];
    const PARTS: [f64; 6] = [0.7, -1.3, 0.4, 2.0, -0.2, 5.0];

    fn mixture(dropped: &[usize], per_token: usize, renormalise: bool) -> f64 {
        let route = Route::new(&LOGITS, dropped, per_token, renormalise);
        route.chosen.iter().map(|&(e, w)| w * PARTS[e]).sum()
    }

    #[test]
    fn a_change_is_that_of_routing_anew() {
        for dropped in [&[][..], &[1], &[1, 4], &[0, 2, 3]] {
            for (per_token, renormalise) in [(1, true), (2, true), (2, false), (3, false)] {
                let kept: Vec<bool> = (0..6).map(|e| !dropped.contains(&e)).collect();
                let token = Mix::new(&LOGITS, &kept, per_token, renormalise);
                let before = mixture(dropped, per_token, renormalise);
                for (e, is_kept) in kept.iter().enumerate() {
                    let mut then: Vec<usize> =
                        dropped.iter().copied().filter(|&d| d != e).collect();
                    if *is_kept {
                        then.push(e);
                    }
                    let expected = mixture(&then, per_token, renormalise) - before;
                    let found = token.change(e, &|e| PARTS[e]);
                    assert!(
                        (found - expected).abs() < 1e-12,
                        "{dropped:?} {e}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_outputs_that_changes_need_are_asked_for() {
        let kept = [true, false, true, true, false, true];
        let token = Mix::new(&LOGITS, &kept, 2, true);
        // Chosen are 3 and 0 (before 5, its equal); 5 is next; 1 and 4 would be chosen.
        assert_eq!(token.chosen(), [3, 0]);
        assert_eq!(token.besides().collect::<Vec<_>>(), [5, 1, 4]);
        let known = [3, 0, 5, 1, 4];
        for e in 0..6 {
            let part = |e: usize| {
                assert!(known.contains(&e), "{e} is missing");
                PARTS[e]
            };
            token.change(e, &part);
        }
    }

    #[test]
    fn masks_give_derivatives_and_no_more() {
        let kept = [true, false, true, true, true, true];
        let token = Mix::new(&LOGITS, &kept, 2, true);
        let part = |e: usize| PARTS[e];
        // Chosen are 4 and 3. A mask m on expert 4 before the division:
        let (a, b) = (LOGITS[4].exp(), LOGITS[3].exp());
        let mixture = |m: f64| (m * a * PARTS[4] + b * PARTS[3]) / (m * a + b);
        let slope = (mixture(1.0 + 1e-6) - mixture(1.0 - 1e-6)) / 2e-6;
        assert!((token.slope(4, true, &part) + slope).abs() < 1e-6);
        assert!((token.slope(4, false, &part) + a / (a + b) * PARTS[4]).abs() < 1e-12);
        // The dropped one would be the first; the fifth of all has no slope.
        assert!(
            (token.slope(1, false, &part) - LOGITS[1].exp() / (a + b) * PARTS[1]).abs() < 1e-12
        );
        assert_eq!(token.slope(0, false, &part), 0.0);
    }
}
