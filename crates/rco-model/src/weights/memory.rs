//! Weights held in memory.

use std::collections::HashMap;

use super::{HostWeight, WeightSource, checked_start};
use crate::error::ModelError;
use crate::key::WeightKey;

/// Weights held in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryWeights {
    weights: HashMap<WeightKey, HostWeight>,
}

impl MemoryWeights {
    /// Adds or replaces a weight.
    ///
    /// # Errors
    /// [`ModelError::WrongLength`] if shape and values do not fit.
    pub fn insert(&mut self, key: WeightKey, weight: HostWeight) -> Result<(), ModelError> {
        let found = weight.values.len();
        let product = weight.shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        if product != Some(found) {
            let (name, shape) = (key.to_string(), weight.shape);
            return Err(ModelError::WrongLength { name, shape, found });
        }
        self.weights.insert(key, weight);
        Ok(())
    }

    /// The weight, if it is there.
    pub fn get(&self, key: WeightKey) -> Option<&HostWeight> {
        self.weights.get(&key)
    }

    fn need(&self, key: WeightKey) -> Result<&HostWeight, ModelError> {
        self.get(key).ok_or_else(|| ModelError::MissingWeight { name: self.name(key) })
    }
}

impl WeightSource for MemoryWeights {
    fn name(&self, key: WeightKey) -> String {
        key.to_string()
    }

    fn shape(&self, key: WeightKey) -> Option<Vec<usize>> {
        self.weights.get(&key).map(|w| w.shape.clone())
    }

    fn read_rows(&self, key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let weight = self.need(key)?;
        let start = checked_start(|| self.name(key), &weight.shape, first, out)?;
        out.copy_from_slice(&weight.values[start..start + out.len()]);
        Ok(())
    }

    fn load(&self, key: WeightKey) -> Result<HostWeight, ModelError> {
        self.need(key).cloned()
    }
}
