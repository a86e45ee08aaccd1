//! Writes a model in several files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{GgufError, GgufFault};
use super::limits::align_up;
use super::metadata::Metadata;
use super::split::{KEY_COUNT, KEY_NO, KEY_TENSORS, MAX_PARTS, part_path};
use super::writer::GgufWriter;
use crate::atomic::WriteOptions;

impl GgufWriter {
    /// The parts of the model with at most `data_bytes` of padded tensor data in each,
    /// but at least one tensor. The first part holds all metadata; every part gets the
    /// split keys. One part only comes back without split keys.
    ///
    /// # Errors
    /// A bad alignment, or more than 65,535 parts.
    pub fn split(&self, data_bytes: u64) -> Result<Vec<GgufWriter>, GgufFault> {
        let layout = self.layout()?;
        let mut starts = vec![0];
        let mut filled = 0_u64;
        for (i, &length) in layout.lengths.iter().enumerate() {
            let padded = align_up(length, layout.alignment).unwrap_or(u64::MAX);
            if i > 0 && filled.saturating_add(padded) > data_bytes {
                starts.push(i);
                filled = 0;
            }
            filled = filled.saturating_add(padded);
        }
        let count = starts.len();
        if count > MAX_PARTS {
            return Err(GgufFault::TooManyParts { parts: count, limit: MAX_PARTS });
        }
        let mut whole = self.clone();
        for key in [KEY_NO, KEY_COUNT, KEY_TENSORS] {
            whole.metadata_mut().remove(key);
        }
        if count == 1 {
            return Ok(vec![whole]);
        }
        starts.push(self.tensors().len());
        starts
            .windows(2)
            .enumerate()
            .map(|(no, range)| whole.part(no, count, range[0]..range[1]))
            .collect()
    }

    fn part(
        &self,
        no: usize,
        count: usize,
        tensors: std::ops::Range<usize>,
    ) -> Result<GgufWriter, GgufFault> {
        let mut metadata = if no == 0 { self.metadata().clone() } else { Metadata::new() };
        if let Some(alignment) = self.metadata().get("general.alignment") {
            metadata.set("general.alignment", alignment.clone())?;
        }
        // The integer types are those that llama.cpp writes and insists on.
        metadata.set(KEY_NO, no as u16)?;
        metadata.set(KEY_COUNT, count as u16)?;
        metadata.set(KEY_TENSORS, self.tensors().len() as i32)?;
        let mut part = GgufWriter::new(metadata);
        for i in tensors {
            part.push(self.tensors()[i].clone(), Arc::clone(self.source(i)));
        }
        Ok(part)
    }

    /// Writes the model as `STEM-00001-of-0000N.gguf` and so on; `stem` may end in
    /// `.gguf`. A model that fits one part is written as `STEM.gguf`. Each file is atomic,
    /// the set is not: parts are written in order, and the names of all are checked first.
    /// Gives the files and their sizes.
    ///
    /// # Errors
    /// As [`GgufWriter::split`] and [`GgufWriter::write`].
    pub fn write_split(
        &self,
        stem: impl AsRef<Path>,
        data_bytes: u64,
        options: WriteOptions,
    ) -> Result<Vec<(PathBuf, u64)>, GgufError> {
        let mut stem = stem.as_ref().to_owned();
        if stem.extension().is_some_and(|e| e == "gguf") {
            stem.set_extension("");
        }
        let parts = self
            .split(data_bytes)
            .map_err(|fault| GgufError::new(stem.display().to_string(), fault))?;
        let count = parts.len();
        let path = |i: usize| match count {
            1 => {
                let mut name = stem.file_name().unwrap_or_default().to_os_string();
                name.push(".gguf");
                stem.with_file_name(name)
            }
            _ => part_path(&stem, i + 1, count),
        };
        for taken in (0..count).map(path).filter(|p| !options.force && p.exists()) {
            let error = crate::atomic::WriteError::Exists { path: taken.clone() };
            return Err(GgufError::new(taken.display().to_string(), error.into()));
        }
        parts
            .iter()
            .enumerate()
            .map(|(i, part)| Ok((path(i), part.write(path(i), options)?)))
            .collect()
    }
}
