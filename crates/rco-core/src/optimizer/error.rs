//! What can go wrong in the optimiser.

use crate::knapsack::KnapsackError;
use crate::manifold::ManifoldError;

/// The optimiser could not be built, or could not take a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// A setting is out of its range.
    #[error("setting `{name}` is {value}; it must be {expected}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The range, in words.
        expected: &'static str,
    },
    /// A list does not have one entry per option.
    #[error("{what} has {found} entries; expected {expected}")]
    Length {
        /// Name of the list.
        what: &'static str,
        /// Entries expected.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("entry {index} of {what} is {value}: it must be a finite number")]
    NotFinite {
        /// Name of the list.
        what: &'static str,
        /// Index in the flat order.
        index: usize,
        /// The value.
        value: f64,
    },
    /// [`super::Rco::update`] was called without a [`super::Rco::sample`] before it.
    #[error("step {step} has no samples yet: call `sample` before `update`")]
    NoSamples {
        /// The step.
        step: u64,
    },
    /// The number of gradients differs from the number of samples.
    #[error("the step has {expected} samples, but {found} gradients were given")]
    GradientCount {
        /// Samples of the step.
        expected: usize,
        /// Gradients given.
        found: usize,
    },
    /// The budget manifold.
    #[error(transparent)]
    Manifold(#[from] ManifoldError),
    /// The exact discrete step.
    #[error(transparent)]
    Knapsack(#[from] KnapsackError),
}
