//! Where weights come from.

mod block_scales;
mod decoded;
mod float;
mod gguf;
mod hf;
mod memory;
mod overlay;
mod packed;
mod some_blocks;

pub use block_scales::BlockScales;
pub use decoded::decoded_copy;
pub use float::FloatType;
pub use gguf::GgufWeights;
pub use hf::{HfWeights, open_folder};
pub use memory::MemoryWeights;
pub use overlay::Overlay;
pub use packed::{PackedMatrix, PackedWeights};
pub use some_blocks::SomeBlocks;

use rayon::prelude::*;

use crate::error::ModelError;
use crate::key::WeightKey;
use crate::ops::ActivationRounding;

/// Values that a task reads at a time: few enough to stay in a core's cache.
pub(crate) const TASK: usize = 16 * 1024;

/// A weight in memory, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct HostWeight {
    /// Dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Values; their number is the product of the dimensions.
    pub values: Vec<f32>,
}

/// A set of weights, read one at a time or in parts, by several threads at once.
///
/// The rows of a weight are its last dimension: a matrix `[out, in]` has `out` rows of
/// `in` values, a vector is one row.
pub trait WeightSource: Send + Sync {
    /// The name that this source gives to a weight, for errors.
    fn name(&self, key: WeightKey) -> String;

    /// Dimensions of a weight; `None` if it does not exist.
    fn shape(&self, key: WeightKey) -> Option<Vec<usize>>;

    /// Fills `out`, a whole number of rows, with the rows from `first` on, and reads no
    /// more than these.
    ///
    /// # Errors
    /// A missing weight, one of a type that cannot be read, rows that do not exist, or a
    /// failed read.
    fn read_rows(&self, key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError>;

    /// How the runtime that these weights are stored for rounds the activations that it
    /// multiplies this one with.
    fn activation_rounding(&self, _key: WeightKey) -> ActivationRounding {
        ActivationRounding::Exact
    }

    /// Reads a weight, in parallel.
    ///
    /// # Errors
    /// As [`WeightSource::read_rows`].
    fn load(&self, key: WeightKey) -> Result<HostWeight, ModelError> {
        let missing = || ModelError::MissingWeight { name: self.name(key) };
        let shape = self.shape(key).ok_or_else(missing)?;
        let mut values = vec![0.0; shape.iter().product()];
        let rows = rows_per_task(&shape);
        let width = shape.last().copied().unwrap_or(1).max(1);
        values
            .par_chunks_mut(rows * width)
            .enumerate()
            .try_for_each(|(task, out)| self.read_rows(key, task * rows, out))?;
        Ok(HostWeight { shape, values })
    }

    /// Reads rows of a matrix, in the order given.
    ///
    /// # Errors
    /// As [`WeightSource::read_rows`].
    fn load_rows(&self, key: WeightKey, rows: &[u32]) -> Result<HostWeight, ModelError> {
        let missing = || ModelError::MissingWeight { name: self.name(key) };
        let shape = self.shape(key).ok_or_else(missing)?;
        let width = shape.last().copied().unwrap_or(1);
        let height: usize = shape.iter().rev().skip(1).product();
        if let Some(&row) = rows.iter().find(|&&row| row as usize >= height) {
            return Err(ModelError::TokenOutOfRange { token: row, vocabulary: height });
        }
        let mut values = vec![0.0; rows.len() * width];
        values
            .par_chunks_mut(width.max(1))
            .zip(rows)
            .with_min_len((TASK / width.max(1)).max(1))
            .try_for_each(|(out, &row)| self.read_rows(key, row as usize, out))?;
        Ok(HostWeight { shape: vec![rows.len(), width], values })
    }
}

/// Rows of a weight of this shape that a task reads at a time; a function of the shape
/// alone, so that the division of work does not depend on the number of threads.
pub(crate) fn rows_per_task(shape: &[usize]) -> usize {
    (TASK / shape.last().copied().unwrap_or(1).max(1)).max(1)
}

/// First value of the rows that `read_rows` is asked for, after a check that `out` is whole
/// rows and that they exist.
fn checked_start(
    name: impl FnOnce() -> String,
    shape: &[usize],
    first: usize,
    out: &[f32],
) -> Result<usize, ModelError> {
    let width = shape.last().copied().unwrap_or(1);
    let total: usize = shape.iter().product();
    match first.checked_mul(width) {
        Some(start)
            if out.len().is_multiple_of(width.max(1))
                && start.checked_add(out.len()).is_some_and(|end| end <= total) =>
        {
            Ok(start)
        }
        _ => Err(ModelError::WrongLength {
            name: name(),
            shape: shape.to_vec(),
            found: first.saturating_mul(width).saturating_add(out.len()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{HostWeight, MemoryWeights, WeightSource};
    use crate::error::ModelError;
    use crate::key::{WeightKey, WeightKind};

    #[test]
    fn rows_that_do_not_exist_are_refused() {
        let key = WeightKey::outer(WeightKind::Embedding);
        let mut weights = MemoryWeights::default();
        let weight = HostWeight { shape: vec![3, 2], values: (0..6_u8).map(f32::from).collect() };
        weights.insert(key, weight.clone()).unwrap();
        assert_eq!(weights.load(key).unwrap(), weight);
        assert_eq!(weights.load_rows(key, &[2, 0]).unwrap().values, [4.0, 5.0, 0.0, 1.0]);
        let error = weights.load_rows(key, &[3]).unwrap_err();
        assert!(matches!(error, ModelError::TokenOutOfRange { token: 3, vocabulary: 3 }));

        let mut out = [0.0; 4];
        weights.read_rows(key, 1, &mut out).unwrap();
        assert_eq!(out, [2.0, 3.0, 4.0, 5.0]);
        for (first, len) in [(2, 4), (0, 3), (usize::MAX, 2)] {
            let error = weights.read_rows(key, first, &mut out[..len]).unwrap_err();
            assert!(matches!(error, ModelError::WrongLength { .. }), "{error}");
        }
    }
}
