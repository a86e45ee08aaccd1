//! The weights that a configuration requires.

use super::{MlpConfig, ModelConfig, QkNorm};
use crate::key::{WeightKey, WeightKind};

impl ModelConfig {
    /// Weights outside of the blocks, with their shapes.
    pub fn outer_weights(&self) -> Vec<(WeightKey, Vec<usize>)> {
        let matrix = vec![self.vocabulary, self.hidden];
        let mut weights = vec![
            (WeightKey::outer(WeightKind::Embedding), matrix.clone()),
            (WeightKey::outer(WeightKind::FinalNorm), vec![self.hidden]),
        ];
        if !self.tied {
            weights.push((WeightKey::outer(WeightKind::Head), matrix));
        }
        weights
    }

    /// Weights of a block, with their shapes; none for a block that does not exist.
    pub fn block_weights(&self, layer: usize) -> Vec<(WeightKey, Vec<usize>)> {
        let Some(block) = self.blocks.get(layer) else { return Vec::new() };
        let hidden = self.hidden;
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut weights = Vec::new();
        let mut add = |kind, shape: &[usize]| {
            weights.push((WeightKey::block(layer, kind), shape.to_vec()));
        };

        add(WeightKind::AttentionNorm, &[hidden]);
        add(WeightKind::Query, &[q, hidden]);
        add(WeightKind::Key, &[kv, hidden]);
        add(WeightKind::Value, &[kv, hidden]);
        if self.qkv_bias {
            add(WeightKind::QueryBias, &[q]);
            add(WeightKind::KeyBias, &[kv]);
            add(WeightKind::ValueBias, &[kv]);
        }
        let norms = match self.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some((self.head_dim, self.head_dim)),
            QkNorm::AllHeads => Some((q, kv)),
        };
        if let Some((q, k)) = norms {
            add(WeightKind::QueryNorm, &[q]);
            add(WeightKind::KeyNorm, &[k]);
        }
        add(WeightKind::Output, &[hidden, q]);
        if self.output_bias {
            add(WeightKind::OutputBias, &[hidden]);
        }
        add(WeightKind::MlpNorm, &[hidden]);
        if self.post_norms {
            add(WeightKind::PostAttentionNorm, &[hidden]);
            add(WeightKind::PostMlpNorm, &[hidden]);
        }
        match block.mlp {
            MlpConfig::Dense { width } => {
                add(WeightKind::Gate, &[width, hidden]);
                add(WeightKind::Up, &[width, hidden]);
                add(WeightKind::Down, &[hidden, width]);
            }
            MlpConfig::Experts { experts, width, .. } => {
                add(WeightKind::Router, &[experts, hidden]);
                for expert in 0..experts {
                    let mut add = |kind, shape: [usize; 2]| {
                        weights.push((WeightKey::expert(layer, expert, kind), shape.to_vec()));
                    };
                    add(WeightKind::Gate, [width, hidden]);
                    add(WeightKind::Up, [width, hidden]);
                    add(WeightKind::Down, [hidden, width]);
                }
            }
        }
        weights
    }

    /// All weights, with their shapes.
    pub fn weights(&self) -> Vec<(WeightKey, Vec<usize>)> {
        let blocks = (0..self.blocks.len()).flat_map(|layer| self.block_weights(layer));
        self.outer_weights().into_iter().chain(blocks).collect()
    }
}
