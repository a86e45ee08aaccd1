//! Batches on their way through the blocks, one block in memory at a time, with a stop after
//! each block: to see the inputs of its matrices.

use candle_core::Tensor;

use super::Model;
use super::model::Tables;
use crate::batch::Batch;
use crate::block::InputVisitor;
use crate::error::ModelError;

/// States of several batches before a block.
pub struct Walk<'a> {
    model: &'a Model,
    batches: Vec<(&'a Batch, Tables, Tensor)>,
    layer: usize,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Walk({} batches before block {})", self.batches.len(), self.layer)
    }
}

impl<'a> Walk<'a> {
    /// Batches before the first block.
    ///
    /// # Errors
    /// Tokens outside the vocabulary, or a failed read.
    pub fn new(
        model: &'a Model,
        batches: impl IntoIterator<Item = &'a Batch>,
    ) -> Result<Self, ModelError> {
        let batches = batches
            .into_iter()
            .map(|batch| Ok((batch, model.tables(batch)?, model.embed(batch)?)))
            .collect::<Result<_, ModelError>>()?;
        Ok(Self { model, batches, layer: 0 })
    }

    /// The block that comes next.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Takes all batches through the next block and shows `visitor` the inputs of its
    /// matrices, batch after batch; `false` behind the last block.
    ///
    /// # Errors
    /// A failed read, and whatever the visitor returns.
    pub fn step(&mut self, visitor: &mut dyn InputVisitor) -> Result<bool, ModelError> {
        if self.layer == self.model.config.blocks.len() {
            return Ok(false);
        }
        let weights = self.model.block_weights(self.layer)?;
        for (batch, tables, states) in &mut self.batches {
            let block = self.model.block(self.layer, &weights, tables, batch);
            *states = block.forward_inputs(states, visitor)?;
        }
        self.layer += 1;
        Ok(true)
    }
}
