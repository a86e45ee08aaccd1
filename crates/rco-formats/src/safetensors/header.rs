//! Parses and checks the header of one file.
//!
//! The `safetensors` crate is not used for it because it wants the whole file in one
//! slice (in memory, or mapped with `unsafe`), keeps the last of two tensors of one name,
//! loses the order of the metadata, and its errors do not say which tensor is at fault.
//! The tests hold this parser against it: what is accepted here is accepted there, and
//! read alike.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::dtype::Dtype;
use super::error::SafetensorsFault;
use crate::json::{UniqueMap, check_new};
use crate::source::ReadAt;

/// Largest header, as in the reference implementation.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes of the length before the header.
pub(crate) const LENGTH_BYTES: u64 = 8;
/// Key of the free-form metadata.
pub(crate) const METADATA: &str = "__metadata__";

/// A tensor in a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, slowest first: the row length is the last.
    pub shape: Vec<u64>,
    /// First byte, counted from the start of the data.
    pub start: u64,
    /// Bytes of the data.
    pub length: u64,
}

impl TensorEntry {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// Everything before the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Free-form metadata in the order of the file; `None` if there is no such key.
    pub metadata: Option<Vec<(String, String)>>,
    /// Tensors in the order of their data.
    pub tensors: Vec<TensorEntry>,
    /// First byte of the data.
    pub data_start: u64,
}

impl Header {
    /// Parses and checks the header of `source`.
    ///
    /// # Errors
    /// Any [`SafetensorsFault`] about the contents of one file.
    pub fn parse(source: &dyn ReadAt) -> Result<Self, SafetensorsFault> {
        let found = source.size();
        let io = |source| SafetensorsFault::Io { action: "read the header", source };
        let mut length = [0; LENGTH_BYTES as usize];
        if found < LENGTH_BYTES {
            return Err(SafetensorsFault::Truncated { needed: LENGTH_BYTES, found });
        }
        source.read_exact_at(&mut length, 0).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES {
            let limit = MAX_HEADER_BYTES;
            return Err(SafetensorsFault::HeaderTooLarge { found: length, limit });
        }
        let data_start = LENGTH_BYTES + length;
        if data_start > found {
            return Err(SafetensorsFault::Truncated { needed: data_start, found });
        }
        let mut json = vec![0; length as usize];
        source.read_exact_at(&mut json, LENGTH_BYTES).map_err(io)?;
        if json.first() != Some(&b'{') {
            return Err(SafetensorsFault::NotSafetensors);
        }
        let raw: RawHeader = serde_json::from_slice(&json)
            .map_err(|source| SafetensorsFault::Json { what: "the header", source })?;
        let mut tensors = raw.tensors.into_iter().map(check).collect::<Result<Vec<_>, _>>()?;
        // Stable, so tensors without bytes keep their order.
        tensors.sort_by_key(|t| (t.start, t.length));
        check_tiling(&tensors, found - data_start)?;
        Ok(Self { metadata: raw.metadata.map(|m| m.0), tensors, data_start })
    }
}

/// Bytes of a tensor.
pub(crate) fn byte_length(
    name: &str,
    dtype: Dtype,
    shape: &[u64],
) -> Result<Option<u64>, SafetensorsFault> {
    let overflow =
        || SafetensorsFault::ShapeOverflow { name: name.to_owned(), shape: shape.to_vec() };
    let padded = shape.iter().try_fold(1_u64, |product, &d| product.checked_mul(d.max(1)));
    let bits = padded.and_then(|n| n.checked_mul(dtype.bits()));
    if bits.is_none_or(|bits| i64::try_from(bits).is_err()) {
        return Err(overflow());
    }
    let bits = shape.iter().product::<u64>() * dtype.bits();
    Ok(bits.is_multiple_of(8).then_some(bits / 8))
}

fn check((name, raw): (String, RawTensor)) -> Result<TensorEntry, SafetensorsFault> {
    let RawTensor { dtype, shape, data_offsets: [start, end] } = raw;
    let Some(dtype) = Dtype::from_name(&dtype) else {
        return Err(SafetensorsFault::UnknownDtype { name, dtype });
    };
    let Some(length) = end.checked_sub(start) else {
        return Err(SafetensorsFault::Reversed { name, start, end });
    };
    if byte_length(&name, dtype, &shape)? != Some(length) {
        let (dtype, found) = (dtype.name(), length);
        return Err(SafetensorsFault::WrongLength { name, shape, dtype, found });
    }
    Ok(TensorEntry { name, dtype, shape, start, length })
}

/// Every byte of the data belongs to exactly one tensor.
fn check_tiling(tensors: &[TensorEntry], available: u64) -> Result<(), SafetensorsFault> {
    let mut expected = 0;
    for tensor in tensors {
        if tensor.start != expected {
            let (name, start) = (tensor.name.clone(), tensor.start);
            return Err(SafetensorsFault::NotContiguous { name, start, expected });
        }
        expected = tensor.start + tensor.length;
    }
    if expected != available {
        return Err(SafetensorsFault::WrongEnd { expected, found: available });
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

#[derive(Debug)]
struct RawHeader {
    metadata: Option<UniqueMap<String>>,
    tensors: Vec<(String, RawTensor)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader { metadata: None, tensors: Vec::new() };
                let mut seen = HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    check_new::<A::Error>(&mut seen, &key)?;
                    if key == METADATA {
                        header.metadata = Some(map.next_value()?);
                    } else {
                        let value = map.next_value().map_err(|e| {
                            <A::Error as de::Error>::custom(format_args!("tensor '{key}': {e}"))
                        })?;
                        header.tensors.push((key, value));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
