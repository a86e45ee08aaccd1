//! A model whose matrices may lose some of their weights.

use std::sync::Arc;

use rco_core::Assignment;
use rco_model::Model;
use rco_model::config::ModelConfig;
use rco_model::engine::{OptionTensors, Settings};
use rco_model::weights::{Overlay, WeightSource};

use super::levels::Levels;
use super::mask::{Masked, Norms};
use crate::error::QuantError;
use crate::objective::PlanModels;

/// A model and all levels of its matrices.
pub struct SparseModels {
    config: Arc<ModelConfig>,
    source: Arc<dyn WeightSource>,
    levels: Arc<Levels>,
    /// The weights at each level.
    masked: Vec<Arc<dyn WeightSource>>,
    offsets: Vec<usize>,
}

impl std::fmt::Debug for SparseModels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SparseModels({} matrices)", self.levels.matrices.len())
    }
}

impl SparseModels {
    /// The model of `source` with masks by `norms`.
    pub fn new(
        config: Arc<ModelConfig>,
        source: Arc<dyn WeightSource>,
        levels: &Arc<Levels>,
        norms: &Arc<Norms>,
    ) -> Self {
        let at = |level| {
            let (source, norms) = (Arc::clone(&source), Arc::clone(norms));
            Arc::new(Masked::new(source, norms, Arc::clone(levels), level)) as Arc<dyn WeightSource>
        };
        let masked = (0..levels.count()).map(at).collect();
        let offsets = levels.offsets();
        Self { config, source, levels: Arc::clone(levels), masked, offsets }
    }

    /// The weights of a plan.
    pub fn weights(&self, plan: &Assignment) -> Arc<dyn WeightSource> {
        let mut weights = Overlay::new(Arc::clone(&self.source));
        for (n, m) in self.levels.matrices.iter().enumerate() {
            let level = plan.option(n);
            if level != 0 {
                weights.replace(m.key, Arc::clone(&self.masked[level]));
            }
        }
        Arc::new(weights)
    }
}

impl PlanModels for SparseModels {
    fn original(&self) -> Result<Model, QuantError> {
        let (config, source) = (Arc::clone(&self.config), Arc::clone(&self.source));
        Ok(Model::new(config, source, Settings::default())?)
    }

    fn model(&self, plan: &Assignment) -> Result<Model, QuantError> {
        Ok(Model::new(Arc::clone(&self.config), self.weights(plan), Settings::default())?)
    }

    fn options(&self, plan: Option<&Assignment>) -> OptionTensors {
        let mut out = OptionTensors::default();
        for (n, m) in self.levels.matrices.iter().enumerate() {
            let chosen = plan.map_or(0, |plan| plan.option(n));
            for (level, masked) in self.masked.iter().enumerate().filter(|(k, _)| *k != chosen) {
                let weights = if level == 0 { &self.source } else { masked };
                out.add(self.offsets[n] + level, m.key, Arc::clone(weights));
            }
        }
        out
    }

    fn offsets(&self) -> &[usize] {
        &self.offsets
    }
}
