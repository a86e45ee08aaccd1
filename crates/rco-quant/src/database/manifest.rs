//! What the files of an option database are: hashes, sizes, distortions.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rco_formats::atomic::{WriteOptions, write_bytes};
use rco_formats::gguf::TensorType;
use serde::{Deserialize, Serialize};

use super::{Distortion, Origin};
use crate::error::QuantError;

const FORMAT: &str = "rco-options";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: String,
    version: u32,
    /// SHA-256 of the source model.
    source: String,
    /// SHA-256 of the importance matrix, empty without one.
    importance: String,
    /// By the name of the type.
    types: BTreeMap<String, TypeFile>,
    /// Tensors of options files by name, by the SHA-256 of the file.
    #[serde(default)]
    foreign: BTreeMap<String, BTreeMap<String, Distortion>>,
}

/// A file of encoded tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypeFile {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// By the name of the tensor.
    pub(super) tensors: BTreeMap<String, Distortion>,
}

impl Manifest {
    /// Reads a manifest, or starts one.
    pub(super) fn open(path: &Path, origin: Origin<'_>) -> Result<Self, QuantError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    format: FORMAT.to_owned(),
                    version: VERSION,
                    source: origin.source.to_owned(),
                    importance: origin.importance.to_owned(),
                    types: BTreeMap::new(),
                    foreign: BTreeMap::new(),
                });
            }
            Err(source) => return Err(QuantError::io(path, "reading")(source)),
        };
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|source| QuantError::Json { path: path.to_owned(), source })?;
        let changed = |problem: String| QuantError::Changed { path: path.to_owned(), problem };
        if manifest.format != FORMAT || manifest.version != VERSION {
            let found = format!("{} {}", manifest.format, manifest.version);
            return Err(changed(format!("expected {FORMAT} {VERSION}, found {found}")));
        }
        for (what, before, now) in [
            ("source model", &manifest.source, origin.source),
            ("importance matrix", &manifest.importance, origin.importance),
        ] {
            if before != now {
                return Err(changed(format!(
                    "its options were made from another {what} (SHA-256 {before}, now {now})"
                )));
            }
        }
        Ok(manifest)
    }

    pub(super) fn file(&self, ty: TensorType) -> Option<&TypeFile> {
        self.types.get(&ty.to_string())
    }

    pub(super) fn set(&mut self, ty: TensorType, file: TypeFile) {
        self.types.insert(ty.to_string(), file);
    }

    /// What is known of the tensors of an options file.
    pub(super) fn foreign(&self, sha256: &str) -> BTreeMap<String, Distortion> {
        self.foreign.get(sha256).cloned().unwrap_or_default()
    }

    pub(super) fn set_foreign(&mut self, sha256: &str, tensors: BTreeMap<String, Distortion>) {
        self.foreign.insert(sha256.to_owned(), tensors);
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), QuantError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|source| QuantError::Json { path: path.to_owned(), source })?;
        write_bytes(path, &json, WriteOptions::force())
            .map_err(|e| QuantError::io(path, "writing")(io::Error::other(e)))
    }
}
