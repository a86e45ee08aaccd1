//! Scales of a plan, fitted to the loss.
//!
//! Rounding chooses the scales of a matrix so that its own weights or outputs change little. What
//! the whole model makes of all these errors is in the gradient of the loss: its part along the
//! scale of a group is `Σ ∂L/∂W · Ŵ` over the group, which the backward pass gives for every group
//! at once. Adam follows it, with the codes as they are, so that not a byte is added. Training the
//! parameters of the grid on the loss of the whole model is from Chen et al. 2024
//! ([arXiv 2407.11062](https://arxiv.org/abs/2407.11062), `EfficientQAT`); here the loss is the KL
//! from the original, and scales are rounded to the file's floats in every step.

mod matrix;
mod scaled;
mod state;
mod tuning;

pub(crate) use matrix::MatrixScales;
pub(crate) use scaled::Scaled;
pub use tuning::TuningOutcome;
pub(crate) use tuning::{Tuned, Tuning};
