//! Description of a tensor and its place in the file.

use super::error::GgufFault;
use super::limits::{MAX_DIMENSIONS, MAX_NAME_BYTES, name_problem};
use super::tensor_type::TensorType;

/// Name, shape and type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name.
    pub name: String,
    /// Dimensions in ggml's order: the row length first. At most four; none for a scalar.
    pub shape: Vec<u64>,
    /// Type.
    pub ty: TensorType,
}

impl TensorSpec {
    /// A description; [`TensorSpec::byte_length`] checks it.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<u64>>, ty: TensorType) -> Self {
        Self { name: name.into(), shape: shape.into(), ty }
    }

    /// Elements in a row.
    pub fn row_length(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Number of elements.
    ///
    /// # Errors
    /// [`GgufFault::ShapeOverflow`] if it is more than 2⁶³ − 1.
    pub fn elements(&self) -> Result<u64, GgufFault> {
        // A dimension of 0 after two huge ones must not hide an overflow.
        let counted: Option<u64> =
            self.shape.iter().try_fold(1_u64, |product, &d| product.checked_mul(d.max(1)));
        match counted {
            Some(product) if i64::try_from(product).is_ok() => {
                Ok(if self.shape.contains(&0) { 0 } else { product })
            }
            _ => Err(self.overflow()),
        }
    }

    /// Bytes of the data; `None` for a type that is not known.
    ///
    /// # Errors
    /// [`GgufFault::BrokenRow`] if a row is no whole number of blocks,
    /// [`GgufFault::ShapeOverflow`] if the size is more than 2⁶³ − 1.
    pub fn byte_length(&self) -> Result<Option<u64>, GgufFault> {
        let elements = self.elements()?;
        let Some(layout) = self.ty.layout() else { return Ok(None) };
        let row_length = self.row_length();
        if !row_length.is_multiple_of(layout.block) {
            return Err(GgufFault::BrokenRow {
                name: self.name.clone(),
                row_length,
                ty: self.ty.to_string(),
                block: layout.block,
            });
        }
        match (elements / layout.block).checked_mul(layout.bytes) {
            Some(bytes) if i64::try_from(bytes).is_ok() => Ok(Some(bytes)),
            _ => Err(self.overflow()),
        }
    }

    /// Checks the name and the number of dimensions.
    pub(crate) fn check(&self) -> Result<(), GgufFault> {
        if let Some(problem) = name_problem(self.name.as_bytes(), MAX_NAME_BYTES) {
            let what = format!("the tensor name '{}'", self.name);
            return Err(GgufFault::BadName { what, problem });
        }
        if self.shape.len() > MAX_DIMENSIONS as usize {
            return Err(GgufFault::TooManyDimensions {
                name: self.name.clone(),
                found: self.shape.len() as u32,
                limit: MAX_DIMENSIONS,
            });
        }
        Ok(())
    }

    fn overflow(&self) -> GgufFault {
        GgufFault::ShapeOverflow { name: self.name.clone(), shape: self.shape.clone() }
    }
}

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, shape and type.
    pub spec: TensorSpec,
    /// First byte, counted from the start of the data section.
    pub offset: u64,
    /// Bytes of the data. For a type that is not known: up to the next tensor, so padding
    /// is counted with it.
    pub length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[u64], ty: TensorType) -> TensorSpec {
        TensorSpec::new("t", shape, ty)
    }

    #[test]
    fn byte_length_is_blocks_times_block_bytes() {
        assert_eq!(spec(&[256, 3, 2], TensorType::Q4_K).byte_length().unwrap(), Some(6 * 144));
        assert_eq!(spec(&[], TensorType::F32).byte_length().unwrap(), Some(4));
        assert_eq!(spec(&[5, 0], TensorType::F16).byte_length().unwrap(), Some(0));
        assert_eq!(spec(&[7], TensorType(99)).byte_length().unwrap(), None);
    }

    #[test]
    fn a_row_must_be_whole_blocks_even_if_the_total_is() {
        let error = spec(&[128, 2], TensorType::Q4_K).byte_length().unwrap_err();
        assert!(matches!(error, GgufFault::BrokenRow { row_length: 128, block: 256, .. }));
    }

    #[test]
    fn products_that_overflow_are_refused_even_beside_a_zero() {
        for shape in [&[1 << 32, 1 << 32][..], &[1 << 63], &[1 << 62, 4, 0], &[u64::MAX, 0]] {
            assert!(matches!(
                spec(shape, TensorType::I8).byte_length(),
                Err(GgufFault::ShapeOverflow { .. })
            ));
        }
        assert!(spec(&[1 << 61], TensorType::F64).byte_length().is_err());
    }
}
