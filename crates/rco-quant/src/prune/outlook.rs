//! What a job would do, before anything heavy.

use rco_model::config::MlpConfig;
use serde::Serialize;

use super::budget::Kept;
use super::error::PruneError;
use super::job::PruneJob;

/// What a job would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PruneOutlook {
    /// Family of the model.
    pub family: String,
    /// Blocks with experts.
    pub layers: usize,
    /// Experts of all blocks.
    pub experts: u64,
    /// Experts that each token is sent to.
    pub per_token: usize,
    /// Experts that go.
    pub dropped: u64,
    /// Experts that remain.
    pub kept: u64,
    /// The number that remains in every block, if it is one and the same.
    pub kept_per_layer: Option<u64>,
    /// Fewest that remain in any block.
    pub least_per_layer: u64,
    /// Bytes of the source's weights.
    pub source_bytes: u64,
    /// Bytes of the output to the byte, where they do not depend on the plan.
    pub output_bytes: Option<u64>,
    /// Tokens that are computed forwards or backwards, about.
    pub tokens: u64,
    /// Seconds, about, at a hundred thousand million operations a second.
    pub seconds: f64,
}

/// Operations a second that the estimate of the time takes: two cores of 2021.
const SPEED: f64 = 1e11;
/// Passes over the calibration text that a gradient is worth.
const GRADIENT: u64 = 4;
/// Plans measured besides steps and polish.
const BESIDES: u64 = 24;
/// Plans of the held-out choice.
const CHOICE: u64 = 14;

impl PruneJob {
    /// What the job would do. Reads nothing but headers.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn outlook(&self) -> Result<PruneOutlook, PruneError> {
        let (map, budget) = (&self.map, &self.budget);
        let work = self.work();
        let window = self.window() as u64;
        let calibration = work.calibration as u64 * window;
        let heldout = work.heldout as u64 * window;
        let passes = 1 + GRADIENT * (work.fisher + work.steps) + 2 * work.polish + BESIDES;
        let tokens = calibration * passes + heldout * (1 + CHOICE);
        let seconds = 2.0 * self.active_weights() as f64 * tokens as f64 / SPEED;
        let kept = budget.total();
        let least = match &budget.kept {
            Kept::Total(_) => budget.floors.iter().copied().min(),
            Kept::PerLayer(kept) => kept.iter().copied().min(),
        };
        Ok(PruneOutlook {
            family: self.source.config().family.to_string(),
            layers: map.layers().len(),
            experts: map.total() as u64,
            per_token: map.layers().iter().map(|l| l.per_token).max().unwrap_or(0),
            dropped: map.total() as u64 - kept,
            kept,
            kept_per_layer: budget.uniform(),
            least_per_layer: least.unwrap_or(0),
            source_bytes: self.source.bytes(),
            output_bytes: self.predicted_bytes()?,
            tokens,
            seconds,
        })
    }

    /// Weights that a token meets.
    fn active_weights(&self) -> u64 {
        let config = self.source.config();
        let product = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        let all: u64 = config.weights().iter().map(|(_, shape)| product(shape)).sum();
        let idle = config.blocks.iter().map(|block| match block.mlp {
            MlpConfig::Experts { experts, per_token, width, .. } => {
                experts.saturating_sub(per_token) as u64 * 3 * (config.hidden * width) as u64
            }
            MlpConfig::Dense { .. } => 0,
        });
        all.saturating_sub(idle.sum())
    }
}
