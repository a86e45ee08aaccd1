//! Where and how a model runs.

use candle_core::DType;

use crate::error::ModelError;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by number; needs the feature `cuda`.
    Cuda(usize),
    /// An Apple GPU, by number; needs the feature `metal`.
    Metal(usize),
}

impl Device {
    pub(super) fn open(self) -> Result<candle_core::Device, ModelError> {
        Ok(match self {
            Self::Cpu => candle_core::Device::Cpu,
            Self::Cuda(n) => candle_core::Device::new_cuda(n)?,
            Self::Metal(n) => candle_core::Device::new_metal(n)?,
        })
    }
}

/// Where and how a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The device.
    pub device: Device,
    /// Logits of each model that a gradient has in memory at a time, at most: the head goes
    /// through the tokens in chunks of this many values.
    pub logit_values: usize,
    /// Rounds activations as the runtime does that the weights are stored for: to measure
    /// what it will make of them. For losses; gradients take the rounding for the identity.
    pub runtime_activations: bool,
    /// Bytes of what happens inside blocks that a gradient may keep from forward to backward;
    /// what is not kept is computed again.
    pub keep_bytes: usize,
    /// Computes in f64 (CPU only; slow): to check gradients.
    pub double: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            logit_values: 1 << 25,
            runtime_activations: false,
            keep_bytes: 5 << 28,
            double: false,
        }
    }
}

impl Settings {
    pub(super) fn dtype(&self) -> DType {
        if self.double { DType::F64 } else { DType::F32 }
    }
}
