//! One decoder block: forward, and its vector-Jacobian product.
//!
//! Forward keeps nothing. Backward recomputes the block with what it needs, and again
//! each chunk of attention probabilities, so that no matrix over pairs of tokens is kept.

mod attention;
mod experts;
mod flips;
mod gradients;
mod inputs;
mod mixture;
mod mlp;
mod routing;
mod usage;
mod weights;

pub use flips::{ExpertFlips, FlipForm};
pub(crate) use gradients::Emitter;
pub use gradients::{GradientVisitor, WeightGradient};
pub use inputs::{InputVisitor, LayerInput};
pub(crate) use mixture::MixtureParts;
pub use routing::DroppedExperts;
pub use usage::ExpertUse;
pub(crate) use weights::BlockWeights;
pub(crate) use weights::to_tensor;

use candle_core::Tensor;

use crate::config::{BlockConfig, ModelConfig};
use crate::error::ModelError;
use crate::key::WeightKind;
use crate::ops::{RotaryTable, rms_norm, rms_norm_backward};

/// A block, ready to run on batches of one shape.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) model: &'a ModelConfig,
    pub(crate) config: &'a BlockConfig,
    pub(crate) weights: &'a BlockWeights,
    pub(crate) rotary: &'a RotaryTable,
    /// Experts of this block that are dropped.
    pub(crate) dropped: &'a [usize],
    /// Number of sequences.
    pub(crate) sequences: usize,
    /// Tokens of each.
    pub(crate) len: usize,
}

impl Block<'_> {
    /// Output of the block for `x [tokens, hidden]`.
    ///
    /// # Errors
    /// Weights that do not fit the configuration.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let normed = self.norm(WeightKind::AttentionNorm, x)?;
        let attended = self.attention_forward(&normed)?.output;
        let x = (x + self.post_norm(WeightKind::PostAttentionNorm, attended)?)?;
        let normed = self.norm(WeightKind::MlpNorm, &x)?;
        let mapped = self.mlp_forward(&normed)?.output();
        Ok((x + self.post_norm(WeightKind::PostMlpNorm, mapped)?)?)
    }

    /// Gradient at `x` from the gradient `g` at the output; the gradients of the weights go
    /// to `emit`.
    ///
    /// # Errors
    /// As [`Block::forward`], and whatever the visitor returns.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        g: &Tensor,
        emit: &mut Emitter<'_>,
    ) -> Result<Tensor, ModelError> {
        let normed = self.norm(WeightKind::AttentionNorm, x)?;
        let attention = self.attention_forward(&normed)?;
        let post = self.post_norm(WeightKind::PostAttentionNorm, attention.output.clone())?;
        let middle = (x + post)?;
        let mlp_input = self.norm(WeightKind::MlpNorm, &middle)?;

        let mlp = self.mlp_forward(&mlp_input)?;
        let g_mlp = if self.model.post_norms {
            self.norm_backward(WeightKind::PostMlpNorm, &mlp.output(), g, emit)?
        } else {
            g.clone()
        };
        let g_normed = self.mlp_backward(&mlp_input, mlp, &g_mlp, emit)?;
        let g_middle = (g + self.norm_backward(WeightKind::MlpNorm, &middle, &g_normed, emit)?)?;

        let g_attention = if self.model.post_norms {
            let output = &attention.output;
            self.norm_backward(WeightKind::PostAttentionNorm, output, &g_middle, emit)?
        } else {
            g_middle.clone()
        };
        let g_normed = self.attention_backward(&normed, attention, &g_attention, emit)?;
        Ok((g_middle + self.norm_backward(WeightKind::AttentionNorm, x, &g_normed, emit)?)?)
    }

    fn norm(&self, kind: WeightKind, x: &Tensor) -> Result<Tensor, ModelError> {
        let weight = self.weights.get(kind)?;
        Ok(rms_norm(x, weight, self.model.norm_eps, self.model.norm_offset)?)
    }

    fn post_norm(&self, kind: WeightKind, x: Tensor) -> Result<Tensor, ModelError> {
        if self.model.post_norms { self.norm(kind, &x) } else { Ok(x) }
    }

    fn norm_backward(
        &self,
        kind: WeightKind,
        x: &Tensor,
        g: &Tensor,
        emit: &mut Emitter<'_>,
    ) -> Result<Tensor, ModelError> {
        let weight = self.weights.get(kind)?;
        let key = self.weights.key(kind);
        let (eps, offset) = (self.model.norm_eps, self.model.norm_offset);
        let grads = rms_norm_backward(x, weight, eps, offset, g, emit.wants(key))?;
        if let Some(gradient) = grads.weight {
            emit.visit(key, weight, gradient)?;
        }
        Ok(grads.input)
    }
}
