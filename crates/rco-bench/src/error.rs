//! What can go wrong while a benchmark runs.

use std::path::{Path, PathBuf};

use rco_core::ProblemError;
use rco_core::knapsack::KnapsackError;
use rco_core::search::{ObjectiveError, SearchError};
use rco_formats::gguf::{GgufError, GgufFault};
use rco_model::ModelError;
use rco_problems::objectives::QuadraticError;
use rco_quant::QuantError;
use rco_quant::packed::PackedError;

/// A benchmark could not be run or reported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// What a benchmark cannot do.
    #[error("no benchmark can be made of {0}")]
    Unsupported(&'static str),
    /// An instance could not be built.
    #[error("an instance could not be built: {0}")]
    Problem(#[from] ProblemError),
    /// A quadratic instance could not be built.
    #[error("an instance could not be built: {0}")]
    Quadratic(#[from] QuadraticError),
    /// The exact solver failed.
    #[error("the exact solver failed: {0}")]
    Knapsack(#[from] KnapsackError),
    /// A loss could not be computed.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// A search failed.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// A model could not be compressed.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A model could not be pruned.
    #[error(transparent)]
    Prune(Box<rco_quant::prune::PruneError>),
    /// A folder could not be packed.
    #[error(transparent)]
    Packed(Box<PackedError>),
    /// There is no contender of that name.
    #[error("there is no method called `{name}` in this benchmark; see its table for the names")]
    UnknownContender {
        /// The name asked for.
        name: String,
    },
    /// A contender has no settings.
    #[error("the method `{name}` has no settings to run")]
    NoSettings {
        /// Its name.
        name: &'static str,
    },
    /// A model could not be opened or run.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// A GGUF file could not be read or written.
    #[error(transparent)]
    Gguf(Box<GgufError>),
    /// A GGUF file could not be put together.
    #[error("a file could not be put together: {0}")]
    Fault(Box<GgufFault>),
    /// A tensor could not be encoded.
    #[error(transparent)]
    Encode(Box<rco_ggml::GgmlError>),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A side of a contest ended without a result.
    #[error("the side `{side}` failed: {message}")]
    Side {
        /// Its name.
        side: String,
        /// The end of what it wrote to standard error.
        message: String,
    },
    /// Something between a benchmark and another program is not as it should be.
    #[error("{path}: {problem}")]
    Outside {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A plot could not be drawn.
    #[error("the plot could not be drawn: {message}")]
    Plot {
        /// What the plotting library says.
        message: String,
    },
}

impl BenchError {
    /// An error of the operating system at a path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl From<ModelError> for BenchError {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<PackedError> for BenchError {
    fn from(error: PackedError) -> Self {
        Self::Packed(Box::new(error))
    }
}

impl From<GgufError> for BenchError {
    fn from(error: GgufError) -> Self {
        Self::Gguf(Box::new(error))
    }
}

impl From<GgufFault> for BenchError {
    fn from(error: GgufFault) -> Self {
        Self::Fault(Box::new(error))
    }
}

impl From<rco_ggml::GgmlError> for BenchError {
    fn from(error: rco_ggml::GgmlError) -> Self {
        Self::Encode(Box::new(error))
    }
}
