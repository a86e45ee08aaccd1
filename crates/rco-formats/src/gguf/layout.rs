//! Where everything will lie in a file that is yet to be written.

use std::collections::HashSet;

use super::error::GgufFault;
use super::header::alignment;
use super::limits::{MAX_HEADER_BYTES, align_up};
use super::metadata::Metadata;
use super::tensor::TensorSpec;
use super::value::{Array, Value};

/// Sizes and offsets of a file with given metadata and tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Alignment of the data section and of every tensor.
    pub alignment: u64,
    /// Bytes before the data section, without padding.
    pub header_bytes: u64,
    /// First byte of the data section.
    pub data_start: u64,
    /// Offset of each tensor in the data section.
    pub offsets: Vec<u64>,
    /// Bytes of each tensor without padding.
    pub lengths: Vec<u64>,
    /// Bytes of the whole file.
    pub file_size: u64,
}

impl Layout {
    /// The layout of a file with tensors of known types.
    ///
    /// Nothing but the padded length of the tensors depends on their types, so the file
    /// size is `data_start` + Σ [`Layout::padded`].
    ///
    /// # Errors
    /// Names, shapes or an alignment that cannot be written.
    pub fn new(metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Self, GgufFault> {
        let lengths = tensors
            .iter()
            .map(|spec| {
                spec.byte_length()?.ok_or_else(|| GgufFault::UnknownType {
                    name: spec.name.clone(),
                    ty: spec.ty.0,
                })
            })
            .collect::<Result<Vec<u64>, GgufFault>>()?;
        Self::with_lengths(metadata, tensors, lengths)
    }

    /// The layout of a file whose tensors have these lengths.
    pub(crate) fn with_lengths(
        metadata: &Metadata,
        tensors: &[TensorSpec],
        lengths: Vec<u64>,
    ) -> Result<Self, GgufFault> {
        let alignment = alignment(metadata)?;
        let mut seen = HashSet::new();
        for spec in tensors {
            spec.check()?;
            if !seen.insert(&spec.name) {
                return Err(GgufFault::DuplicateTensor { name: spec.name.clone() });
            }
        }
        let header_bytes = header_bytes(metadata, tensors);
        if header_bytes > MAX_HEADER_BYTES {
            let what = "the metadata".to_owned();
            return Err(GgufFault::HeaderTooLarge { what, limit: MAX_HEADER_BYTES });
        }
        let data_start = header_bytes.next_multiple_of(alignment);
        let mut at = 0_u64;
        let mut offsets = Vec::with_capacity(tensors.len());
        for (spec, &length) in tensors.iter().zip(&lengths) {
            offsets.push(at);
            at = align_up(length, alignment)
                .and_then(|padded| at.checked_add(padded))
                .filter(|&end| end <= i64::MAX as u64 - data_start)
                .ok_or_else(|| GgufFault::ShapeOverflow {
                    name: spec.name.clone(),
                    shape: spec.shape.clone(),
                })?;
        }
        let file_size = data_start + at;
        Ok(Self { alignment, header_bytes, data_start, offsets, lengths, file_size })
    }

    /// Bytes that a tensor of `length` bytes takes in the file.
    pub fn padded(&self, length: u64) -> u64 {
        align_up(length, self.alignment).unwrap_or(u64::MAX)
    }
}

/// Magic, version, two counts, metadata and tensor descriptions.
fn header_bytes(metadata: &Metadata, tensors: &[TensorSpec]) -> u64 {
    let keys: u64 =
        metadata.iter().map(|(key, value)| 8 + key.len() as u64 + 4 + value_bytes(value)).sum();
    let descriptions: u64 = tensors
        .iter()
        .map(|t| 8 + t.name.len() as u64 + 4 + 8 * t.shape.len() as u64 + 4 + 8)
        .sum();
    4 + 4 + 8 + 8 + keys + descriptions
}

fn value_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => 8 + text.0.len() as u64,
        Value::Array(array) => array_bytes(array),
        other => other.value_type().least_bytes(),
    }
}

fn array_bytes(array: &Array) -> u64 {
    let elements = match array {
        Array::String(texts) => texts.iter().map(|t| 8 + t.0.len() as u64).sum(),
        Array::Array(arrays) => arrays.iter().map(array_bytes).sum(),
        other => other.len() as u64 * other.element_type().least_bytes(),
    };
    4 + 8 + elements
}
