//! What can be wrong with a text.

use std::io;

use crate::error::ModelError;

/// A fault of a text, or of what is asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is not UTF-8.
    #[error("{file} is not UTF-8: byte {byte} does not belong there; convert it first")]
    NotUtf8 {
        /// The file.
        file: String,
        /// The first byte that is wrong, from 0.
        byte: usize,
    },
    /// No text at all.
    #[error("{file} has no text")]
    Empty {
        /// The file, or what stands for it.
        file: String,
    },
    /// A setting out of range.
    #[error("{setting} is {found}, expected {expected}")]
    BadSetting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Too little text for the windows asked for.
    #[error(
        "{file}: {found} tokens of {split} text found, {needed} needed: add text, or ask for \
         fewer or shorter windows"
    )]
    TooShort {
        /// The file, or what stands for it.
        file: String,
        /// The split: `calibration` or `held-out`.
        split: &'static str,
        /// Tokens there are.
        found: usize,
        /// Tokens needed.
        needed: usize,
    },
    /// The tokenizer failed.
    #[error("{file}: {source}")]
    Tokenise {
        /// The file, or what stands for it.
        file: String,
        /// What it says.
        source: Box<ModelError>,
    },
}
