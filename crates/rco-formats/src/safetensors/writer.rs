//! Puts a safetensors file together from tensors that lie elsewhere.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::dtype::Dtype;
use super::error::{SafetensorsError, SafetensorsFault};
use super::file::Safetensors;
use super::header::{LENGTH_BYTES, MAX_HEADER_BYTES, METADATA, byte_length};
use crate::atomic::{self, FillError, WriteOptions};
use crate::source::{self, ReadAt};

/// A tensor to be written.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Arc<dyn ReadAt>,
}

/// A safetensors file to be written: metadata and an ordered list of tensors, each with
/// the source of its bytes. Writing streams: it holds the header and 1 MiB of data.
#[derive(Debug, Clone, Default)]
pub struct SafetensorsWriter {
    pub(crate) metadata: Option<Vec<(String, String)>>,
    pub(crate) tensors: Vec<Pending>,
}

impl SafetensorsWriter {
    /// A file without tensors. `transformers` wants the metadata `format` = `pt`.
    pub fn new(metadata: Option<Vec<(String, String)>>) -> Self {
        Self { metadata, tensors: Vec::new() }
    }

    /// Everything that `file` holds. Written as it is, a file made by the reference
    /// implementation comes out byte for byte.
    ///
    /// # Errors
    /// None for a file whose header was accepted.
    pub fn copy_of(file: &Safetensors) -> Result<Self, SafetensorsError> {
        let mut writer = Self::new(file.header().metadata.clone());
        for tensor in file.tensors() {
            writer.tensors.push(Pending {
                name: tensor.name.clone(),
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                data: Arc::new(file.data(&tensor.name)?),
            });
        }
        Ok(writer)
    }

    /// Adds a tensor with its bytes. Widest elements first keeps every tensor aligned to
    /// its element size, as readers that map files like it.
    ///
    /// # Errors
    /// A length that is not that of shape and type, or a reserved name.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        dtype: Dtype,
        shape: impl Into<Vec<u64>>,
        data: Arc<dyn ReadAt>,
    ) -> Result<(), SafetensorsFault> {
        let (name, shape) = (name.into(), shape.into());
        if name == METADATA {
            return Err(SafetensorsFault::ReservedName);
        }
        let found = data.size();
        if byte_length(&name, dtype, &shape)? != Some(found) {
            let dtype = dtype.name();
            return Err(SafetensorsFault::WrongLength { name, shape, dtype, found });
        }
        self.tensors.push(Pending { name, dtype, shape, data });
        Ok(())
    }

    /// Bytes of the tensors.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.data.size()).sum()
    }

    /// Bytes of the file to the byte.
    ///
    /// # Errors
    /// Duplicate names, or a header beyond the limit.
    pub fn file_size(&self) -> Result<u64, SafetensorsFault> {
        Ok(LENGTH_BYTES + self.header()?.len() as u64 + self.data_bytes())
    }

    /// Writes the file: whole, or not at all. Gives its size.
    ///
    /// # Errors
    /// Anything that keeps the file from being written.
    pub fn write(
        &self,
        path: impl AsRef<Path>,
        options: WriteOptions,
    ) -> Result<u64, SafetensorsError> {
        let path = path.as_ref();
        let named = |fault| SafetensorsError::new(path.display().to_string(), fault);
        let header = self.header().map_err(named)?;
        let size = LENGTH_BYTES + header.len() as u64 + self.data_bytes();
        atomic::write_file(path, size, options, |out| self.stream(&header, out))
            .map_err(|error| named(error.into()))?;
        Ok(size)
    }

    fn stream(&self, header: &[u8], out: &mut dyn Write) -> Result<(), FillError> {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header)?;
        for tensor in &self.tensors {
            source::copy(&*tensor.data, &tensor.name, out)?;
        }
        Ok(())
    }

    /// The header, padded with blanks to a multiple of 8.
    fn header(&self) -> Result<Vec<u8>, SafetensorsFault> {
        let mut seen = HashSet::new();
        if let Some(twice) = self.tensors.iter().find(|t| !seen.insert(&t.name)) {
            return Err(SafetensorsFault::DuplicateTensor { name: twice.name.clone() });
        }
        let mut json = serde_json::to_vec(&HeaderJson(self))
            .map_err(|source| SafetensorsFault::Json { what: "the header", source })?;
        json.resize(json.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
        if json.len() as u64 > MAX_HEADER_BYTES {
            let (found, limit) = (json.len() as u64, MAX_HEADER_BYTES);
            return Err(SafetensorsFault::HeaderTooLarge { found, limit });
        }
        Ok(json)
    }
}

struct HeaderJson<'a>(&'a SafetensorsWriter);

impl Serialize for HeaderJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Entry<'a> {
            dtype: &'static str,
            shape: &'a [u64],
            data_offsets: [u64; 2],
        }
        struct Ordered<'a>(&'a [(String, String)]);
        impl Serialize for Ordered<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
            }
        }

        let mut map = serializer.serialize_map(None)?;
        if let Some(metadata) = &self.0.metadata {
            map.serialize_entry(METADATA, &Ordered(metadata))?;
        }
        let mut start = 0;
        for tensor in &self.0.tensors {
            let end = start + tensor.data.size();
            let (dtype, shape) = (tensor.dtype.name(), &*tensor.shape);
            map.serialize_entry(&tensor.name, &Entry { dtype, shape, data_offsets: [start, end] })?;
            start = end;
        }
        map.end()
    }
}
