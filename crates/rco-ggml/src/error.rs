//! What can go wrong with llama.cpp.

use std::path::PathBuf;

use rco_formats::gguf::{GgufError, TensorType};
use rco_formats::imatrix::ImatrixFault;

/// Why a call of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgmlError {
    /// The type is unknown here, or this ggml lays it out in another way.
    #[error("this ggml has no tensor type {ty}: write the tensor in a type that it knows")]
    UnknownType {
        /// The type.
        ty: TensorType,
    },
    /// ggml has no encoder for the type.
    #[error("ggml cannot quantise to {ty}: choose another type")]
    CannotEncode {
        /// The type.
        ty: TensorType,
    },
    /// ggml has no decoder for the type.
    #[error("ggml cannot decode {ty} to floats: convert the tensor to another type")]
    CannotDecode {
        /// The type.
        ty: TensorType,
    },
    /// A row is empty or no whole number of blocks.
    #[error(
        "rows of {row_length} values cannot be {ty}: they must be a multiple of {block}, and not \
         empty"
    )]
    BrokenRow {
        /// The type.
        ty: TensorType,
        /// Values in a row.
        row_length: usize,
        /// Values in a block of the type.
        block: usize,
    },
    /// The values are no whole number of rows.
    #[error("{found} values are no whole number of rows of {row_length}")]
    BrokenShape {
        /// Number of values.
        found: usize,
        /// Values in a row.
        row_length: usize,
    },
    /// The bytes are not as long as the values they should decode to.
    #[error("{values} values of {ty} have {expected} bytes, but {found} are given")]
    WrongLength {
        /// The type.
        ty: TensorType,
        /// Number of values.
        values: usize,
        /// Bytes of so many values.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A value that is not finite.
    #[error("row {row}, column {column} holds {value}: only finite values can be quantised")]
    NotFinite {
        /// The row, from 0.
        row: usize,
        /// The column, from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A value that the type cannot hold.
    #[error(
        "row {row}, column {column} holds {value}: {ty} keeps its scales in 16-bit floats, so \
         values must lie within ±{limit}"
    )]
    TooLarge {
        /// The type.
        ty: TensorType,
        /// The row, from 0.
        row: usize,
        /// The column, from 0.
        column: usize,
        /// The value.
        value: f32,
        /// The largest magnitude.
        limit: f32,
    },
    /// ggml made blocks with scales that are not finite.
    #[error("{ty} of the rows {first}..{end} came out with scales that are not finite")]
    BadBlocks {
        /// The type.
        ty: TensorType,
        /// First row of the piece.
        first: usize,
        /// Row after the last one.
        end: usize,
    },
    /// The type needs an importance matrix.
    #[error("{ty} needs an importance matrix: give one, or choose another type")]
    MissingImportance {
        /// The type.
        ty: TensorType,
    },
    /// The importance does not have one weight for each column.
    #[error("the importance has {found} weights for {expected} columns")]
    WrongImportance {
        /// Columns.
        expected: usize,
        /// Weights given.
        found: usize,
    },
    /// An importance that is negative or not finite.
    #[error("the importance of column {column} is {value}: it must be finite and at least 0")]
    BadImportance {
        /// The column, from 0.
        column: usize,
        /// The weight.
        value: f32,
    },
    /// The strict reader refused a GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An importance matrix that does not fit the model.
    #[error("the importance matrix does not fit the model: {0}")]
    Imatrix(#[from] ImatrixFault),
    /// A fault of one tensor of a file.
    #[error("tensor '{name}': {fault}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// What is wrong.
        #[source]
        fault: Box<GgmlError>,
    },
    /// A path that cannot be handed to llama.cpp.
    #[error("the path {} {problem}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it, and how to mend it.
        problem: &'static str,
    },
    /// A model file that llama.cpp would not survive.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What was found and what is needed.
        problem: String,
    },
    /// llama.cpp refused or failed.
    #[error("llama.cpp cannot {action}: {log}")]
    Refused {
        /// What was asked of it.
        action: String,
        /// Its warnings and errors.
        log: String,
    },
    /// llama.cpp's log was not what this version writes.
    #[error("cannot read llama.cpp's account of {}: {problem}", path.display())]
    Account {
        /// The source file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another part of the process has set up llama.cpp already.
    #[error("llama.cpp is already in use in this process by something else")]
    Backend,
    /// A setting outside its range.
    #[error("{what} is {found}; it must be {expected}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// No token, or more than the context holds.
    #[error("{found} tokens were given; the context holds 1 to {limit}")]
    WindowLength {
        /// Number of tokens.
        found: usize,
        /// Tokens of the context.
        limit: usize,
    },
    /// A token outside the vocabulary.
    #[error("token {token} at position {position} is outside the vocabulary of {size}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Its position.
        position: usize,
        /// Tokens in the vocabulary.
        size: usize,
    },
    /// The model computed something that is not finite.
    #[error("the logits of position {position} are not finite: the file is damaged")]
    BadLogits {
        /// The position in the window.
        position: usize,
    },
    /// The system refused an operation on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl GgmlError {
    /// The same fault with its row counted from `rows` further up.
    pub(crate) fn below(mut self, rows: usize) -> Self {
        if let Self::NotFinite { row, .. } | Self::TooLarge { row, .. } = &mut self {
            *row += rows;
        }
        self
    }
}
