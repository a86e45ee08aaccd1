//! A source without some blocks, the others numbered anew.

use std::sync::Arc;

use super::{HostWeight, WeightSource};
use crate::error::ModelError;
use crate::key::WeightKey;
use crate::ops::ActivationRounding;

/// The weights of some blocks of a source. Block `n` here is block `blocks[n]` there.
#[derive(Clone)]
pub struct SomeBlocks {
    source: Arc<dyn WeightSource>,
    blocks: Vec<usize>,
}

impl SomeBlocks {
    /// These blocks, in this order.
    pub fn new(source: Arc<dyn WeightSource>, blocks: Vec<usize>) -> Self {
        Self { source, blocks }
    }

    /// The weight there; `None` for one of a block that is not here.
    fn there(&self, key: WeightKey) -> Option<WeightKey> {
        let layer = match key.layer {
            None => None,
            Some(layer) => Some(*self.blocks.get(layer)?),
        };
        Some(WeightKey { layer, ..key })
    }

    fn known(&self, key: WeightKey) -> Result<WeightKey, ModelError> {
        self.there(key).ok_or_else(|| ModelError::MissingWeight { name: self.name(key) })
    }
}

impl WeightSource for SomeBlocks {
    fn name(&self, key: WeightKey) -> String {
        // Errors name what the user has.
        self.source.name(self.there(key).unwrap_or(key))
    }

    fn shape(&self, key: WeightKey) -> Option<Vec<usize>> {
        self.source.shape(self.there(key)?)
    }

    fn read_rows(&self, key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.source.read_rows(self.known(key)?, first, out)
    }

    fn activation_rounding(&self, key: WeightKey) -> ActivationRounding {
        self.source.activation_rounding(self.there(key).unwrap_or(key))
    }

    fn load(&self, key: WeightKey) -> Result<HostWeight, ModelError> {
        self.source.load(self.known(key)?)
    }

    fn load_rows(&self, key: WeightKey, rows: &[u32]) -> Result<HostWeight, ModelError> {
        self.source.load_rows(self.known(key)?, rows)
    }
}
