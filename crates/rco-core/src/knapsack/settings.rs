//! Limits of the proof.

use serde::{Deserialize, Serialize};

/// How much work a solution is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// A bound and a good solution, without proof.
    Incumbent,
    /// Search on until the solution is proven or a limit is hit.
    #[default]
    Proven,
}

/// Limits of the search for a proof. Memory and work are counted, not timed, so that
/// equal input gives equal output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Most partial solutions that are kept at once. One takes up to about 60 bytes.
    /// At least 16 are kept.
    pub max_states: usize,
    /// Most partial solutions that are looked at (one budget), and ten thousand
    /// times the most nodes of HiGHS (several budgets).
    pub max_nodes: u64,
    /// Whether to prove the solution.
    pub effort: Effort,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_states: 1 << 20, max_nodes: 20_000_000, effort: Effort::Proven }
    }
}
