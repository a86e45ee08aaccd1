//! An open GGUF file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::error::{GgufError, GgufFault};
use super::header::Header;
use super::metadata::Metadata;
use super::tensor::TensorInfo;
use crate::source::{FileSource, ReadAt, Slice};

/// One GGUF file, header parsed and checked, tensor data read on demand. Can be shared
/// between threads.
#[derive(Debug, Clone)]
pub struct Gguf {
    name: String,
    source: Arc<dyn ReadAt>,
    header: Arc<Header>,
    index: Arc<HashMap<String, usize>>,
}

impl Gguf {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// [`GgufError`] with the name of the file and what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match FileSource::open(path) {
            Ok(source) => Self::from_source(name, Arc::new(source)),
            Err(source) => Err(GgufError::new(name, GgufFault::Io { action: "open it", source })),
        }
    }

    /// Reads from any source; `name` stands for the file in errors.
    ///
    /// # Errors
    /// [`GgufError`] with what is wrong with the contents.
    pub fn from_source(
        name: impl Into<String>,
        source: Arc<dyn ReadAt>,
    ) -> Result<Self, GgufError> {
        let name = name.into();
        let header = match Header::parse(&*source) {
            Ok(header) => header,
            Err(fault) => return Err(GgufError::new(name, fault)),
        };
        let index =
            header.tensors.iter().enumerate().map(|(i, t)| (t.spec.name.clone(), i)).collect();
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

    /// Keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// Tensors in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.position(name).map(|i| &self.header.tensors[i])
    }

    /// Position of the tensor of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// All bytes of a tensor.
    ///
    /// # Errors
    /// No such tensor, or a failed read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, GgufError> {
        let tensor = self.tensor(name).ok_or_else(|| {
            GgufError::new(&*self.name, GgufFault::NoSuchTensor { name: name.into() })
        })?;
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
        tensor: &TensorInfo,
        start: u64,
        buf: &mut [u8],
    ) -> Result<(), GgufError> {
        let end = start.saturating_add(buf.len() as u64);
        if end > tensor.length {
            let (name, length) = (tensor.spec.name.clone(), tensor.length);
            let fault = GgufFault::OutsideTensor { name, start, end, length };
            return Err(GgufError::new(&*self.name, fault));
        }
        let at = self.header.data_start.saturating_add(tensor.offset).saturating_add(start);
        self.source.read_exact_at(buf, at).map_err(|source| {
            GgufError::new(&*self.name, GgufFault::Io { action: "read a tensor", source })
        })
    }

    /// The bytes of a tensor as a source, to be written elsewhere or read in parts.
    ///
    /// # Errors
    /// No such tensor.
    pub fn data(&self, name: &str) -> Result<Slice, GgufError> {
        self.tensor(name)
            .and_then(|t| {
                let start = self.header.data_start + t.offset;
                Slice::new(Arc::clone(&self.source), start, t.length)
            })
            .ok_or_else(|| {
                GgufError::new(&*self.name, GgufFault::NoSuchTensor { name: name.into() })
            })
    }
}
