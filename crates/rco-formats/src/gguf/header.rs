//! Parses magic, version, metadata and tensor descriptions.

use std::collections::HashSet;

use super::cursor::Cursor;
use super::error::GgufFault;
use super::extents;
use super::limits::{
    DEFAULT_ALIGNMENT, MAX_ALIGNMENT, MAX_DIMENSIONS, MAX_KEY_BYTES, MAX_NAME_BYTES, align_up,
    name_problem,
};
use super::metadata::Metadata;
use super::tensor::{TensorInfo, TensorSpec};
use super::tensor_type::TensorType;
use super::value::Value;
use crate::source::ReadAt;

/// Fewest bytes of a key with its value.
const LEAST_ENTRY: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of a tensor description.
const LEAST_TENSOR: u64 = 8 + 1 + 4 + 4 + 8;

/// Everything before the tensor data.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// 2 or 3; the two differ in nothing that a little-endian file shows.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// Tensors in the order of their descriptions.
    pub tensors: Vec<TensorInfo>,
    /// Alignment of the data section and of every tensor in it.
    pub alignment: u64,
    /// Bytes of the header without padding.
    pub header_bytes: u64,
    /// First byte of the data section.
    pub data_start: u64,
}

impl Header {
    /// Parses and checks the header of `source`.
    ///
    /// # Errors
    /// Any [`GgufFault`] about the contents of a file.
    pub fn parse(source: &dyn ReadAt) -> Result<Self, GgufFault> {
        let mut cursor = Cursor::new(source);
        let version = parse_version(&mut cursor)?;

        cursor.enter("the number of tensors");
        let tensor_count = cursor.u64()?;
        cursor.enter("the number of keys");
        let key_count = cursor.u64()?;

        let metadata = parse_metadata(&mut cursor, key_count)?;
        let alignment = alignment(&metadata)?;
        let (specs, offsets) = parse_tensors(&mut cursor, tensor_count)?;

        let header_bytes = cursor.position();
        let data_start = align_up(header_bytes, alignment).unwrap_or(u64::MAX);
        let tensors = extents::place(specs, &offsets, alignment, data_start, source.size())?;
        Ok(Self { version, metadata, tensors, alignment, header_bytes, data_start })
    }
}

/// Alignment that `metadata` asks for.
pub(crate) fn alignment(metadata: &Metadata) -> Result<u64, GgufFault> {
    let key = "general.alignment";
    match metadata.get(key) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(found)) => {
            let found = u64::from(found);
            if found.is_power_of_two() && found <= MAX_ALIGNMENT {
                Ok(found)
            } else {
                Err(GgufFault::BadAlignment { found, limit: MAX_ALIGNMENT })
            }
        }
        Some(_) => Err(GgufFault::WrongValueType {
            key: key.into(),
            expected: "a 32-bit integer without sign",
            found: "of another type",
        }),
    }
}

fn parse_version(cursor: &mut Cursor<'_>) -> Result<u32, GgufFault> {
    cursor.enter("the magic number");
    let found = cursor.array()?;
    if &found != b"GGUF" {
        return Err(GgufFault::NotGguf { found });
    }
    cursor.enter("the version");
    match cursor.u32()? {
        version @ 2..=3 => Ok(version),
        found => match found.swap_bytes() {
            version @ 1..=3 => Err(GgufFault::BigEndian { version }),
            _ => Err(GgufFault::UnsupportedVersion { found }),
        },
    }
}

fn parse_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, GgufFault> {
    cursor.enter("the metadata");
    cursor.need(count, LEAST_ENTRY)?;
    let mut metadata = Metadata::new();
    for i in 0..count {
        cursor.enter(format!("key {i}"));
        let key = parse_name(cursor, MAX_KEY_BYTES)?;
        cursor.enter(format!("the value of '{key}'"));
        let value = cursor.value()?;
        metadata.push_new(key, value)?;
    }
    Ok(metadata)
}

fn parse_tensors(
    cursor: &mut Cursor<'_>,
    count: u64,
) -> Result<(Vec<TensorSpec>, Vec<u64>), GgufFault> {
    cursor.enter("the tensor descriptions");
    cursor.need(count, LEAST_TENSOR)?;
    let (mut specs, mut offsets): (Vec<TensorSpec>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for i in 0..count {
        cursor.enter(format!("the name of tensor {i}"));
        let name = parse_name(cursor, MAX_NAME_BYTES)?;
        cursor.enter(format!("the description of tensor '{name}'"));
        let found = cursor.u32()?;
        if found > MAX_DIMENSIONS {
            return Err(GgufFault::TooManyDimensions { name, found, limit: MAX_DIMENSIONS });
        }
        let shape = (0..found).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
        let ty = TensorType(cursor.u32()?);
        offsets.push(cursor.u64()?);
        if !seen.insert(name.clone()) {
            return Err(GgufFault::DuplicateTensor { name });
        }
        specs.push(TensorSpec { name, shape, ty });
    }
    Ok((specs, offsets))
}

fn parse_name(cursor: &mut Cursor<'_>, longest: usize) -> Result<String, GgufFault> {
    let bytes = cursor.text()?;
    let bad = |problem| GgufFault::BadName { what: cursor.what(), problem };
    if let Some(problem) = name_problem(&bytes, longest) {
        return Err(bad(problem));
    }
    String::from_utf8(bytes).map_err(|_| bad("not UTF-8"))
}
