//! The weights of one block, in memory while it runs.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::key::{WeightKey, WeightKind};
use crate::ops::{ActivationRounding, linear, round_activations};
use crate::weights::{HostWeight, WeightSource};

/// The weights of one block.
#[derive(Debug)]
pub(crate) struct BlockWeights {
    layer: usize,
    tensors: HashMap<WeightKey, Tensor>,
    /// How activations are rounded; without an entry they are not.
    roundings: HashMap<WeightKey, ActivationRounding>,
}

impl BlockWeights {
    /// Reads the weights of block `layer`, without the experts in `dropped`.
    ///
    /// # Errors
    /// A missing weight, a wrong shape or a failed read.
    pub(crate) fn load(
        source: &dyn WeightSource,
        config: &ModelConfig,
        layer: usize,
        dropped: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let mut tensors = HashMap::new();
        for (key, shape) in config.block_weights(layer) {
            if key.expert.is_some_and(|e| dropped.contains(&e)) {
                continue;
            }
            let weight = source.load(key)?;
            tensors.insert(key, to_tensor(source, key, weight, &shape, dtype, device)?);
        }
        Ok(Self { layer, tensors, roundings: HashMap::new() })
    }

    /// The same, with activations rounded as the runtime of `source` does.
    pub(crate) fn with_roundings(mut self, source: &dyn WeightSource) -> Self {
        self.roundings = self.tensors.keys().map(|&k| (k, source.activation_rounding(k))).collect();
        self
    }

    /// `x Wᵀ (+ bias)` for the matrix of `key`.
    ///
    /// # Errors
    /// [`ModelError::MissingWeight`], or shapes that do not fit.
    pub(crate) fn linear(
        &self,
        key: WeightKey,
        x: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Tensor, ModelError> {
        let weight = self.by_key(key)?;
        Ok(match self.roundings.get(&key) {
            None => linear(x, weight, bias)?,
            Some(&rounding) => linear(&round_activations(x, rounding)?, weight, bias)?,
        })
    }

    /// The block.
    pub(crate) fn layer(&self) -> usize {
        self.layer
    }

    /// Key of a weight of this block.
    pub(crate) fn key(&self, kind: WeightKind) -> WeightKey {
        WeightKey::block(self.layer, kind)
    }

    /// Key of a weight of an expert of this block.
    pub(crate) fn expert_key(&self, expert: usize, kind: WeightKind) -> WeightKey {
        WeightKey::expert(self.layer, expert, kind)
    }

    /// A weight that the block must have.
    ///
    /// # Errors
    /// [`ModelError::MissingWeight`].
    pub(crate) fn get(&self, kind: WeightKind) -> Result<&Tensor, ModelError> {
        self.by_key(self.key(kind))
    }

    /// A weight that the block may have.
    pub(crate) fn optional(&self, kind: WeightKind) -> Option<&Tensor> {
        self.tensors.get(&self.key(kind))
    }

    /// A weight by its key.
    ///
    /// # Errors
    /// [`ModelError::MissingWeight`].
    pub(crate) fn by_key(&self, key: WeightKey) -> Result<&Tensor, ModelError> {
        let missing = || ModelError::MissingWeight { name: key.to_string() };
        self.tensors.get(&key).ok_or_else(missing)
    }
}

/// Moves a weight to the device, after a check of its shape.
pub(crate) fn to_tensor(
    source: &dyn WeightSource,
    key: WeightKey,
    weight: HostWeight,
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Result<Tensor, ModelError> {
    if weight.shape != shape {
        let (name, expected) = (source.name(key), shape.to_vec());
        return Err(ModelError::WrongShape { name, expected, found: weight.shape });
    }
    Ok(Tensor::from_vec(weight.values, shape, device)?.to_dtype(dtype)?)
}
