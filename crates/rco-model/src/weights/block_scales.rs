//! Weights of a GGUF file with the floats of their blocks multiplied.

use std::sync::Arc;

use rco_formats::gguf::TensorInfo;
use rco_formats::source::ReadAt;
use rco_ggml::ScaledBlocks;

use super::gguf::{decode, rounding_of};
use super::{WeightSource, checked_start};
use crate::error::ModelError;
use crate::key::WeightKey;
use crate::ops::ActivationRounding;

/// A weight in blocks that are proportional to floats of theirs
/// ([`rco_ggml::scale_floats`]).
#[derive(Debug, Clone)]
pub struct BlockScales {
    pub(super) name: String,
    pub(super) tensor: TensorInfo,
    /// The bytes of this weight alone.
    pub(super) data: Arc<dyn ReadAt>,
    pub(super) shape: Vec<usize>,
    /// Weights and bytes of a block.
    pub(super) block: [usize; 2],
    /// Floats of a block.
    pub(super) floats: usize,
}

impl BlockScales {
    /// The name of the weight: that of its tensor, and the expert's number in a stack.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Weights of a block.
    pub fn block(&self) -> usize {
        self.block[0]
    }

    /// Number of scales and offsets of all blocks, row after row.
    pub fn scales(&self) -> usize {
        self.shape.iter().product::<usize>() / self.block[0] * self.floats
    }

    /// Whether each block has an offset beside its scale.
    pub fn has_offsets(&self) -> bool {
        self.floats > 1
    }

    /// Bits of a weight, with all that the block holds besides.
    pub fn bits(&self) -> f64 {
        8.0 * self.block[1] as f64 / self.block[0] as f64
    }

    /// The weight with the scale of each block, and the offset where there is one, multiplied by
    /// a factor and rounded to half precision, as a file holds them.
    ///
    /// # Errors
    /// [`ModelError::WrongLength`] for another number of factors.
    pub fn times(&self, factors: &[f32]) -> Result<impl WeightSource + use<>, ModelError> {
        let (data, found) = (Arc::clone(&self.data), factors.len());
        let data = ScaledBlocks::new(self.tensor.spec.ty, data, factors.into());
        let wrong = || {
            let (name, shape) = (self.name.clone(), vec![self.scales()]);
            ModelError::WrongLength { name, shape, found }
        };
        Ok(Scaled { data: data.ok_or_else(wrong)?, of: self.clone() })
    }

    /// The part of [`Self::times`] that is proportional to scales, without offsets.
    ///
    /// # Errors
    /// As there.
    pub fn without_offsets(
        &self,
        factors: &[f32],
    ) -> Result<impl WeightSource + use<>, ModelError> {
        let mut factors = factors.to_vec();
        for block in factors.chunks_mut(self.floats) {
            block.iter_mut().skip(1).for_each(|offset| *offset = 0.0);
        }
        self.times(&factors)
    }
}

/// A weight with multiplied floats.
#[derive(Debug)]
struct Scaled {
    data: ScaledBlocks,
    of: BlockScales,
}

impl WeightSource for Scaled {
    fn name(&self, _key: WeightKey) -> String {
        self.of.name.clone()
    }

    fn shape(&self, _key: WeightKey) -> Option<Vec<usize>> {
        Some(self.of.shape.clone())
    }

    fn read_rows(&self, _key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let BlockScales { name, tensor, shape, block: [block, bytes], .. } = &self.of;
        let start = checked_start(|| name.clone(), shape, first, out)?;
        // Rows are whole blocks, which the reader has checked.
        let mut buffer = vec![0; out.len() / block * bytes];
        let failed =
            |source| ModelError::ReadFailed { name: name.clone(), source: Arc::new(source) };
        self.data.read_exact_at(&mut buffer, (start / block * bytes) as u64).map_err(failed)?;
        decode(tensor, &buffer, out)
    }

    fn activation_rounding(&self, _key: WeightKey) -> ActivationRounding {
        rounding_of(self.of.tensor.spec.ty)
    }
}
