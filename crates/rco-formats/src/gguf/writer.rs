//! Puts a GGUF file together from tensors that lie elsewhere.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::encode;
use super::error::{GgufError, GgufFault};
use super::layout::Layout;
use super::limits::MAX_ALIGNMENT;
use super::metadata::Metadata;
use super::reader::Gguf;
use super::tensor::TensorSpec;
use crate::atomic::{self, FillError, WriteOptions};
use crate::source::{self, ReadAt};

/// A GGUF file to be written: metadata and an ordered list of tensors, each with the
/// source of its bytes. Writing streams: it holds the header and 1 MiB of tensor data.
#[derive(Debug, Clone)]
pub struct GgufWriter {
    version: u32,
    metadata: Metadata,
    specs: Vec<TensorSpec>,
    sources: Vec<Arc<dyn ReadAt>>,
}

impl GgufWriter {
    /// A file of version 3 without tensors.
    pub fn new(metadata: Metadata) -> Self {
        Self { version: 3, metadata, specs: Vec::new(), sources: Vec::new() }
    }

    /// Everything that `file` holds, to be changed or written as it is. Written as it is,
    /// the file comes out byte for byte, if its tensors lie in the order of their
    /// descriptions and all padding is zeros, as every known writer does it.
    ///
    /// # Errors
    /// None for a file whose header was accepted.
    pub fn copy_of(file: &Gguf) -> Result<Self, GgufError> {
        let mut writer = Self::new(file.metadata().clone());
        writer.version = file.header().version;
        for tensor in file.tensors() {
            let data = file.data(&tensor.spec.name)?;
            writer.push(tensor.spec.clone(), Arc::new(data));
        }
        Ok(writer)
    }

    /// Sets the version.
    ///
    /// # Errors
    /// [`GgufFault::UnsupportedVersion`] for a version other than 2 and 3.
    pub fn set_version(&mut self, version: u32) -> Result<(), GgufFault> {
        if !(2..=3).contains(&version) {
            return Err(GgufFault::UnsupportedVersion { found: version });
        }
        self.version = version;
        Ok(())
    }

    /// The version.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata, to be changed.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// The tensors added so far, in order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// Source of the bytes of tensor `i`.
    pub(crate) fn source(&self, i: usize) -> &Arc<dyn ReadAt> {
        &self.sources[i]
    }

    /// Adds a tensor with its bytes, in memory or in a file.
    ///
    /// # Errors
    /// [`GgufFault::WrongLength`] if the bytes are not as many as shape and type need,
    /// [`GgufFault::UnknownType`] for a type whose size is not known.
    pub fn add(&mut self, spec: TensorSpec, data: Arc<dyn ReadAt>) -> Result<(), GgufFault> {
        spec.check()?;
        let Some(expected) = spec.byte_length()? else {
            return Err(GgufFault::UnknownType { name: spec.name, ty: spec.ty.0 });
        };
        if expected != data.size() {
            let found = data.size();
            return Err(GgufFault::WrongLength { name: spec.name, expected, found });
        }
        self.push(spec, data);
        Ok(())
    }

    /// Adds a tensor of another file under its own name, whatever its type.
    ///
    /// # Errors
    /// [`GgufFault::NoSuchTensor`].
    pub fn add_from(&mut self, file: &Gguf, name: &str) -> Result<(), GgufError> {
        let data = file.data(name)?;
        if let Some(tensor) = file.tensor(name) {
            self.push(tensor.spec.clone(), Arc::new(data));
        }
        Ok(())
    }

    /// Adds a tensor whose length is right by construction.
    pub(crate) fn push(&mut self, spec: TensorSpec, data: Arc<dyn ReadAt>) {
        self.specs.push(spec);
        self.sources.push(data);
    }

    /// Sizes and offsets of the file.
    ///
    /// # Errors
    /// Duplicate names, or sizes that cannot be counted.
    pub fn layout(&self) -> Result<Layout, GgufFault> {
        let lengths = self.sources.iter().map(|source| source.size()).collect();
        Layout::with_lengths(&self.metadata, &self.specs, lengths)
    }

    /// Bytes of the file to the byte.
    ///
    /// # Errors
    /// As [`GgufWriter::layout`].
    pub fn file_size(&self) -> Result<u64, GgufFault> {
        Ok(self.layout()?.file_size)
    }

    /// Writes the file: whole, or not at all. Gives its size.
    ///
    /// # Errors
    /// Anything that keeps the file from being written; see
    /// [`WriteError`](crate::atomic::WriteError).
    pub fn write(&self, path: impl AsRef<Path>, options: WriteOptions) -> Result<u64, GgufError> {
        let path = path.as_ref();
        let name = || path.display().to_string();
        let layout = self.layout().map_err(|fault| GgufError::new(name(), fault))?;
        atomic::write_file(path, layout.file_size, options, |out| self.stream(&layout, out))
            .map_err(|error| GgufError::new(name(), error.into()))?;
        Ok(layout.file_size)
    }

    /// Writes the file into any sink. Gives its size.
    ///
    /// # Errors
    /// Faults of the layout as in [`GgufWriter::layout`], and what reading and writing
    /// meet.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<u64, FillError> {
        let layout = self.layout().map_err(std::io::Error::other)?;
        self.stream(&layout, out)?;
        Ok(layout.file_size)
    }

    fn stream(&self, layout: &Layout, out: &mut dyn Write) -> Result<(), FillError> {
        let header = encode::header(self.version, &self.metadata, &self.specs, layout);
        out.write_all(&header)?;
        put_padding(out, layout.data_start - header.len() as u64)?;
        for (spec, source) in self.specs.iter().zip(&self.sources) {
            source::copy(&**source, &spec.name, out)?;
            put_padding(out, layout.padded(source.size()) - source.size())?;
        }
        Ok(())
    }
}

fn put_padding(out: &mut dyn Write, mut bytes: u64) -> std::io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    debug_assert!(bytes < MAX_ALIGNMENT);
    while bytes > 0 {
        let now = bytes.min(ZEROS.len() as u64);
        out.write_all(&ZEROS[..now as usize])?;
        bytes -= now;
    }
    Ok(())
}
