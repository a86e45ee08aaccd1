//! One decoder block: forward, and its vector-Jacobian product.
//!
//! Backward takes what forward has kept or computes it again, and always each chunk of
//! attention probabilities, so that no matrix over pairs of tokens is kept.

mod attention;
mod experts;
mod flips;
mod gradients;
mod inputs;
mod linear_gradient;
mod mixture;
mod mlp;
mod routing;
mod usage;
mod weights;

pub use flips::{ExpertFlips, FlipForm};
pub(crate) use gradients::Emitter;
pub use gradients::{GradientVisitor, WeightGradient};
pub use inputs::{InputVisitor, LayerInput};
pub use linear_gradient::LinearGradient;
pub(crate) use mixture::MixtureParts;
pub use routing::DroppedExperts;
pub use usage::ExpertUse;
pub(crate) use weights::BlockWeights;
pub(crate) use weights::to_tensor;

use attention::AttentionState;
pub(crate) use attention::QUERIES;
use candle_core::Tensor;
use mlp::MlpState;

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

/// What backward needs of a block. What is cheap may be missing.
#[derive(Debug)]
pub(crate) struct BlockState {
    /// Input of the attention.
    normed: Option<Tensor>,
    attention: AttentionState,
    /// Input of the second half, before its norm.
    middle: Tensor,
    mlp_input: Option<Tensor>,
    mlp: MlpState,
}

impl BlockState {
    /// Without what is cheap to compute again.
    pub(crate) fn slim(self) -> Self {
        Self { normed: None, mlp_input: None, mlp: self.mlp.slim(), ..self }
    }

    /// Bytes of its tensors.
    pub(crate) fn bytes(&self) -> usize {
        let own = [self.normed.as_ref(), Some(&self.middle), self.mlp_input.as_ref()];
        bytes(own.into_iter().flatten()) + self.attention.bytes() + self.mlp.bytes()
    }
}

/// Bytes of tensors.
fn bytes<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> usize {
    tensors.into_iter().map(|t| t.elem_count() * t.dtype().size_in_bytes()).sum()
}

impl Block<'_> {
    /// Output of the block for `x [tokens, hidden]`, and what backward needs.
    ///
    /// # Errors
    /// Weights that do not fit the configuration.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<(Tensor, BlockState), ModelError> {
        let state = self.state(x)?;
        let mapped = self.mlp_output(&state.mlp)?;
        let y = (&state.middle + self.post_norm(WeightKind::PostMlpNorm, mapped)?)?;
        Ok((y, state))
    }

    /// What backward needs, without the output.
    ///
    /// # Errors
    /// As [`Block::forward`].
    pub(crate) fn state(&self, x: &Tensor) -> Result<BlockState, ModelError> {
        let normed = self.norm(WeightKind::AttentionNorm, x)?;
        let attention = self.attention_forward(&normed)?;
        let attended = self.attention_output(&attention)?;
        let middle = (x + self.post_norm(WeightKind::PostAttentionNorm, attended)?)?;
        let mlp_input = self.norm(WeightKind::MlpNorm, &middle)?;
        let mlp = self.mlp_forward(&mlp_input)?;
        Ok(BlockState { normed: Some(normed), attention, middle, mlp_input: Some(mlp_input), mlp })
    }

    /// Gradient at `x` from the state that `x` gave and the gradient `g` at the output; the
    /// gradients of the weights go to `emit`.
    ///
    /// # Errors
    /// As [`Block::forward`], and whatever the visitor returns.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        state: BlockState,
        g: &Tensor,
        emit: &mut Emitter<'_>,
    ) -> Result<Tensor, ModelError> {
        let BlockState { normed, attention, middle, mlp_input, mlp } = state;
        let or_norm = |there: Option<Tensor>, kind, of: &Tensor| match there {
            Some(there) => Ok(there),
            None => self.norm(kind, of),
        };
        let mlp_input = or_norm(mlp_input, WeightKind::MlpNorm, &middle)?;
        let g_mlp = if self.model.post_norms {
            self.norm_backward(WeightKind::PostMlpNorm, &self.mlp_output(&mlp)?, g, emit)?
        } else {
            g.clone()
        };
        let g_normed = self.mlp_backward(&mlp_input, mlp, &g_mlp, emit)?;
        drop(mlp_input);
        let g_middle = (g + self.norm_backward(WeightKind::MlpNorm, &middle, &g_normed, emit)?)?;

        let g_attention = if self.model.post_norms {
            let output = self.attention_output(&attention)?;
            self.norm_backward(WeightKind::PostAttentionNorm, &output, &g_middle, emit)?
        } else {
            g_middle.clone()
        };
        let normed = or_norm(normed, WeightKind::AttentionNorm, x)?;
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
