//! Floating-point operations, counted from the shapes.

use rco_model::ModelConfig;
use serde::{Deserialize, Serialize};

use super::exchange::matrices;

/// Operations (a product and a sum are two) of matrix products over a batch.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Work {
    /// The matrices of the blocks, once forward. Dense models only.
    pub matrices: f64,
    /// Scores and sums of the attention, once forward, without what the mask hides.
    pub attention: f64,
    /// The logits.
    pub logits: f64,
}

impl Work {
    /// Counts for sequences of a length.
    pub fn of(config: &ModelConfig, sequences: usize, length: usize) -> Self {
        let tokens = (sequences * length) as f64;
        let keys = matrices(config);
        let shapes = config.weights().into_iter().filter(|(key, _)| keys.contains(key));
        let elements: usize = shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let width = (config.heads * config.head_dim) as f64;
        let pairs = tokens * (length as f64 + 1.0) / 2.0;
        Self {
            matrices: 2.0 * tokens * elements as f64,
            attention: 4.0 * pairs * width * config.blocks.len() as f64,
            logits: 2.0 * tokens * (config.vocabulary * config.hidden) as f64,
        }
    }

    /// What a forward and a backward pass with the gradients of all matrices inside the
    /// blocks cannot do without: nothing computed twice, no gradient of the output matrix.
    pub fn necessary(&self) -> f64 {
        3.0 * self.matrices + 3.0 * self.attention + 2.0 * self.logits
    }
}
