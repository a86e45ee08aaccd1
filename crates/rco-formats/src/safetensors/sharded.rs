//! Writes the tensors of a folder in one file or several with their index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::SafetensorsError;
use super::error::SafetensorsFault;
use super::folder::{INDEX, SINGLE};
use super::index::{IndexJson, TotalSize};
use super::writer::SafetensorsWriter;
use crate::atomic::{self, WriteOptions};

impl SafetensorsWriter {
    /// Writes `model.safetensors`, or files with at most `data_bytes` of tensors in each
    /// (but at least one tensor) and `model.safetensors.index.json`. The index comes last,
    /// so an interrupted set is not taken for a model. Gives the files of tensors and
    /// their sizes.
    ///
    /// # Errors
    /// As [`SafetensorsWriter::write`].
    pub fn write_folder(
        &self,
        folder: impl AsRef<Path>,
        data_bytes: u64,
        options: WriteOptions,
    ) -> Result<Vec<(PathBuf, u64)>, SafetensorsError> {
        let folder = folder.as_ref();
        let parts = self.split(data_bytes);
        if let [single] = &*parts {
            let path = folder.join(SINGLE);
            let size = single.write(&path, options)?;
            return Ok(vec![(path, size)]);
        }
        let index_path = folder.join(INDEX);
        let named = |fault| SafetensorsError::new(index_path.display().to_string(), fault);
        let mut weight_map = BTreeMap::new();
        let mut files = Vec::with_capacity(parts.len());
        for (i, part) in parts.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, parts.len());
            for tensor in &part.tensors {
                if weight_map.insert(tensor.name.as_str(), name.clone()).is_some() {
                    let name = tensor.name.clone();
                    return Err(named(SafetensorsFault::DuplicateTensor { name }));
                }
            }
            files.push(folder.join(name));
        }
        let metadata = TotalSize { total_size: self.data_bytes() };
        let index = serde_json::to_vec_pretty(&IndexJson { metadata, weight_map })
            .map_err(|source| named(SafetensorsFault::Json { what: "the index", source }))?;
        let written = parts
            .iter()
            .zip(files)
            .map(|(part, path)| Ok((path.clone(), part.write(path, options)?)))
            .collect::<Result<Vec<_>, SafetensorsError>>()?;
        atomic::write_bytes(&index_path, &index, options).map_err(|e| named(e.into()))?;
        Ok(written)
    }

    /// Bytes of all files that [`SafetensorsWriter::write_folder`] writes, without the index.
    ///
    /// # Errors
    /// As [`SafetensorsWriter::file_size`].
    pub fn folder_size(&self, data_bytes: u64) -> Result<u64, SafetensorsFault> {
        self.split(data_bytes).iter().map(Self::file_size).sum()
    }

    /// Puts tensors with the widest elements first, so that all are aligned in every file.
    pub fn align(&mut self) {
        self.tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bits()));
    }

    fn split(&self, data_bytes: u64) -> Vec<SafetensorsWriter> {
        let mut parts = vec![Self::new(self.metadata.clone())];
        let mut filled = 0_u64;
        for tensor in &self.tensors {
            let size = tensor.data.size();
            if filled > 0 && filled.saturating_add(size) > data_bytes {
                parts.push(Self::new(self.metadata.clone()));
                filled = 0;
            }
            filled = filled.saturating_add(size);
            if let Some(part) = parts.last_mut() {
                part.tensors.push(tensor.clone());
            }
        }
        parts
    }
}
