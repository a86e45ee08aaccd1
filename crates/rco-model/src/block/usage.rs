//! How experts are used: what rankings of experts are made of.

use candle_core::{D, DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::Block;
use super::mlp::MlpState;
use crate::error::ModelError;
use crate::key::WeightKind;

/// How an expert was used; sums over tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ExpertUse {
    /// Tokens that were sent to it.
    pub tokens: u64,
    /// Its probability in the router's softmax, over all tokens.
    pub probability: f64,
    /// Its weight in the mixture, over the tokens that were sent to it.
    pub weight: f64,
    /// Weight times the norm of its output, over the same tokens.
    pub contribution: f64,
}

impl ExpertUse {
    /// Mean contribution over the tokens that were sent to it (REAP, arXiv 2510.13999); 0
    /// without any.
    pub fn saliency(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.contribution / self.tokens as f64 }
    }

    /// Adds another sum.
    pub fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.probability += other.probability;
        self.weight += other.weight;
        self.contribution += other.contribution;
    }
}

impl Block<'_> {
    /// As [`Block::forward`], and how each expert was used; nothing for a dense block.
    ///
    /// # Errors
    /// As [`Block::forward`].
    pub(crate) fn forward_usage(&self, x: &Tensor) -> Result<(Tensor, Vec<ExpertUse>), ModelError> {
        let normed = self.norm(WeightKind::AttentionNorm, x)?;
        let attended = self.attention_output(&self.attention_forward(&normed)?)?;
        let x = (x + self.post_norm(WeightKind::PostAttentionNorm, attended)?)?;
        let normed = self.norm(WeightKind::MlpNorm, &x)?;
        let mlp = self.mlp_forward(&normed)?;
        let mut uses = Vec::new();
        if let MlpState::Experts(state) = &mlp {
            let norms = state.outputs.sqr()?.sum(D::Minus1)?.sqrt()?;
            let norms: Vec<f64> = norms.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?;
            let experts = state.routes.first().map_or(0, |route| route.probs.len());
            uses = vec![ExpertUse::default(); experts];
            // Rows lie in the order of experts, those of one expert in the order of tokens.
            let mut next = vec![0; experts];
            for (expert, range, _) in &state.experts {
                next[*expert] = range.start;
            }
            for route in &state.routes {
                for (of, p) in uses.iter_mut().zip(&route.probs) {
                    of.probability += p;
                }
                for &(expert, weight) in &route.chosen {
                    let of = &mut uses[expert];
                    of.tokens += 1;
                    of.weight += weight;
                    of.contribution += weight * norms[next[expert]];
                    next[expert] += 1;
                }
            }
        }
        Ok(((x + self.post_norm(WeightKind::PostMlpNorm, self.mlp_output(&mlp)?)?)?, uses))
    }
}
