//! The folder that is to be packed.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rco_formats::compressed_tensors::CONFIG_KEY;
use rco_formats::safetensors::HfFolder;
use rco_model::config::ModelConfig;
use rco_model::engine::Settings;
use rco_model::weights::{HfWeights, MemoryWeights, WeightSource};
use rco_model::{Model, WeightKey};

use super::error::PackedError;
use crate::error::QuantError;

/// Weights that are kept in memory as 32-bit numbers; those of a larger model are read when
/// they are needed.
const IN_MEMORY: usize = 1 << 30;

/// A folder whose headers have been read and fit together.
#[derive(Debug, Clone)]
pub struct Source {
    config: Arc<ModelConfig>,
    weights: Arc<HfWeights>,
}

impl Source {
    /// Opens a folder of floats.
    ///
    /// # Errors
    /// A folder that cannot be read, is not supported, contradicts its configuration or is
    /// quantised.
    pub fn open(path: &Path) -> Result<Self, PackedError> {
        let folder = HfFolder::open(path)?;
        if folder.config().get(CONFIG_KEY).is_some() {
            return Err(PackedError::Quantised { path: path.to_owned() });
        }
        let config = Arc::new(ModelConfig::from_hf(folder.config())?);
        let weights = Arc::new(HfWeights::new(folder, &config)?);
        let source = Self { config, weights };
        // Every weight is there and has its shape.
        Model::new(Arc::clone(&source.config), source.on_disk(), Settings::default())?;
        Ok(source)
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<ModelConfig> {
        &self.config
    }

    /// The folder.
    pub fn folder(&self) -> &HfFolder {
        self.weights.folder()
    }

    /// The weights where they lie.
    pub fn on_disk(&self) -> Arc<dyn WeightSource> {
        Arc::clone(&self.weights) as Arc<dyn WeightSource>
    }

    /// The weights, in memory if they are few.
    ///
    /// # Errors
    /// A failed read.
    pub fn weights(&self) -> Result<Arc<dyn WeightSource>, PackedError> {
        let all = self.config.weights();
        let values: usize = all.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        if values.saturating_mul(size_of::<f32>()) > IN_MEMORY {
            return Ok(self.on_disk());
        }
        let mut memory = MemoryWeights::default();
        for (key, _) in all {
            memory.insert(key, self.weights.load(key)?)?;
        }
        Ok(Arc::new(memory))
    }

    /// The name of a weight in the folder.
    pub fn name(&self, key: WeightKey) -> String {
        self.config.family.hf_name(key)
    }

    /// Refuses weights that are not finite.
    ///
    /// # Errors
    /// [`QuantError::NotFinite`] names the first.
    pub fn check_finite(&self) -> Result<(), PackedError> {
        for (key, _) in self.config.weights() {
            let weight = self.weights.load(key)?;
            let wrong = weight.values.par_iter().position_first(|v| !v.is_finite());
            if let Some(at) = wrong {
                let width = weight.shape.last().copied().unwrap_or(1).max(1);
                let (row, column, value) = (at / width, at % width, weight.values[at]);
                let tensor = self.name(key);
                return Err(QuantError::NotFinite { tensor, row, column, value }.into());
            }
        }
        Ok(())
    }
}
