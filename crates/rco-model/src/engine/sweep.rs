//! Many sets of dropped experts on one batch, block by block: what the blocks before have in
//! common is computed once. For enumerations.

use candle_core::Tensor;

use super::Model;
use super::model::Tables;
use crate::batch::Batch;
use crate::block::{BlockWeights, MixtureParts};
use crate::error::ModelError;
use crate::head::{Head, Hidden, LossReport, Target};
use crate::ops::rms_norm;

/// A model on one batch, its weights in memory.
pub struct Sweep<'a> {
    model: &'a Model,
    batch: &'a Batch,
    weights: Vec<BlockWeights>,
    tables: Tables,
    head: Head,
    norm: Tensor,
    start: Tensor,
}

/// States before a block.
#[derive(Debug, Clone)]
pub struct SweepState(Tensor);

/// A block up to the choice of experts, with the outputs of all of them.
#[derive(Debug)]
pub struct SweepBlock(MixtureParts);

impl<'a> Sweep<'a> {
    /// Reads all weights. Experts that `model` drops play no part: the sweep decides.
    ///
    /// # Errors
    /// A failed read.
    pub fn new(model: &'a Model, batch: &'a Batch) -> Result<Self, ModelError> {
        let layers = 0..model.config.blocks.len();
        let weights = layers.map(|layer| model.all_block_weights(layer));
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        let (tables, head, start) = (model.tables(batch)?, model.head()?, model.embed(batch)?);
        let norm = model.final_norm(&start)?.1;
        Ok(Self { model, batch, weights, tables, head, norm, start })
    }

    /// States before the first block.
    pub fn start(&self) -> SweepState {
        SweepState(self.start.clone())
    }

    /// A block with experts, up to their choice.
    ///
    /// # Errors
    /// A dense block, or failure of the tensor library.
    pub fn open(&self, layer: usize, state: &SweepState) -> Result<SweepBlock, ModelError> {
        let block = self.model.block(layer, &self.weights[layer], &self.tables, self.batch);
        Ok(SweepBlock(block.open_mixture(&state.0)?))
    }

    /// States after a block without these experts.
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub fn close(&self, block: &SweepBlock, dropped: &[usize]) -> Result<SweepState, ModelError> {
        Ok(SweepState(block.0.close(dropped)?))
    }

    /// Loss of the states after the last block.
    ///
    /// # Errors
    /// As [`Model::compare`].
    pub fn loss(&self, state: &SweepState, target: Target<'_>) -> Result<LossReport, ModelError> {
        let config = &self.model.config;
        let states = rms_norm(&state.0, &self.norm, config.norm_eps, config.norm_offset)?;
        self.model.compare(&self.head, &Hidden(states), self.batch, target)
    }
}
