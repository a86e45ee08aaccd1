//! Where weights come from.

mod hf;
mod memory;
mod overlay;

pub use hf::HfWeights;
pub use memory::MemoryWeights;
pub use overlay::Overlay;

use crate::error::ModelError;
use crate::key::WeightKey;

/// A weight in memory, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct HostWeight {
    /// Dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Values; their number is the product of the dimensions.
    pub values: Vec<f32>,
}

/// A set of weights, read one at a time.
pub trait WeightSource: Send + Sync {
    /// The name that this source gives to a weight, for errors.
    fn name(&self, key: WeightKey) -> String;

    /// Dimensions of a weight; `None` if it does not exist.
    fn shape(&self, key: WeightKey) -> Option<Vec<usize>>;

    /// Reads a weight.
    ///
    /// # Errors
    /// A missing weight, one of a type that cannot be read, or a failed read.
    fn load(&self, key: WeightKey) -> Result<HostWeight, ModelError>;

    /// Reads rows of a matrix, in the order given; a source that can read parts reads no
    /// more than these.
    ///
    /// # Errors
    /// As [`WeightSource::load`], or a row that does not exist.
    fn load_rows(&self, key: WeightKey, rows: &[u32]) -> Result<HostWeight, ModelError> {
        let all = self.load(key)?;
        let width: usize = all.shape.iter().skip(1).product();
        let mut values = Vec::with_capacity(rows.len() * width);
        for &row in rows {
            let start = row as usize * width;
            let Some(row) = all.values.get(start..start + width) else {
                return Err(no_such_row(row, &all.shape));
            };
            values.extend_from_slice(row);
        }
        Ok(HostWeight { shape: vec![rows.len(), width], values })
    }
}

fn no_such_row(row: u32, shape: &[usize]) -> ModelError {
    ModelError::TokenOutOfRange { token: row, vocabulary: shape.first().copied().unwrap_or(0) }
}
