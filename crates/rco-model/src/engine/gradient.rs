//! The backward pass: blocks last to first, one in memory at a time.

use candle_core::Tensor;

use super::{Model, Part};
use crate::batch::Batch;
use crate::block::{BlockState, Emitter, GradientVisitor};
use crate::error::ModelError;
use crate::head::{HeadLoss, Hidden, LossReport, Target, Wanted, head_loss};
use crate::key::{WeightKey, WeightKind};
use crate::ops::rms_norm_backward;

impl Model {
    /// Loss on a batch and its gradient at every weight that `visitor` wants.
    ///
    /// Between forward and backward the inputs of the blocks are kept, and of what happens
    /// inside them as much as the settings allow. Backward stops at the lowest block of which
    /// a weight is wanted.
    ///
    /// # Errors
    /// As [`Model::loss`], and whatever the visitor returns.
    pub fn gradient(
        &self,
        batch: &Batch,
        target: Target<'_>,
        visitor: &mut dyn GradientVisitor,
    ) -> Result<LossReport, ModelError> {
        let mut emit = Emitter::new(visitor, &self.clock);
        let layers = self.config.blocks.len();
        let embedding = WeightKey::outer(WeightKind::Embedding);
        let lowest = if emit.wants(embedding) { 0 } else { self.lowest_wanted(&emit) };

        let tables = self.tables(batch)?;
        let mut x = self.embed(batch)?;
        let mut inputs = Vec::with_capacity(layers);
        let mut kept = 0;
        for layer in 0..layers {
            let weights = self.block_weights(layer)?;
            let block = self.block(layer, &weights, &tables, batch);
            let (y, state) = self.clock.run(Part::Forward, || block.forward(&x))?;
            let state = (layer >= lowest).then(|| state.slim());
            let state = state.filter(|state| kept + state.bytes() <= self.settings.keep_bytes);
            kept += state.as_ref().map_or(0, BlockState::bytes);
            inputs.push((layer >= lowest).then_some((x, state)));
            x = y;
        }
        let (report, mut g, head_matrix) = self.output_backward(&x, batch, target, &mut emit)?;
        drop(x);

        for (layer, input) in inputs.into_iter().enumerate().rev() {
            let Some((x, state)) = input else { break };
            let weights = match emit.flip_form(layer) {
                Some(_) => self.all_block_weights(layer)?,
                None => self.block_weights(layer)?,
            };
            let block = self.block(layer, &weights, &tables, batch);
            let state = match state {
                Some(state) => state,
                None => self.clock.run(Part::Again, || block.state(&x))?,
            };
            g = self.clock.run(Part::Backward, || block.backward(&x, state, &g, &mut emit))?;
        }
        if emit.wants(embedding) {
            self.embedding_gradient(batch, &g, head_matrix, &mut emit)?;
        }
        Ok(report)
    }

    /// The lowest block of which a weight is wanted; the number of blocks if there is none.
    fn lowest_wanted(&self, emit: &Emitter<'_>) -> usize {
        let wanted = |layer: &usize| {
            emit.flip_form(*layer).is_some()
                || self.config.block_weights(*layer).iter().any(|(key, _)| emit.wants(*key))
        };
        (0..self.config.blocks.len()).find(wanted).unwrap_or(self.config.blocks.len())
    }

    /// Loss, gradient at the output of the last block, and the part of a tied embedding's
    /// gradient that comes from the head.
    fn output_backward(
        &self,
        x: &Tensor,
        batch: &Batch,
        target: Target<'_>,
        emit: &mut Emitter<'_>,
    ) -> Result<(LossReport, Tensor, Option<Tensor>), ModelError> {
        let head = self.head()?;
        let (normed, norm) = self.final_norm(x)?;
        let kind = if self.config.tied { WeightKind::Embedding } else { WeightKind::Head };
        let key = WeightKey::outer(kind);
        let wanted = Wanted { states: true, matrix: emit.wants(key) };
        let values = self.settings.logit_values;
        let loss = || head_loss(&head, &Hidden(normed), batch, target, wanted, values);
        let HeadLoss { report, states, mut matrix } = self.clock.run(Part::Head, loss)?;
        if !self.config.tied
            && let Some(gradient) = matrix.take()
        {
            emit.visit(key, &head.matrix, gradient)?;
        }
        drop(head);

        let g = match states {
            Some(g) => g,
            None => x.zeros_like()?,
        };
        let key = WeightKey::outer(WeightKind::FinalNorm);
        let (eps, offset) = (self.config.norm_eps, self.config.norm_offset);
        let grads = rms_norm_backward(x, &norm, eps, offset, &g, emit.wants(key))?;
        if let Some(gradient) = grads.weight {
            emit.visit(key, &norm, gradient)?;
        }
        Ok((report, grads.input, matrix))
    }

    fn embedding_gradient(
        &self,
        batch: &Batch,
        g: &Tensor,
        head_part: Option<Tensor>,
        emit: &mut Emitter<'_>,
    ) -> Result<(), ModelError> {
        let shape = [self.config.vocabulary, self.config.hidden];
        let weight = self.outer(WeightKind::Embedding, &shape)?;
        let start = match head_part {
            Some(part) => part,
            None => weight.zeros_like()?,
        };
        let tokens = Tensor::from_vec(batch.tokens().to_vec(), batch.rows(), &self.device)?;
        let g = (g * self.config.embedding_scale)?;
        let gradient = start.index_add(&tokens, &g, 0)?;
        emit.visit(WeightKey::outer(WeightKind::Embedding), &weight, gradient)
    }
}
