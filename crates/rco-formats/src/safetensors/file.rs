//! An open safetensors file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::error::{SafetensorsError, SafetensorsFault};
use super::header::{Header, TensorEntry};
use crate::source::{FileSource, ReadAt, Slice};

/// One safetensors file, header parsed and checked, data read on demand. Can be shared
/// between threads.
#[derive(Debug, Clone)]
pub struct Safetensors {
    name: String,
    source: Arc<dyn ReadAt>,
    header: Arc<Header>,
    index: Arc<HashMap<String, usize>>,
}

impl Safetensors {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// [`SafetensorsError`] with the name of the file and what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SafetensorsError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match FileSource::open(path) {
            Ok(source) => Self::from_source(name, Arc::new(source)),
            Err(source) => {
                let fault = SafetensorsFault::Io { action: "open it", source };
                Err(SafetensorsError::new(name, fault))
            }
        }
    }

    /// Reads from any source; `name` stands for the file in errors.
    ///
    /// # Errors
    /// [`SafetensorsError`] with what is wrong with the contents.
    pub fn from_source(
        name: impl Into<String>,
        source: Arc<dyn ReadAt>,
    ) -> Result<Self, SafetensorsError> {
        let name = name.into();
        let header = match Header::parse(&*source) {
            Ok(header) => header,
            Err(fault) => return Err(SafetensorsError::new(name, fault)),
        };
        let index = header.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { name, source, header: Arc::new(header), index: Arc::new(index) })
    }

    /// The name given at opening.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size of the file in bytes.
    pub fn file_size(&self) -> u64 {
        self.source.size()
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Tensors in the order of their data.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.header.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        self.index.get(name).map(|&i| &self.header.tensors[i])
    }

    /// All bytes of a tensor.
    ///
    /// # Errors
    /// No such tensor, or a failed read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, SafetensorsError> {
        let tensor = self.tensor(name).ok_or_else(|| self.no_such(name))?;
        // Bounded by the size of the file, which the header check has ensured.
        let mut bytes = vec![0; tensor.length as usize];
        self.read_at(tensor, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `buf` with the bytes of `tensor` from `start` on.
    ///
    /// # Errors
    /// A range outside the tensor, or a failed read.
    pub fn read_at(
        &self,
        tensor: &TensorEntry,
        start: u64,
        buf: &mut [u8],
    ) -> Result<(), SafetensorsError> {
        let end = start.saturating_add(buf.len() as u64);
        if end > tensor.length {
            let (name, length) = (tensor.name.clone(), tensor.length);
            let fault = SafetensorsFault::OutsideTensor { name, start, end, length };
            return Err(SafetensorsError::new(&*self.name, fault));
        }
        let at = self.header.data_start.saturating_add(tensor.start).saturating_add(start);
        self.source.read_exact_at(buf, at).map_err(|source| {
            let fault = SafetensorsFault::Io { action: "read a tensor", source };
            SafetensorsError::new(&*self.name, fault)
        })
    }

    /// The bytes of a tensor as a source, to be written elsewhere or read in parts.
    ///
    /// # Errors
    /// No such tensor.
    pub fn data(&self, name: &str) -> Result<Slice, SafetensorsError> {
        self.tensor(name)
            .and_then(|t| {
                Slice::new(Arc::clone(&self.source), self.header.data_start + t.start, t.length)
            })
            .ok_or_else(|| self.no_such(name))
    }

    fn no_such(&self, name: &str) -> SafetensorsError {
        SafetensorsError::new(&*self.name, SafetensorsFault::NoSuchTensor { name: name.into() })
    }
}
