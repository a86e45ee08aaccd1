//! Several batches forward together: each block is read once for all of them.

use candle_core::Tensor;
use rayon::prelude::*;

use super::footprint::{Load, Together};
use super::{Model, Part};
use crate::batch::Batch;
use crate::error::ModelError;
use crate::head::{Hidden, LossReport, Target};

impl Model {
    /// States after the final norm, for each batch. As many batches go through a block at the
    /// same time as the memory allows that gradients would keep states in: small matrices
    /// keep several cores busy only so. The results are those of one batch after the other.
    ///
    /// # Errors
    /// As [`Model::hidden`].
    pub fn hidden_of_each(&self, batches: &[&Batch]) -> Result<Vec<Hidden>, ModelError> {
        let rows = batches.iter().map(|b| (b.rows(), b.sequences(), b.sequence_len()));
        let (_, sequences, length) = rows.max().unwrap_or((1, 1, 1));
        let load = Load { sequences, length, gradient: false, head_gradient: false, taught: 0 };
        let together = Together::of(&self.config, &self.settings, &load);
        let mut out = Vec::with_capacity(batches.len());
        for group in batches.chunks(together.group) {
            self.hidden_of_group(group, together.abreast, &mut out)?;
        }
        Ok(out)
    }

    fn hidden_of_group(
        &self,
        batches: &[&Batch],
        abreast: usize,
        out: &mut Vec<Hidden>,
    ) -> Result<(), ModelError> {
        let tables = batches.iter().map(|b| self.tables(b)).collect::<Result<Vec<_>, _>>()?;
        let mut states = batches.iter().map(|b| self.embed(b)).collect::<Result<Vec<_>, _>>()?;
        for layer in 0..self.config.blocks.len() {
            let weights = self.block_weights(layer)?;
            let run = |n: usize, x: &mut Tensor| -> Result<(), ModelError> {
                let block = self.block(layer, &weights, &tables[n], batches[n]);
                *x = block.forward(x)?.0;
                Ok(())
            };
            self.clock.run(Part::Forward, || side_by_side(&mut states, abreast, &run))?;
        }
        for x in states {
            out.push(Hidden(self.final_norm(&x)?.0));
        }
        Ok(())
    }

    /// Loss on each batch, forward only.
    ///
    /// # Errors
    /// As [`Model::loss`].
    pub fn losses(&self, batches: &[(&Batch, Target<'_>)]) -> Result<Vec<LossReport>, ModelError> {
        let head = self.head()?;
        let inputs: Vec<&Batch> = batches.iter().map(|(batch, _)| *batch).collect();
        let states = self.hidden_of_each(&inputs)?;
        let pairs = states.iter().zip(batches);
        pairs.map(|(hidden, (batch, target))| self.compare(&head, hidden, batch, *target)).collect()
    }
}

/// Calls `run` with every tensor and its number, for at most `abreast` at the same time.
fn side_by_side(
    tensors: &mut [Tensor],
    abreast: usize,
    run: &(impl Fn(usize, &mut Tensor) -> Result<(), ModelError> + Sync),
) -> Result<(), ModelError> {
    for (n, chunk) in tensors.chunks_mut(abreast).enumerate() {
        let first = n * abreast;
        if let [one] = chunk {
            run(first, one)?;
        } else {
            chunk.par_iter_mut().enumerate().try_for_each(|(i, x)| run(first + i, x))?;
        }
    }
    Ok(())
}
