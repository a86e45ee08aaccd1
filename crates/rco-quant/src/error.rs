//! What can go wrong between a model and its compressed form.

use std::io;
use std::path::{Path, PathBuf};

use rco_core::ProblemError;
use rco_core::search::SearchError;
use rco_formats::gguf::{GgufError, GgufFault, TensorType};
use rco_formats::imatrix::{ImatrixError, ImatrixFault};
use rco_formats::safetensors::SafetensorsError;
use rco_ggml::GgmlError;
use rco_model::ModelError;
use rco_model::text::TextError;

use crate::prune::PruneError;

/// A model could not be compressed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// No tensor has two types to choose from.
    #[error(
        "there is nothing to choose: no tensor of the model can be stored in two of the types \
         allowed; allow more types, or take a source of 16 bits"
    )]
    NothingToChoose,
    /// A type was asked for that no tensor can take.
    #[error("no tensor can be stored as {ty}: {why}")]
    TypeUnusable {
        /// The type.
        ty: TensorType,
        /// Why.
        why: &'static str,
    },
    /// A number is larger than 64 bits hold.
    #[error("{what} is more than 64 bits can count")]
    Overflow {
        /// What is counted.
        what: &'static str,
    },
    /// Metadata lacks a number that is needed.
    #[error("the metadata of the model has no number `{key}`")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// No plan is small enough.
    #[error(
        "{budget} bytes are too few: the smallest file that the types allowed can give has \
         {smallest} bytes, most of it in {held_by}; allow smaller types, or raise the budget to \
         {smallest} bytes"
    )]
    BudgetTooSmall {
        /// Bytes asked for.
        budget: u64,
        /// Bytes of the smallest file.
        smallest: u64,
        /// The tensors that hold it up, with their bytes.
        held_by: String,
    },
    /// A weight that is not a finite number.
    #[error(
        "tensor {tensor}, row {row}, column {column} holds {value}: the model is damaged, and \
         nothing sensible can be made of it"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The row, from 0, over all matrices of a stack.
        row: usize,
        /// The column, from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A plan that was read takes more than its budget.
    #[error(
        "the plan takes {bytes} bytes, {budget} are allowed: search it again, or make some \
         tensor smaller"
    )]
    PlanTooLarge {
        /// Bytes asked for.
        budget: u64,
        /// Bytes of the plan.
        bytes: u64,
    },
    /// The source fits as it is.
    #[error(
        "the source has {source_bytes} bytes and fits into {budget} as it is: nothing to compress; \
         --copy copies it"
    )]
    SourceFits {
        /// Bytes of the source.
        source_bytes: u64,
        /// Bytes asked for.
        budget: u64,
    },
    /// A pin or tie names no tensor, or a type the tensor cannot take.
    #[error("{what}: {problem}")]
    Rule {
        /// The rule as written.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of the run is not what its manifest says.
    #[error("{path}: {problem}; delete {path} to make it anew")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// The importance matrix does not fit the model.
    #[error("the importance matrix does not fit the model: {problem}")]
    ForeignImportance {
        /// What does not fit.
        problem: String,
    },
    /// An options file does not fit the model.
    #[error("{path} cannot serve as options: {problem}")]
    ForeignOptions {
        /// The file.
        path: String,
        /// What does not fit.
        problem: String,
    },
    /// The runtime and the engine disagree.
    #[error(
        "llama.cpp measures a mean KL of {runtime:.6} ± {error:.6} for {path}, the search engine \
         {engine:.6}: they should agree within {allowed:.6}. The file is kept; do not trust it"
    )]
    RuntimeDisagrees {
        /// The file.
        path: PathBuf,
        /// The runtime's mean KL.
        runtime: f64,
        /// Its standard error.
        error: f64,
        /// Our mean KL.
        engine: f64,
        /// The difference allowed.
        allowed: f64,
    },
    /// A written file has another size than predicted.
    #[error("{path} has {found} bytes, {expected} were predicted: please report this")]
    SizeDiffers {
        /// The file.
        path: PathBuf,
        /// Predicted bytes.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Reading or writing failed.
    #[error("{path}: {action} failed: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A JSON file is damaged.
    #[error("{path}: {source}; delete it to make it anew")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The layout of a GGUF file.
    #[error(transparent)]
    Layout(#[from] GgufFault),
    /// An importance matrix file.
    #[error(transparent)]
    Imatrix(#[from] ImatrixError),
    /// The content of an importance matrix.
    #[error(transparent)]
    Importance(#[from] ImatrixFault),
    /// ggml or llama.cpp.
    #[error(transparent)]
    Ggml(#[from] GgmlError),
    /// The model engine.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An architecture that the engine has no forward pass of.
    #[error(
        "{0}: there are no gradients of this model. With --no-gradients its plans are ranked by \
         weight errors and measured in llama.cpp instead; that finds less (README, \
         \"Models that rco cannot run\"), but keeps to the budget all the same"
    )]
    NoEngine(Box<ModelError>),
    /// A text gives not one window.
    #[error(
        "{text} has {found} tokens, one window takes {needed}: give more text, or ask for \
             shorter windows"
    )]
    TextTooShort {
        /// The text.
        text: String,
        /// Tokens found.
        found: usize,
        /// Tokens needed.
        needed: usize,
    },
    /// Two models have different vocabularies.
    #[error(
        "the model has {found} tokens, the reference {expected}: only models with the same \
             vocabulary can be compared"
    )]
    OtherVocabulary {
        /// Tokens of the model.
        found: usize,
        /// Tokens of the reference.
        expected: usize,
    },
    /// Files of a Hugging Face folder.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The texts.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The problem that the plan solves.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// The search.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Experts that were to be dropped.
    #[error(transparent)]
    Experts(Box<PruneError>),
}

impl From<PruneError> for QuantError {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Quant(error) => error,
            other => Self::Experts(Box::new(other)),
        }
    }
}

impl QuantError {
    /// An error of the operating system at a path.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}
