//! A model: configuration, weights, and the forward pass.

use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};

use super::{Clock, Part, Settings};
use crate::batch::Batch;
use crate::block::{
    Block, BlockWeights, DroppedExperts, ExpertUse, InputVisitor, LayerInput, to_tensor,
};
use crate::config::{ModelConfig, Rope};
use crate::error::ModelError;
use crate::head::{Head, Hidden, LossReport, Target, Wanted, head_loss};
use crate::key::{WeightKey, WeightKind};
use crate::ops::{ActivationRounding, RotaryTable, rms_norm};
use crate::weights::{SomeBlocks, WeightSource};

/// A model whose weights are read block by block, each time they are needed.
#[derive(Clone)]
pub struct Model {
    pub(super) config: Arc<ModelConfig>,
    pub(super) source: Arc<dyn WeightSource>,
    pub(super) dropped: DroppedExperts,
    pub(super) settings: Settings,
    pub(super) device: Device,
    pub(super) dtype: DType,
    pub(super) clock: Arc<Clock>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({}, {} blocks)", self.config.family, self.config.blocks.len())
    }
}

impl Model {
    /// A model of `config` with the weights of `source`.
    ///
    /// # Errors
    /// A weight that is missing or has another shape than the configuration requires, or
    /// a device that cannot be opened.
    pub fn new(
        config: Arc<ModelConfig>,
        source: Arc<dyn WeightSource>,
        settings: Settings,
    ) -> Result<Self, ModelError> {
        for (key, expected) in config.weights() {
            let name = || source.name(key);
            match source.shape(key) {
                None => return Err(ModelError::MissingWeight { name: name() }),
                Some(found) if found != expected => {
                    return Err(ModelError::WrongShape { name: name(), expected, found });
                }
                Some(_) => {}
            }
        }
        let (device, dtype) = (settings.device.open()?, settings.dtype());
        let dropped = DroppedExperts::default();
        let clock = Arc::default();
        Ok(Self { config, source, dropped, settings, device, dtype, clock })
    }

    /// The same model with other weights.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn with_weights(&self, source: Arc<dyn WeightSource>) -> Result<Self, ModelError> {
        let dropped = self.dropped.clone();
        Ok(Self::new(Arc::clone(&self.config), source, self.settings)?.without_experts(dropped))
    }

    /// The same model without some experts: tokens are routed as if they had never been.
    #[must_use]
    pub fn without_experts(self, dropped: DroppedExperts) -> Self {
        Self { dropped, ..self }
    }

    /// The model of these blocks, in this order, under a configuration for as many.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn with_blocks(
        &self,
        config: Arc<ModelConfig>,
        blocks: Vec<usize>,
    ) -> Result<Self, ModelError> {
        let source = SomeBlocks::new(Arc::clone(&self.source), blocks);
        Self::new(config, Arc::new(source), self.settings)
    }

    /// The same model as the runtime computes it that the weights are stored for: with
    /// activations rounded to what it multiplies them with.
    #[must_use]
    pub fn in_runtime(&self) -> Self {
        let settings = Settings { runtime_activations: true, ..self.settings };
        Self { settings, ..self.clone() }
    }

    /// Where the weights come from.
    pub fn weights(&self) -> &Arc<dyn WeightSource> {
        &self.source
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<ModelConfig> {
        &self.config
    }

    /// Time spent in each part so far, in the order of [`Part::ALL`]; copies of a model share
    /// a clock.
    pub fn times(&self) -> [Duration; Part::ALL.len()] {
        self.clock.spent()
    }

    /// Reads the output matrix.
    ///
    /// # Errors
    /// A failed read.
    pub fn head(&self) -> Result<Head, ModelError> {
        let kind = if self.config.tied { WeightKind::Embedding } else { WeightKind::Head };
        let shape = [self.config.vocabulary, self.config.hidden];
        let matrix = self.outer(kind, &shape)?;
        let rounding = if self.settings.runtime_activations {
            self.source.activation_rounding(WeightKey::outer(kind))
        } else {
            ActivationRounding::Exact
        };
        Ok(Head { matrix, cap: self.config.final_cap, rounding })
    }

    /// States after the final norm.
    ///
    /// # Errors
    /// Tokens outside the vocabulary, or a failed read.
    pub fn hidden(&self, batch: &Batch) -> Result<Hidden, ModelError> {
        let mut states = self.hidden_of_each(&[batch])?;
        // One batch has one result.
        Ok(states.swap_remove(0))
    }

    /// Runs forward and shows `visitor` the input of every matrix of the blocks, and that
    /// of the output matrix (which is the embedding, if the head is tied).
    ///
    /// # Errors
    /// As [`Model::hidden`], and whatever the visitor returns.
    pub fn visit_inputs(
        &self,
        batch: &Batch,
        visitor: &mut dyn InputVisitor,
    ) -> Result<(), ModelError> {
        let tables = self.tables(batch)?;
        let mut x = self.embed(batch)?;
        for layer in 0..self.config.blocks.len() {
            let weights = self.block_weights(layer)?;
            x = self.block(layer, &weights, &tables, batch).forward_inputs(&x, visitor)?;
        }
        let kind = if self.config.tied { WeightKind::Embedding } else { WeightKind::Head };
        let keys = [WeightKey::outer(kind)];
        visitor.visit(&LayerInput::new(&keys, &self.final_norm(&x)?.0))
    }

    /// How the experts of each block are used on a batch; empty for dense blocks.
    ///
    /// # Errors
    /// As [`Model::hidden`].
    pub fn expert_use(&self, batch: &Batch) -> Result<Vec<Vec<ExpertUse>>, ModelError> {
        let tables = self.tables(batch)?;
        let mut x = self.embed(batch)?;
        let mut out = Vec::with_capacity(self.config.blocks.len());
        for layer in 0..self.config.blocks.len() {
            let weights = self.block_weights(layer)?;
            let (y, uses) = self.block(layer, &weights, &tables, batch).forward_usage(&x)?;
            x = y;
            out.push(uses);
        }
        Ok(out)
    }

    /// Logits of every token: `rows × vocabulary` values, row after row. For small batches;
    /// losses do without.
    ///
    /// # Errors
    /// As [`Model::hidden`].
    pub fn logits(&self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        let logits = self.head()?.logits(&self.hidden(batch)?.0)?;
        Ok(logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// Loss on a batch, forward only.
    ///
    /// # Errors
    /// As [`Model::hidden`], a target that does not fit, or a loss that is not finite.
    pub fn loss(&self, batch: &Batch, target: Target<'_>) -> Result<LossReport, ModelError> {
        let mut reports = self.losses(&[(batch, target)])?;
        Ok(reports.swap_remove(0))
    }

    /// Loss of states that were computed before.
    ///
    /// # Errors
    /// A target that does not fit, or a loss that is not finite.
    pub fn compare(
        &self,
        head: &Head,
        hidden: &Hidden,
        batch: &Batch,
        target: Target<'_>,
    ) -> Result<LossReport, ModelError> {
        let wanted = Wanted { states: false, matrix: false };
        let values = self.settings.logit_values;
        let loss = || head_loss(head, hidden, batch, target, wanted, values);
        Ok(self.clock.run(Part::Head, loss)?.report)
    }

    /// Embedding of a batch, after a check of its tokens.
    pub(super) fn embed(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        let vocabulary = self.config.vocabulary;
        if let Some(&token) = batch.tokens().iter().find(|&&t| t as usize >= vocabulary) {
            return Err(ModelError::TokenOutOfRange { token, vocabulary });
        }
        // Each row is read once.
        let mut distinct = batch.tokens().to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let key = WeightKey::outer(WeightKind::Embedding);
        let rows = self.source.load_rows(key, &distinct)?;
        let shape = [distinct.len(), self.config.hidden];
        let rows = to_tensor(&*self.source, key, rows, &shape, self.dtype, &self.device)?;
        let positions: Vec<u32> =
            batch.tokens().iter().map(|t| distinct.partition_point(|d| d < t) as u32).collect();
        let positions = Tensor::from_vec(positions, batch.rows(), &self.device)?;
        let x = rows.index_select(&positions, 0)?;
        let scale = self.config.embedding_scale;
        if scale == 1.0 { Ok(x) } else { Ok((x * scale)?) }
    }

    /// Normed states and the weight of the norm.
    pub(super) fn final_norm(&self, x: &Tensor) -> Result<(Tensor, Tensor), ModelError> {
        let weight = self.outer(WeightKind::FinalNorm, &[self.config.hidden])?;
        let (eps, offset) = (self.config.norm_eps, self.config.norm_offset);
        Ok((rms_norm(x, &weight, eps, offset)?, weight))
    }

    pub(super) fn outer(&self, kind: WeightKind, shape: &[usize]) -> Result<Tensor, ModelError> {
        let key = WeightKey::outer(kind);
        self.clock.run(Part::Reading, || {
            let weight = self.source.load(key)?;
            to_tensor(&*self.source, key, weight, shape, self.dtype, &self.device)
        })
    }

    pub(super) fn block_weights(&self, layer: usize) -> Result<BlockWeights, ModelError> {
        self.read_block(layer, self.dropped.of(layer))
    }

    /// The weights of a block with those of dropped experts.
    pub(super) fn all_block_weights(&self, layer: usize) -> Result<BlockWeights, ModelError> {
        self.read_block(layer, &[])
    }

    fn read_block(&self, layer: usize, dropped: &[usize]) -> Result<BlockWeights, ModelError> {
        let (source, device) = (&*self.source, &self.device);
        let weights = self.clock.run(Part::Reading, || {
            BlockWeights::load(source, &self.config, layer, dropped, self.dtype, device)
        })?;
        Ok(if self.settings.runtime_activations { weights.with_roundings(source) } else { weights })
    }

    pub(super) fn block<'a>(
        &'a self,
        layer: usize,
        weights: &'a BlockWeights,
        tables: &'a Tables,
        batch: &Batch,
    ) -> Block<'a> {
        Block {
            model: &self.config,
            config: &self.config.blocks[layer],
            weights,
            rotary: &tables.tables[tables.of_layer[layer]],
            dropped: self.dropped.of(layer),
            sequences: batch.sequences(),
            len: batch.sequence_len(),
        }
    }

    /// Rotation tables, one for each kind of rotary embedding in the model.
    pub(super) fn tables(&self, batch: &Batch) -> Result<Tables, ModelError> {
        let mut ropes: Vec<&Rope> = Vec::new();
        let mut of_layer = Vec::with_capacity(self.config.blocks.len());
        for block in &self.config.blocks {
            let known = ropes.iter().position(|r| **r == block.rope);
            of_layer.push(known.unwrap_or(ropes.len()));
            if known.is_none() {
                ropes.push(&block.rope);
            }
        }
        let (len, dim) = (batch.sequence_len(), self.config.head_dim);
        let table = |rope: &&Rope| RotaryTable::new(rope, len, dim, self.dtype, &self.device);
        let tables = ropes.iter().map(table).collect::<Result<_, _>>()?;
        Ok(Tables { tables, of_layer })
    }
}

/// Rotation tables of a batch.
pub(super) struct Tables {
    tables: Vec<RotaryTable>,
    of_layer: Vec<usize>,
}
