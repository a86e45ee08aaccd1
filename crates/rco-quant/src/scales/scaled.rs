//! What has scales.

use std::fmt;
use std::sync::Arc;

use rco_model::weights::WeightSource;
use rco_model::{ModelError, WeightGradient};

/// A matrix whose values are products of codes and scales. Each scale serves a group of neighbours
/// in a row; a group may have an offset besides.
pub(crate) trait Scaled: fmt::Debug + Send + Sync {
    /// A name that no other matrix of the model has.
    fn name(&self) -> String;

    /// Number of its scales and offsets.
    fn scales(&self) -> usize;

    /// Bits of a code, about: how fine the grid is.
    fn bits(&self) -> f64;

    /// The matrix with each scale and offset multiplied by its factor and rounded as a file holds
    /// it.
    ///
    /// # Errors
    /// A failed read.
    fn times(&self, factors: &[f32]) -> Result<Arc<dyn WeightSource>, ModelError>;

    /// The derivatives of the loss by the logarithms of all factors, in their order, at the
    /// matrix that `factors` make.
    ///
    /// # Errors
    /// A failed read.
    fn slopes(
        &self,
        factors: &[f32],
        gradient: &WeightGradient<'_>,
    ) -> Result<Vec<f32>, ModelError>;
}
