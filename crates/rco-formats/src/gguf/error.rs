//! What can be wrong with a GGUF file.

use std::io;

use crate::atomic::WriteError;

/// A fault of one file.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}")]
#[non_exhaustive]
pub struct GgufError {
    /// The file, as it was named by the caller.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub fault: GgufFault,
}

impl GgufError {
    pub(crate) fn new(file: impl Into<String>, fault: GgufFault) -> Self {
        Self { file: file.into(), fault }
    }
}

/// What is wrong with a GGUF file, or with what is to be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufFault {
    /// The system refused an operation.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it begins with {found:02x?} instead of \"GGUF\"")]
    NotGguf {
        /// The bytes there.
        found: [u8; 4],
    },
    /// The version number is byte-swapped.
    #[error(
        "this GGUF file is big-endian (version {version} with its bytes swapped); only \
         little-endian files are read: convert it with gguf-py's gguf_convert_endian.py"
    )]
    BigEndian {
        /// The version once its bytes are put right.
        version: u32,
    },
    /// A version other than 2 and 3.
    #[error("GGUF version {found}; versions 2 and 3 are supported: convert the model again")]
    UnsupportedVersion {
        /// The version found.
        found: u32,
    },
    /// The file ends too early.
    #[error("{what} needs {needed} bytes at byte {at}, but the file has only {left} more")]
    Truncated {
        /// What was being read.
        what: String,
        /// Position in the file.
        at: u64,
        /// Bytes it claims.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// A count so large that its bytes cannot be counted in 64 bits.
    #[error("{what} claims {count} elements, more than any file can hold")]
    CountTooLarge {
        /// What was being read.
        what: String,
        /// The number claimed.
        count: u64,
    },
    /// Header, metadata and tensor descriptions go beyond the limit.
    #[error("{what} ends beyond the first {limit} bytes, the largest header that is read")]
    HeaderTooLarge {
        /// What was being read.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A key or a tensor name that is empty, too long, not UTF-8, or has a zero byte.
    #[error("{what} is {problem}")]
    BadName {
        /// Which key or tensor.
        what: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two values under one key.
    #[error("the key '{key}' occurs twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// Two tensors under one name.
    #[error("the tensor '{name}' occurs twice")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A value type outside 0..=12.
    #[error("{what} has the unknown value type {found} (known are 0 to 12)")]
    UnknownValueType {
        /// Which value.
        what: String,
        /// The number found.
        found: u32,
    },
    /// A truth value other than 0 and 1.
    #[error("{what} holds the truth value {found}; it must be 0 or 1")]
    BadBool {
        /// Which value.
        what: String,
        /// The byte found.
        found: u8,
    },
    /// Arrays of arrays of arrays, too deep.
    #[error("{what} nests arrays more than {limit} deep")]
    TooDeep {
        /// Which value.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// A key whose value has another type than the format gives it.
    #[error("the key '{key}' is {found}; it must be {expected}")]
    WrongValueType {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is, or `missing`.
        found: &'static str,
    },
    /// An alignment that is not a power of two or is too large.
    #[error("the alignment {found} is not a power of two of at most {limit}")]
    BadAlignment {
        /// The value of `general.alignment`.
        found: u64,
        /// The largest alignment.
        limit: u64,
    },
    /// More than four dimensions.
    #[error("the tensor '{name}' has {found} dimensions; at most {limit} are possible")]
    TooManyDimensions {
        /// The tensor.
        name: String,
        /// Number of dimensions.
        found: u32,
        /// The limit.
        limit: u32,
    },
    /// The number of elements or bytes is more than 2⁶³ − 1.
    #[error("the tensor '{name}' of shape {shape:?} is too large to be counted in 63 bits")]
    ShapeOverflow {
        /// The tensor.
        name: String,
        /// Its dimensions, row length first.
        shape: Vec<u64>,
    },
    /// The row length is not a multiple of the block of the type.
    #[error(
        "the tensor '{name}' has rows of {row_length} elements, which is no multiple of the \
         block of {block} of its type {ty}"
    )]
    BrokenRow {
        /// The tensor.
        name: String,
        /// Its row length.
        row_length: u64,
        /// The type.
        ty: String,
        /// Elements in a block of the type.
        block: u64,
    },
    /// An offset that is no multiple of the alignment.
    #[error("the tensor '{name}' begins at {offset}, which is no multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        name: String,
        /// Its offset in the data section.
        offset: u64,
        /// The alignment.
        alignment: u64,
    },
    /// Two tensors share bytes.
    #[error("the tensor '{name}' begins at {offset}, inside '{previous}', which ends at {end}")]
    Overlap {
        /// The later tensor.
        name: String,
        /// Its offset in the data section.
        offset: u64,
        /// The earlier tensor.
        previous: String,
        /// End of the earlier tensor with its padding.
        end: u64,
    },
    /// Bytes between two tensors that belong to neither.
    #[error("{bytes} bytes before the tensor '{name}' (at {offset}) belong to no tensor")]
    Hole {
        /// The tensor after the hole.
        name: String,
        /// Its offset in the data section.
        offset: u64,
        /// Length of the hole.
        bytes: u64,
    },
    /// A tensor reaches beyond the end of the file.
    #[error("the tensor '{name}' ends at {end} of a data section of {available} bytes")]
    OutsideFile {
        /// The tensor.
        name: String,
        /// Its end in the data section.
        end: u64,
        /// Length of the data section in this file.
        available: u64,
    },
    /// A tensor of an unknown type whose length the offsets do not tell.
    #[error("the tensor '{name}' has the unknown type {ty} and no bytes of its own")]
    UnknownExtent {
        /// The tensor.
        name: String,
        /// The number of its type.
        ty: u32,
    },
    /// Bytes after the last tensor.
    #[error("{bytes} bytes after the last tensor belong to nothing")]
    TrailingBytes {
        /// How many, beyond the padding.
        bytes: u64,
    },
    /// No tensor has this name.
    #[error("there is no tensor '{name}'")]
    NoSuchTensor {
        /// The name asked for.
        name: String,
    },
    /// A read outside a tensor, or into a buffer of the wrong length.
    #[error("bytes {start}..{end} were asked of the tensor '{name}', which has {length}")]
    OutsideTensor {
        /// The tensor.
        name: String,
        /// First byte asked for.
        start: u64,
        /// Byte after the last one.
        end: u64,
        /// Length of the tensor.
        length: u64,
    },
    /// The data of a tensor to be written is not as long as its shape and type say.
    #[error("the tensor '{name}' needs {expected} bytes, but its data has {found}")]
    WrongLength {
        /// The tensor.
        name: String,
        /// Bytes of its shape and type.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// A tensor of an unknown type is to be written from bytes.
    #[error("the type {ty} of the tensor '{name}' is unknown, so its size cannot be checked")]
    UnknownType {
        /// The tensor.
        name: String,
        /// The number of the type.
        ty: u32,
    },
    /// One part of a split model does not fit the others.
    #[error("this is not part {expected_no} of {expected_count} of a split model: {problem}")]
    SplitMismatch {
        /// Number of the part expected, from 1.
        expected_no: u64,
        /// Number of parts expected.
        expected_count: u64,
        /// What does not fit.
        problem: String,
    },
    /// A split model whose files are not named `NAME-00001-of-00003.gguf`.
    #[error(
        "it says that it is one of {count} parts, but its name does not end in \
         -{no:05}-of-{count:05}.gguf: give the parts their names back"
    )]
    SplitName {
        /// Number of the part, from 1.
        no: u64,
        /// Number of parts.
        count: u64,
    },
    /// A model cannot be split as asked.
    #[error("the model would need {parts} parts; at most {limit} are possible")]
    TooManyParts {
        /// Parts needed.
        parts: usize,
        /// The limit.
        limit: usize,
    },
    /// Writing the file failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}
