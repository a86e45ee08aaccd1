//! An importance matrix in memory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::entry::ImatrixEntry;
use super::error::{ImatrixError, ImatrixFault};
use super::{gguf_form, old_form};
use crate::source::{FileSource, ReadAt};

/// Form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImatrixForm {
    /// GGUF, as llama.cpp writes since 2025.
    Gguf,
    /// The older binary form (`.dat`): one count for each tensor.
    Old,
}

/// Mean squared activations at the input of every weight tensor: what the encoders of the
/// low types weigh their errors with.
#[derive(Debug, Clone, PartialEq)]
pub struct Imatrix {
    entries: Vec<ImatrixEntry>,
    index: HashMap<String, usize>,
    /// Names of the texts it was made from.
    pub datasets: Vec<String>,
    /// Chunks of text it was made from.
    pub chunk_count: Option<u32>,
    /// Tokens in a chunk; the old form does not say.
    pub chunk_size: Option<u32>,
    /// Names of tensors in the file that mean nothing to this reader.
    pub ignored: Vec<String>,
    /// Form of the file it came from.
    pub form: ImatrixForm,
}

impl Imatrix {
    /// A matrix of these entries, to be written in the GGUF form.
    ///
    /// # Errors
    /// No entries, or two of one name.
    pub fn new(entries: Vec<ImatrixEntry>) -> Result<Self, ImatrixFault> {
        if entries.is_empty() {
            return Err(ImatrixFault::Empty);
        }
        let mut index = HashMap::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            if index.insert(entry.name.clone(), i).is_some() {
                return Err(ImatrixFault::DuplicateEntry { name: entry.name.clone() });
            }
        }
        Ok(Self {
            entries,
            index,
            datasets: Vec::new(),
            chunk_count: None,
            chunk_size: None,
            ignored: Vec::new(),
            form: ImatrixForm::Gguf,
        })
    }

    /// Reads a file of either form.
    ///
    /// # Errors
    /// [`ImatrixError`] with the name of the file and what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImatrixError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match FileSource::open(path) {
            Ok(source) => Self::from_source(name, Arc::new(source)),
            Err(source) => {
                Err(ImatrixError::new(name, ImatrixFault::Io { action: "open it", source }))
            }
        }
    }

    /// Reads from any source; `name` stands for the file in errors.
    ///
    /// # Errors
    /// [`ImatrixError`] with what is wrong with the contents.
    pub fn from_source(
        name: impl Into<String>,
        source: Arc<dyn ReadAt>,
    ) -> Result<Self, ImatrixError> {
        let name = name.into();
        let mut magic = [0; 4];
        let is_gguf =
            source.size() >= 4 && source.read_exact_at(&mut magic, 0).is_ok() && &magic == b"GGUF";
        let read = if is_gguf { gguf_form::read(&name, source) } else { old_form::read(&*source) };
        read.map_err(|fault| ImatrixError::new(name, fault))
    }

    /// The entries in the order of the file.
    pub fn entries(&self) -> &[ImatrixEntry] {
        &self.entries
    }

    /// The entry of this weight tensor.
    pub fn entry(&self, name: &str) -> Option<&ImatrixEntry> {
        self.index.get(name).map(|&i| &self.entries[i])
    }

    /// Importance of every column of every matrix of a weight tensor, `row_length` ×
    /// `matrices` values; `None` if there is no entry for it. An entry of one matrix
    /// serves all matrices of a stack.
    ///
    /// # Errors
    /// [`ImatrixFault::WrongCover`] if the entry has another number of values: a matrix
    /// that covers only part of a tensor is never used.
    pub fn importance(
        &self,
        name: &str,
        row_length: u64,
        matrices: u64,
    ) -> Result<Option<Vec<f32>>, ImatrixFault> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let found = entry.sums.len() as u64;
        let expected = row_length.saturating_mul(matrices);
        if found == expected {
            Ok(Some(entry.mean_squares()))
        } else if found == row_length && entry.counts.len() == 1 {
            Ok(Some(entry.mean_squares().repeat(matrices as usize)))
        } else {
            let name = name.to_owned();
            Err(ImatrixFault::WrongCover { name, row_length, matrices, expected, found })
        }
    }
}
