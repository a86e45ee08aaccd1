//! The experts of a block all at once, for choices among them that are made later.

use candle_core::{DType, Tensor};

use super::Block;
use super::routing::Route;
use crate::config::MlpConfig;
use crate::error::ModelError;
use crate::key::WeightKind;
use crate::ops::linear;

/// A block up to the choice of experts.
#[derive(Debug)]
pub(crate) struct MixtureParts {
    /// States that the mixture is added to.
    middle: Tensor,
    logits: Vec<Vec<f64>>,
    /// Output of every expert for every token.
    outputs: Vec<Tensor>,
    per_token: usize,
    renormalise: bool,
}

impl Block<'_> {
    /// Runs the block up to the choice of experts, and all experts on all tokens.
    ///
    /// # Errors
    /// [`ModelError::MissingWeight`] of the router for a dense block, or one with a norm after
    /// its experts, which no family has.
    pub(crate) fn open_mixture(&self, x: &Tensor) -> Result<MixtureParts, ModelError> {
        let missing =
            || ModelError::MissingWeight { name: self.weights.key(WeightKind::Router).to_string() };
        let (experts, per_token, renormalise) = match self.config.mlp {
            MlpConfig::Experts { experts, per_token, renormalise, .. }
                if !self.model.post_norms =>
            {
                (experts, per_token, renormalise)
            }
            _ => return Err(missing()),
        };
        let normed = self.norm(WeightKind::AttentionNorm, x)?;
        let middle = (x + self.attention_output(&self.attention_forward(&normed)?)?)?;
        let normed = self.norm(WeightKind::MlpNorm, &middle)?;
        let logits = linear(&normed, self.weights.get(WeightKind::Router)?, None)?;
        let logits = logits.to_dtype(DType::F64)?.to_vec2()?;
        let output = |e| -> Result<Tensor, ModelError> {
            let key = |kind| self.weights.expert_key(e, kind);
            self.gated_output(&self.gated_forward(&normed, key)?, key)
        };
        let outputs = (0..experts).map(output).collect::<Result<_, _>>()?;
        Ok(MixtureParts { middle, logits, outputs, per_token, renormalise })
    }
}

impl MixtureParts {
    /// Output of the block without these experts.
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub(crate) fn close(&self, dropped: &[usize]) -> Result<Tensor, ModelError> {
        let mut weights = vec![vec![0.0; self.logits.len()]; self.outputs.len()];
        for (t, logits) in self.logits.iter().enumerate() {
            for (e, weight) in Route::new(logits, dropped, self.per_token, self.renormalise).chosen
            {
                weights[e][t] = weight;
            }
        }
        let mut sum = self.middle.clone();
        for (weights, output) in weights.into_iter().zip(&self.outputs) {
            let count = weights.len();
            let column = Tensor::from_vec(weights, (count, 1), &candle_core::Device::Cpu)?;
            let column = column.to_dtype(output.dtype())?.to_device(output.device())?;
            sum = (sum + output.broadcast_mul(&column)?)?;
        }
        Ok(sum)
    }
}
