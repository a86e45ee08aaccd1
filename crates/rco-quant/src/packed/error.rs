//! What can go wrong between a folder and its packed form.

use std::path::PathBuf;

use rco_core::ProblemError;
use rco_core::search::SearchError;
use rco_formats::atomic::WriteError;
use rco_formats::safetensors::{SafetensorsError, SafetensorsFault};
use rco_model::ModelError;
use rco_model::text::TextError;

use crate::error::QuantError;
use crate::grid::GridError;
use crate::place::PlaceError;

/// A folder could not be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackedError {
    /// The source is quantised.
    #[error(
        "{path} is quantised already (config.json has quantization_config): give the folder of \
         the original in 16 or 32 bits"
    )]
    Quantised {
        /// The folder.
        path: PathBuf,
    },
    /// No tensor can be packed.
    #[error(
        "no matrix of {path} can be stored otherwise than it is: rows of {columns} columns are no \
         whole groups of {groups}; allow a smaller --group-size, or more --widths"
    )]
    NothingToChoose {
        /// The folder.
        path: PathBuf,
        /// Columns of the first matrix that was looked at.
        columns: usize,
        /// The group sizes allowed.
        groups: String,
    },
    /// A setting that fits no grid.
    #[error("{setting} {found}: expected {expected}")]
    Setting {
        /// The flag.
        setting: &'static str,
        /// What was given.
        found: String,
        /// What can be.
        expected: String,
    },
    /// The runtime loads no such model.
    #[error("{runtime} cannot load {what}: {mend}")]
    Runtime {
        /// The runtime.
        runtime: &'static str,
        /// What it cannot load.
        what: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// No plan is small enough.
    #[error(
        "{budget} bytes are too few: the smallest form that is allowed has {smallest}, \
         {plain} of them tensors that stay as they are (embedding, head, norms, routers); raise \
         the budget to {smallest} bytes, allow smaller --widths, or name the bits of the \
         matrices alone with --linear-bpw"
    )]
    TooSmall {
        /// Bytes asked for.
        budget: u64,
        /// Bytes of the smallest form.
        smallest: u64,
        /// Bytes of what is not decided on.
        plain: u64,
    },
    /// No plan is small enough for a budget of the matrices alone.
    #[error(
        "{budget} bytes are too few for the matrices: the smallest forms that are allowed have \
         {smallest}, {bits:.3} bits a weight; raise --linear-bpw to that, or allow smaller --widths, \
         which a --runtime may not have"
    )]
    MatricesTooSmall {
        /// Bytes asked for.
        budget: u64,
        /// Bytes of the smallest forms.
        smallest: u64,
        /// The same in bits a weight, such that three decimals are enough.
        bits: f64,
    },
    /// The source fits as it is.
    #[error("the source has {source_bytes} bytes and fits into {budget} as it is")]
    SourceFits {
        /// Bytes of the source.
        source_bytes: u64,
        /// Bytes asked for.
        budget: u64,
    },
    /// A matrix cannot be rounded.
    #[error("{name}: {fault}")]
    Grid {
        /// The matrix.
        name: String,
        /// What is wrong.
        fault: GridError,
    },
    /// No text was given.
    #[error("a Hugging Face folder needs text to judge by: give --text FILE")]
    NoText,
    /// A file of the option database is not what was written.
    #[error("{path}: {problem}; delete it to make it anew")]
    Options {
        /// The file.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// A packed folder that cannot serve as options.
    #[error("{path} cannot be taken for options: {problem}")]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// What was written is not what was planned.
    #[error("{path}: {problem}: please report this")]
    Differs {
        /// The folder.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// The folder cannot be put in its place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// What all ways of compressing have in common.
    #[error(transparent)]
    Quant(#[from] QuantError),
}

impl PackedError {
    /// A fault of what is written to `path`.
    pub(super) fn safetensors(path: &std::path::Path) -> impl Fn(SafetensorsFault) -> Self {
        let path = path.display().to_string();
        move |fault| QuantError::from(SafetensorsError::new(path.clone(), fault)).into()
    }

    /// A fault of a matrix.
    pub(super) fn grid(name: &str) -> impl FnOnce(GridError) -> Self {
        let name = name.to_owned();
        move |fault| Self::Grid { name, fault }
    }
}

macro_rules! through_quant {
    ($($error:ty),*) => {$(
        impl From<$error> for PackedError {
            fn from(error: $error) -> Self {
                Self::Quant(error.into())
            }
        }
    )*};
}

through_quant!(ModelError, SafetensorsError, TextError, ProblemError, SearchError);

impl From<WriteError> for PackedError {
    fn from(error: WriteError) -> Self {
        Self::Place(error.into())
    }
}
