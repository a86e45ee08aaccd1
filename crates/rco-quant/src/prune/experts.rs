//! The experts of a model as groups.

use rco_core::Assignment;
use rco_model::config::{MlpConfig, ModelConfig};
use rco_model::{DroppedExperts, ModelError};

use super::error::PruneError;

/// The experts of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerExperts {
    /// The block.
    pub layer: usize,
    /// Experts it has.
    pub experts: usize,
    /// Experts that each token is sent to.
    pub per_token: usize,
}

/// Index of the option that drops an expert.
pub const DROP: usize = 0;
/// Index of the option that keeps it.
pub const KEEP: usize = 1;

/// All experts of a model. Groups are in the order of blocks, those of a block in the order
/// of its experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertMap {
    layers: Vec<LayerExperts>,
}

impl ExpertMap {
    /// The experts of a model.
    ///
    /// # Errors
    /// [`PruneError::Dense`] if it has none.
    pub fn new(config: &ModelConfig) -> Result<Self, PruneError> {
        let blocks = config.blocks.iter().enumerate();
        let layers: Vec<LayerExperts> = blocks
            .filter_map(|(layer, block)| match block.mlp {
                MlpConfig::Experts { experts, per_token, .. } => {
                    Some(LayerExperts { layer, experts, per_token })
                }
                MlpConfig::Dense { .. } => None,
            })
            .collect();
        if layers.is_empty() {
            return Err(PruneError::Dense { family: config.family.to_string() });
        }
        Ok(Self { layers })
    }

    /// The blocks with experts.
    pub fn layers(&self) -> &[LayerExperts] {
        &self.layers
    }

    /// Number of all experts.
    pub fn total(&self) -> usize {
        self.layers.iter().map(|l| l.experts).sum()
    }

    /// Experts of the block that has most.
    pub fn most(&self) -> usize {
        self.layers.iter().map(|l| l.experts).max().unwrap_or(0)
    }

    /// Block and expert of every group.
    pub fn groups(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.layers.iter().flat_map(|l| (0..l.experts).map(|e| (l.layer, e)))
    }

    /// First group of each block with experts.
    pub(crate) fn starts(&self) -> Vec<usize> {
        let mut next = 0;
        let start = |l: &LayerExperts| {
            let start = next;
            next += l.experts;
            start
        };
        self.layers.iter().map(start).collect()
    }

    /// The experts that a plan drops.
    ///
    /// # Errors
    /// Fewer left than a token is sent to.
    pub fn dropped(
        &self,
        config: &ModelConfig,
        plan: &Assignment,
    ) -> Result<DroppedExperts, ModelError> {
        let groups = self.groups().enumerate();
        let dropped = groups.filter(|(g, _)| plan.option(*g) == DROP).map(|(_, place)| place);
        DroppedExperts::new(config, dropped)
    }

    /// The experts that a plan keeps, by block with experts.
    pub fn kept(&self, plan: &Assignment) -> Vec<Vec<usize>> {
        let starts = self.starts();
        let layers = self.layers.iter().zip(starts);
        layers
            .map(|(l, start)| (0..l.experts).filter(|e| plan.option(start + e) == KEEP).collect())
            .collect()
    }

    /// The plan that keeps these experts.
    pub fn plan(&self, kept: &[Vec<usize>]) -> Assignment {
        let mut options = Vec::with_capacity(self.total());
        for (l, kept) in self.layers.iter().zip(kept) {
            options.extend((0..l.experts).map(|e| u32::from(kept.contains(&e)) * KEEP as u32));
        }
        Assignment::new(options)
    }
}
