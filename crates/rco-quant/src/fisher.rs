//! Scores of all options from a subspace of the Fisher matrix (design §3).
//!
//! At the original model the gradient of the KL is zero and its Hessian is the Fisher
//! matrix. One backward pass of the log-likelihood of tokens that the model itself drew
//! gives `z_ik = ⟨∇, W_ik − W_i⟩` for every option at once. With the mean loss over `T`
//! tokens, whose draws are independent, the Hessian in the space of the options is
//! `T · E[z zᵀ]`; its diagonal, halved, is what an option costs by itself to second order.

use rco_core::rng::{Purpose, stream};
use rco_model::engine::{OptionGradients, OptionSquares};
use rco_model::head::Target;
use rco_model::{Batch, GradientVisitor};

use crate::error::QuantError;
use crate::objective::PlanModels;

/// One sample: `√T · z` for every option, in the flat order.
///
/// # Errors
/// Whatever the model meets.
pub fn sample(
    candidates: &dyn PlanModels,
    batch: &Batch,
    seed: u64,
    index: u64,
) -> Result<Vec<f64>, QuantError> {
    let options = candidates.options(None);
    let mut visitor = OptionGradients::new(&options, []);
    draw(candidates, batch, seed, index, &mut visitor)?;
    let mut z = visitor.into_values();
    z.resize(candidates.option_count(), 0.0);
    let scale = (batch.rows() as f64).sqrt();
    for z in &mut z {
        *z *= scale;
    }
    Ok(z)
}

/// Tokens of a part in [`sample_in_parts`].
pub(crate) const PART: usize = 32;

/// One sample whose squares are sums over parts of the text: `√(T · Σ_c z_c²)` for every option,
/// in the flat order, where `z_c` is the part that `c`, 32 tokens of the window, has in `z`.
///
/// What the error of a matrix does at one token and at another many tokens away is as good as
/// independent where the error is one of rounding and the labels are drawn, so that the expectation
/// is that of `T z²`: on `SmolLM2` it is 0.97 to 1.01 of it for six kinds of matrices, 0.92 for the
/// values of attention. The noise is not: one window so is worth more than two
/// (`benchmarks/reference/parts.txt`).
///
/// # Errors
/// Whatever the model meets.
pub fn sample_in_parts(
    candidates: &dyn PlanModels,
    batch: &Batch,
    seed: u64,
    index: u64,
) -> Result<Vec<f64>, QuantError> {
    let options = candidates.options(None);
    let mut visitor = OptionSquares::new(&options, PART);
    draw(candidates, batch, seed, index, &mut visitor)?;
    let mut squares = visitor.into_values();
    squares.resize(candidates.option_count(), 0.0);
    Ok(squares.into_iter().map(|square| (batch.rows() as f64 * square).sqrt()).collect())
}

/// A backward pass of the log-likelihood of tokens that the model has drawn.
fn draw(
    candidates: &dyn PlanModels,
    batch: &Batch,
    seed: u64,
    index: u64,
    visitor: &mut dyn GradientVisitor,
) -> Result<(), QuantError> {
    let mut random = stream(seed, Purpose::Fisher, index);
    let uniform: Vec<f64> = (0..batch.rows()).map(|_| random.uniform()).collect();
    candidates.original()?.gradient(batch, Target::Drawn { uniform: &uniform }, visitor)?;
    Ok(())
}

/// How many samples the pooled estimate of a group is worth. The errors of two types are as
/// good as independent, so one sample of a group's fifteen options is almost fifteen of its
/// sensitivity.
const POOLED_SAMPLES: f64 = 32.0;

/// Half of the mean square of every option, drawn towards the group's sensitivity times
/// the option's distortion: the samples of all options of a group say how sensitive it is,
/// and that is less noisy than what one option's own say.
pub fn scores(samples: &[Vec<f64>], distortions: &[f64], offsets: &[usize]) -> Vec<f64> {
    let count = samples.len() as f64;
    let own: Vec<f64> = (0..distortions.len())
        .map(|j| samples.iter().map(|z| z[j] * z[j]).sum::<f64>() / (2.0 * count.max(1.0)))
        .collect();
    let mut out = vec![0.0; own.len()];
    for range in offsets.windows(2).map(|w| w[0]..w[1]) {
        // The mean ratio over the options with a distortion.
        let ratios: Vec<f64> = range
            .clone()
            .filter(|&j| distortions[j] > 0.0)
            .map(|j| own[j] / distortions[j])
            .collect();
        let ratio = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
        for j in range {
            let pooled = ratio * distortions[j];
            out[j] = (count * own[j] + POOLED_SAMPLES * pooled) / (count + POOLED_SAMPLES);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::scores;

    #[test]
    fn many_samples_speak_for_themselves_and_few_lean_on_the_group() {
        // One group of three options: the source, and two of distortions 1 and 2.
        let (distortions, offsets) = ([0.0, 1.0, 2.0], [0, 3]);
        let one = vec![vec![0.0, 2.0, 2.0]];
        // Own: 2, 2; ratios 2, 1; pooled: 1.5, 3.
        let found = scores(&one, &distortions, &offsets);
        assert_eq!(found[0], 0.0);
        assert!((found[1] - (2.0 + 32.0 * 1.5) / 33.0).abs() < 1e-12);
        assert!((found[2] - (2.0 + 32.0 * 3.0) / 33.0).abs() < 1e-12);
        let many = vec![vec![0.0, 2.0, 2.0]; 100_000];
        let found = scores(&many, &distortions, &offsets);
        assert!((found[1] - 2.0).abs() < 1e-3 && (found[2] - 2.0).abs() < 1e-3);
    }
}
