//! What can be wrong with an importance matrix.

use std::io;

use crate::gguf::GgufFault;

/// A fault of one file.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}")]
#[non_exhaustive]
pub struct ImatrixError {
    /// The file, as it was named by the caller.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub fault: ImatrixFault,
}

impl ImatrixError {
    pub(crate) fn new(file: impl Into<String>, fault: ImatrixFault) -> Self {
        Self { file: file.into(), fault }
    }
}

/// What is wrong with an importance matrix, or with what is asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImatrixFault {
    /// The system refused an operation.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A fault of the GGUF file around it.
    #[error(transparent)]
    Gguf(#[from] GgufFault),
    /// A GGUF file of another kind.
    #[error("this GGUF file is no importance matrix: general.type is {found}, not 'imatrix'")]
    NotImatrix {
        /// What `general.type` says, or `missing`.
        found: String,
    },
    /// Only one of the two tensors of an entry.
    #[error("the entry '{name}' has no tensor {missing}")]
    HalfEntry {
        /// The entry.
        name: String,
        /// The tensor that is missing.
        missing: String,
    },
    /// A tensor that is not F32 or whose shape does not fit its partner.
    #[error("the entry '{name}' {problem}")]
    BadEntry {
        /// The entry.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two entries of one name.
    #[error("the entry '{name}' occurs twice")]
    DuplicateEntry {
        /// The entry.
        name: String,
    },
    /// No entries at all.
    #[error("there are no entries")]
    Empty,
    /// An old-style file that ends too early.
    #[error("{what} needs {needed} bytes at byte {at}, but the file has only {left} more")]
    Truncated {
        /// What was being read.
        what: String,
        /// Position in the file.
        at: u64,
        /// Bytes needed.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// An old-style file with a number that cannot be.
    #[error("{what} is {found}; it must be at least {least}")]
    BadNumber {
        /// What it counts.
        what: String,
        /// The number.
        found: i32,
        /// The least possible number.
        least: i32,
    },
    /// An old-style file with a name that is no text.
    #[error("the name of entry {entry} is {problem}")]
    BadName {
        /// Position of the entry.
        entry: u32,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Bytes after the end of an old-style file.
    #[error("{bytes} bytes after the end belong to nothing")]
    TrailingBytes {
        /// How many.
        bytes: u64,
    },
    /// The entry does not cover the tensor that asks for it.
    #[error(
        "the entry '{name}' has {found} values, but a tensor with rows of {row_length} in \
         {matrices} matrices needs {expected}: was it made with this model?"
    )]
    WrongCover {
        /// The entry.
        name: String,
        /// Row length of the tensor.
        row_length: u64,
        /// Matrices of the tensor.
        matrices: u64,
        /// Values needed.
        expected: u64,
        /// Values there are.
        found: u64,
    },
}
