//! Shares of a matrix that may go, and what they leave.

use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem};
use rco_model::config::ModelConfig;
use rco_model::{WeightKey, WeightKind};

use crate::prune::PruneError;
use crate::prune::amount::WHOLE;

/// Shares between which a matrix may choose, in percent, besides the one asked for.
const PERCENT: [u64; 10] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90];

/// A matrix of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Where it is used.
    pub key: WeightKey,
    /// Its rows.
    pub rows: usize,
    /// Values of each.
    pub columns: usize,
}

/// The matrices of a model and the shares that may go of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// All matrices of the blocks; embedding, head, norms and routers stay as they are.
    pub matrices: Vec<Matrix>,
    /// Shares in millionths of a percent, rising from 0.
    shares: Vec<u64>,
    /// The share asked for.
    asked: u64,
}

impl Levels {
    /// The levels for an order of so much of all, in millionths of a percent.
    ///
    /// # Errors
    /// [`PruneError::Sparsity`] for nothing or for more than every matrix may lose.
    pub fn new(config: &ModelConfig, asked: u64) -> Result<Self, PruneError> {
        let mut shares: Vec<u64> = PERCENT.iter().map(|percent| percent * (WHOLE / 100)).collect();
        let most = shares[shares.len() - 1];
        if asked == 0 || asked > most {
            return Err(PruneError::Sparsity { most: most / (WHOLE / 100) });
        }
        shares.push(asked);
        shares.sort_unstable();
        shares.dedup();
        let is_matrix = |kind| {
            use WeightKind::{Down, Gate, Key, Output, Query, Up, Value};
            matches!(kind, Query | Key | Value | Output | Gate | Up | Down)
        };
        let matrices = config.weights().into_iter().filter_map(|(key, shape)| match shape[..] {
            [rows, columns] if is_matrix(key.kind) => Some(Matrix { key, rows, columns }),
            _ => None,
        });
        Ok(Self { matrices: matrices.collect(), shares, asked })
    }

    /// Number of levels, which all matrices have in common.
    pub fn count(&self) -> usize {
        self.shares.len()
    }

    /// Name of a level.
    pub fn name(&self, level: usize) -> String {
        crate::prune::Amount::Share(self.shares[level]).to_string()
    }

    /// Share of a level, between 0 and 1.
    pub fn share(&self, level: usize) -> f64 {
        self.shares[level] as f64 / WHOLE as f64
    }

    /// Values of a row of so many that go: at least the share.
    pub fn drops(&self, level: usize, columns: usize) -> usize {
        let product = u128::from(self.shares[level]) * columns as u128;
        product.div_ceil(u128::from(WHOLE)) as usize
    }

    /// Weights of all matrices.
    pub fn weights(&self) -> u64 {
        self.matrices.iter().map(|m| m.rows as u64 * m.columns as u64).sum()
    }

    /// Weights that have to go: at least the share asked for.
    pub fn to_drop(&self) -> u64 {
        let product = u128::from(self.asked) * u128::from(self.weights());
        product.div_ceil(u128::from(WHOLE)) as u64
    }

    /// Weights that a plan sets to zero.
    pub fn dropped(&self, plan: &Assignment) -> u64 {
        let each = self.matrices.iter().enumerate();
        each.map(|(n, m)| m.rows as u64 * self.drops(plan.option(n), m.columns) as u64).sum()
    }

    /// The problem: a group for each matrix with an option for each level, which costs the
    /// weights that remain; and one for what is not decided on.
    ///
    /// # Errors
    /// What the problem itself refuses.
    pub fn problem(&self) -> Result<Problem, PruneError> {
        let most = self.weights() - self.to_drop();
        let mut builder = Problem::builder().budget(Budget::at_most("weights", most));
        for m in &self.matrices {
            let options: Vec<OptionSpec> = (0..self.count())
                .map(|level| {
                    let kept = m.columns - self.drops(level, m.columns);
                    OptionSpec::new(self.name(level), [m.rows as u64 * kept as u64])
                })
                .collect();
            let size = (m.rows as u64 * m.columns as u64).max(1);
            builder = builder.group(GroupSpec::new(m.key.to_string(), options).size(size));
        }
        builder = builder.group(GroupSpec::new("rest", [OptionSpec::new("kept", [0])]));
        Ok(builder.build()?)
    }

    /// The plan that takes the share asked for from every matrix.
    pub fn uniform(&self) -> Assignment {
        // The share asked for is one of them.
        let level = self.shares.partition_point(|&share| share < self.asked);
        let options = self.matrices.iter().map(|_| level as u32).chain([0]);
        Assignment::new(options.collect::<Vec<u32>>())
    }

    /// First flat option of each matrix, and their number.
    pub fn offsets(&self) -> Vec<usize> {
        (0..=self.matrices.len()).map(|n| n * self.count()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_config() -> ModelConfig {
        let json = serde_json::json!({
            "model_type": "llama", "hidden_size": 48, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 100, "num_hidden_layers": 3,
            "vocab_size": 10, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu",
        });
        ModelConfig::from_hf(&json).unwrap()
    }

    fn levels(asked: u64) -> Levels {
        Levels::new(&some_config(), asked).unwrap()
    }

    #[test]
    fn the_same_share_everywhere_is_enough_and_no_row_loses_more_than_one_weight_too_many() {
        for n in 1..=200 {
            // Odd shares up to nine tenths.
            let asked = WHOLE / 1000 * 9 * n / 2 - n;
            let levels = levels(asked);
            let plan = levels.uniform();
            let (dropped, wanted) = (levels.dropped(&plan), levels.to_drop());
            let rows: u64 = levels.matrices.iter().map(|m| m.rows as u64).sum();
            assert!((wanted..=wanted + rows).contains(&dropped), "{asked}: {dropped} {wanted}");
            let problem = levels.problem().unwrap();
            assert_eq!(problem.decisions().len(), levels.matrices.len() + 1);
        }
    }

    #[test]
    fn all_matrices_of_the_blocks_are_there_and_nothing_else() {
        let levels = levels(WHOLE / 2);
        assert_eq!(levels.matrices.len(), 3 * 7);
        assert_eq!(levels.weights(), 3 * (48 * (48 + 24 + 24 + 48) + 3 * 48 * 100));
        let error = |share| Levels::new(&some_config(), share).unwrap_err().to_string();
        assert!(error(0).contains("more than 0%") && error(WHOLE).contains("at most 90%"));
    }
}
