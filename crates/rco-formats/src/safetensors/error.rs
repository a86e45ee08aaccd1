//! What can be wrong with safetensors files and the folders that hold them.

use std::io;

use crate::atomic::WriteError;

/// A fault of one file or folder.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}")]
#[non_exhaustive]
pub struct SafetensorsError {
    /// The file or folder, as it was named by the caller.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub fault: SafetensorsFault,
}

impl SafetensorsError {
    /// A fault of a file.
    pub fn new(file: impl Into<String>, fault: SafetensorsFault) -> Self {
        Self { file: file.into(), fault }
    }
}

/// What is wrong with a file or folder, or with what is to be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsFault {
    /// The system refused an operation.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file is shorter than its header.
    #[error("the header needs {needed} bytes, but the file has only {found}")]
    Truncated {
        /// Bytes of length and header.
        needed: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The header is longer than the limit.
    #[error("the header of {found} bytes is larger than the limit of {limit}")]
    HeaderTooLarge {
        /// Length claimed.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The header does not begin with an opening brace.
    #[error("not a safetensors file: its header does not begin with '{{'")]
    NotSafetensors,
    /// JSON that is not what it must be: syntax, a missing, unknown or double key.
    #[error("bad JSON in {what}: {source}")]
    Json {
        /// What was being read.
        what: &'static str,
        /// Where and what.
        source: serde_json::Error,
    },
    /// An element type that is not known.
    #[error("the tensor '{name}' has the unknown element type '{dtype}'")]
    UnknownDtype {
        /// The tensor.
        name: String,
        /// The type.
        dtype: String,
    },
    /// The end of a tensor lies before its start.
    #[error("the tensor '{name}' ends at {end}, before its start at {start}")]
    Reversed {
        /// The tensor.
        name: String,
        /// Its start in the data.
        start: u64,
        /// Its end in the data.
        end: u64,
    },
    /// Shape and type do not give the length.
    #[error("the tensor '{name}' of shape {shape:?} and type {dtype} cannot have {found} bytes")]
    WrongLength {
        /// The tensor.
        name: String,
        /// Its dimensions.
        shape: Vec<u64>,
        /// Its type.
        dtype: &'static str,
        /// Its length.
        found: u64,
    },
    /// The number of elements or bytes is more than 2⁶³ − 1.
    #[error("the tensor '{name}' of shape {shape:?} is too large to be counted in 63 bits")]
    ShapeOverflow {
        /// The tensor.
        name: String,
        /// Its dimensions.
        shape: Vec<u64>,
    },
    /// The tensor does not begin where the one before it ends: an overlap or a hole.
    #[error(
        "the tensor '{name}' begins at {start}; it must begin at {expected}, where the one \
             before it ends"
    )]
    NotContiguous {
        /// The tensor.
        name: String,
        /// Its start in the data.
        start: u64,
        /// Where it must start.
        expected: u64,
    },
    /// The tensors do not end where the file ends.
    #[error("the tensors end at byte {expected} of the data, which has {found}")]
    WrongEnd {
        /// End of the last tensor.
        expected: u64,
        /// Bytes of data in the file.
        found: u64,
    },
    /// No tensor has this name.
    #[error("there is no tensor '{name}'")]
    NoSuchTensor {
        /// The name asked for.
        name: String,
    },
    /// A read outside a tensor.
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
    /// Two tensors of one name are to be written.
    #[error("the tensor '{name}' occurs twice")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A name that the format keeps for itself.
    #[error("'__metadata__' cannot be the name of a tensor")]
    ReservedName,
    /// A file of the folder is missing.
    #[error("the folder has no {file}: {mend}")]
    Missing {
        /// The file.
        file: &'static str,
        /// What to do about it.
        mend: &'static str,
    },
    /// A folder with both `model.safetensors` and an index.
    #[error(
        "the folder has model.safetensors and model.safetensors.index.json: remove the one \
             that is not the model"
    )]
    TwoModels,
    /// A JSON file that is too large to be one.
    #[error("{file} has {found} bytes, more than the limit of {limit}")]
    FileTooLarge {
        /// The file.
        file: String,
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The index names a file that may lie outside the folder.
    #[error(
        "the index names the file '{shard}'; only plain names ending in .safetensors are \
             followed"
    )]
    BadShardName {
        /// The name.
        shard: String,
    },
    /// The index puts a tensor into a file that does not have it.
    #[error("the index says that the tensor '{name}' is in {shard}, but it is not")]
    NotInShard {
        /// The tensor.
        name: String,
        /// The file.
        shard: String,
    },
    /// A file holds a tensor that the index does not name, or puts elsewhere.
    #[error("{shard} holds the tensor '{name}', but the index {says}")]
    NotInIndex {
        /// The tensor.
        name: String,
        /// The file.
        shard: String,
        /// What the index says.
        says: String,
    },
    /// The index gives another total size than the tensors have.
    #[error(
        "the index says that the tensors have {expected} bytes, but they have {found}: mend \
             or remove metadata.total_size"
    )]
    WrongTotal {
        /// `metadata.total_size`.
        expected: u64,
        /// Bytes of all tensors.
        found: u64,
    },
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}
