//! What dropping each expert by itself costs, from a few backward passes.
//!
//! At the original model the gradient of the KL is zero and its Hessian is the Fisher matrix.
//! One backward pass of the log-likelihood of tokens that the model itself drew gives
//! `z_e = Σ_t ⟨∇_t, Δ_t(e)⟩` for every expert at once, where `Δ_t(e)` is the exact change of
//! the mixture at token `t`: the expert gone, the next one in its place, weights divided anew.
//! With the mean over a sequence of `T` tokens, half of `T · E[z²]` is the KL to second order.

use rco_core::rng::{Purpose, stream};
use rco_model::head::Target;
use rco_model::{Batch, FlipForm, Model};

use super::aim::Aim;
use super::error::PruneError;
use super::experts::ExpertMap;
use super::objective::Flips;

/// Samples of all sequences of a batch: `√T · z` for every group.
///
/// # Errors
/// Whatever the model meets.
pub fn samples(
    original: &Model,
    map: &ExpertMap,
    batch: &Batch,
    seed: u64,
    index: u64,
) -> Result<Vec<Vec<f64>>, PruneError> {
    let mut random = stream(seed, Purpose::Fisher, index);
    let uniform: Vec<f64> = (0..batch.rows()).map(|_| random.uniform()).collect();
    let mut flips = Flips::new(FlipForm::Exact);
    original.gradient(batch, Target::Drawn { uniform: &uniform }, &mut flips)?;
    // The loss was the mean over all sequences.
    let scale = batch.sequences() as f64 * (batch.sequence_len() as f64).sqrt();
    let sequence = |s: usize| {
        let of = |layer: usize| flips.found.iter().find(|f| f.layer == layer);
        let values = map.layers().iter().flat_map(|l| match of(l.layer) {
            Some(found) => found.values[s * l.experts..][..l.experts].to_vec(),
            None => vec![0.0; l.experts],
        });
        values.map(|z| scale * z).collect()
    };
    Ok((0..batch.sequences()).map(sequence).collect())
}

/// Half of the mean square of every group, the domains as heavy as `aim` says. Samples are of
/// `windows` windows in turns.
pub fn sensitivities(samples: &[Vec<f64>], aim: &Aim, windows: usize) -> Vec<f64> {
    let domains = aim.domains();
    let used: Vec<(f64, Vec<f64>)> = (0..domains)
        .filter(|&d| aim.weight(d) > 0.0)
        .map(|d| (aim.weight(d), of_domain(samples, aim, windows, d)))
        .filter(|(_, scores)| !scores.is_empty())
        .collect();
    let total: f64 = used.iter().map(|(weight, _)| weight).sum();
    let groups = samples.first().map_or(0, Vec::len);
    (0..groups).map(|g| used.iter().map(|(w, of)| w * of[g]).sum::<f64>() / total).collect()
}

/// Half of the mean square of every group on one domain; nothing if it has no samples.
pub(super) fn of_domain(
    samples: &[Vec<f64>],
    aim: &Aim,
    windows: usize,
    domain: usize,
) -> Vec<f64> {
    let own = samples.iter().enumerate();
    let own = own.filter(|(i, _)| aim.domain(i % windows.max(1)) == domain);
    let own: Vec<&Vec<f64>> = own.map(|(_, sample)| sample).collect();
    let groups = own.first().map_or(0, |z| z.len());
    let share = 0.5 / own.len().max(1) as f64;
    (0..groups).map(|g| share * own.iter().map(|z| z[g] * z[g]).sum::<f64>()).collect()
}
