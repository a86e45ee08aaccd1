//! What can be wrong with a model, its files and what is asked of it.

use rco_formats::gguf::{GgufError, GgufFault};
use rco_formats::imatrix::ImatrixFault;
use rco_formats::safetensors::SafetensorsError;
use rco_ggml::GgmlError;

/// A fault, with the thing at fault, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The family of the model is not supported.
    #[error("the architecture '{found}' is not supported; supported are: {supported}")]
    UnknownArchitecture {
        /// `model_type` of `config.json`, or `general.architecture` of a GGUF file.
        found: String,
        /// The supported ones.
        supported: String,
    },
    /// A field of `config.json`, or a key of a GGUF file, is missing that the family needs.
    #[error("the configuration has no '{field}', which {family} needs: {meaning}")]
    MissingField {
        /// The field.
        field: String,
        /// The family.
        family: &'static str,
        /// What the field says.
        meaning: &'static str,
    },
    /// A field of `config.json`, or a key of a GGUF file, has a value of the wrong kind or out of range.
    #[error("configuration: '{field}' is {found}, expected {expected}")]
    BadField {
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// A field of `config.json`, or a key of a GGUF file, asks for something that is not implemented.
    #[error("configuration: '{field}' = {found} is not supported for {family}: {supported}")]
    Unsupported {
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// The family.
        family: &'static str,
        /// What is supported.
        supported: String,
    },
    /// A weight that the configuration requires does not exist.
    #[error("there is no weight '{name}', which the configuration requires")]
    MissingWeight {
        /// Its name in the source.
        name: String,
    },
    /// A weight exists that the configuration has no place for.
    #[error("the tensor '{name}' has no place in the model that the configuration describes")]
    UnexpectedWeight {
        /// Its name in the source.
        name: String,
    },
    /// A weight has another shape than the configuration requires.
    #[error("the weight '{name}' has shape {found:?}, the configuration requires {expected:?}")]
    WrongShape {
        /// Its name in the source.
        name: String,
        /// The required shape.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A weight has an element type that cannot be read.
    #[error("the weight '{name}' has the type {found}, which cannot be read here")]
    UnsupportedType {
        /// Its name in the source.
        name: String,
        /// Its type.
        found: String,
    },
    /// Values and shape of a weight do not fit.
    #[error("the weight '{name}' of shape {shape:?} was given {found} values")]
    WrongLength {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Number of values.
        found: usize,
    },
    /// A batch without tokens, or sequences of different lengths.
    #[error("a batch needs sequences of one length of at least 1, found lengths {found:?}")]
    BadBatch {
        /// Lengths of the sequences (the first few).
        found: Vec<usize>,
    },
    /// A token number that the vocabulary does not have.
    #[error(
        "token {token} is outside the vocabulary of {vocabulary}: is this the model's tokenizer?"
    )]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The target of the loss does not fit the batch or the model.
    #[error("the target has {found} {what}, expected {expected}")]
    BadTarget {
        /// What is counted.
        what: &'static str,
        /// The number required.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// An expert that does not exist.
    #[error("layer {layer} has no expert {expert}: it has {experts}")]
    NoSuchExpert {
        /// The layer.
        layer: usize,
        /// The expert.
        expert: usize,
        /// Number of experts in this layer.
        experts: usize,
    },
    /// Fewer experts remain in a layer than a token is sent to.
    #[error("layer {layer} keeps {kept} experts, but every token goes to {per_token}: keep more")]
    TooFewExperts {
        /// The layer.
        layer: usize,
        /// Experts that remain.
        kept: usize,
        /// Experts per token.
        per_token: usize,
    },
    /// The memory allowed is too little.
    #[error(
        "about {needed} bytes of memory are needed and {limit} are allowed: allow {needed}, or \
         take fewer or shorter sequences"
    )]
    TooLittleMemory {
        /// The least that does, estimated.
        needed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The loss is infinite or not a number.
    #[error("the loss of token {position} is {value}: the weights or the target are not finite")]
    NotFinite {
        /// Row of the batch, counted over all sequences.
        position: usize,
        /// The loss.
        value: f64,
    },
    /// A file of weights is at fault.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// A GGUF file is at fault.
    #[error(transparent)]
    Gguf(Box<GgufError>),
    /// A GGUF file cannot be put together.
    #[error("a GGUF file cannot be put together: {0}")]
    Unwritable(Box<GgufFault>),
    /// An importance matrix cannot be made.
    #[error("importance matrix: {0}")]
    Imatrix(Box<ImatrixFault>),
    /// The values of a GGUF tensor cannot be decoded.
    #[error("the weight '{name}': {source}")]
    Decode {
        /// Its name.
        name: String,
        /// What is wrong.
        source: Box<GgmlError>,
    },
    /// The bytes of a weight cannot be read.
    #[error("the weight '{name}' cannot be read: {source}")]
    ReadFailed {
        /// Its name.
        name: String,
        /// What the system says.
        source: std::sync::Arc<std::io::Error>,
    },
    /// `quantization_config` of `config.json` says what cannot be read.
    #[error(transparent)]
    Quantised(#[from] rco_formats::compressed_tensors::ConfigFault),
    /// The tokenizer cannot be read or used.
    #[error("tokenizer {file}: {message}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What its library says.
        message: String,
    },
    /// The tensor library failed: out of memory, or an operation it lacks on this device.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl From<GgufError> for ModelError {
    fn from(error: GgufError) -> Self {
        Self::Gguf(Box::new(error))
    }
}

impl From<ImatrixFault> for ModelError {
    fn from(fault: ImatrixFault) -> Self {
        Self::Imatrix(Box::new(fault))
    }
}

impl ModelError {
    pub(crate) fn unwritable(fault: GgufFault) -> Self {
        Self::Unwritable(Box::new(fault))
    }
}
