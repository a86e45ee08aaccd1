//! Models in several files: `NAME-00001-of-00003.gguf`.
//!
//! The keys are those of llama.cpp: `split.no` (from 0), `split.count` and
//! `split.tensors.count`; the first part holds the metadata of the model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::{GgufError, GgufFault};
use super::metadata::Metadata;
use super::reader::Gguf;
use super::tensor::TensorInfo;
use crate::source::Slice;

pub(crate) const KEY_NO: &str = "split.no";
pub(crate) const KEY_COUNT: &str = "split.count";
pub(crate) const KEY_TENSORS: &str = "split.tensors.count";
/// Most parts: llama.cpp keeps their count in 16 bits.
pub(crate) const MAX_PARTS: usize = 65_535;

/// A model in one GGUF file or in several.
#[derive(Debug, Clone)]
pub struct GgufModel {
    parts: Vec<Gguf>,
    index: HashMap<String, (usize, usize)>,
}

impl GgufModel {
    /// Opens a model by its only file or by any of its parts.
    ///
    /// # Errors
    /// A fault of one part, a part that is missing, or parts that do not fit together.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let path = path.as_ref();
        let first = Gguf::open(path)?;
        let count = first.metadata().u64(KEY_COUNT).unwrap_or(1);
        if count <= 1 {
            return Self::from_parts(vec![first]);
        }
        let no = first.metadata().u64(KEY_NO).map_or(1, |no| no.saturating_add(1));
        let paths = part_paths(path, no, count)
            .ok_or_else(|| GgufError::new(first.name(), GgufFault::SplitName { no, count }))?;
        let parts = paths
            .into_iter()
            .map(|part| if part == path { Ok(first.clone()) } else { Gguf::open(part) })
            .collect::<Result<Vec<Gguf>, GgufError>>()?;
        Self::from_parts(parts)
    }

    /// Puts parts together, given in order.
    ///
    /// # Errors
    /// Parts that do not fit together.
    pub fn from_parts(parts: Vec<Gguf>) -> Result<Self, GgufError> {
        let mut index = HashMap::new();
        for (p, part) in parts.iter().enumerate() {
            for (t, tensor) in part.tensors().iter().enumerate() {
                let name = &tensor.spec.name;
                if index.insert(name.clone(), (p, t)).is_some() {
                    let fault = GgufFault::DuplicateTensor { name: name.clone() };
                    return Err(GgufError::new(part.name(), fault));
                }
            }
        }
        if parts.len() > 1 {
            for (p, part) in parts.iter().enumerate() {
                check_part(part, p as u64, parts.len() as u64, index.len() as u64)?;
            }
        }
        Ok(Self { parts, index })
    }

    /// The files, in order.
    pub fn parts(&self) -> &[Gguf] {
        &self.parts
    }

    /// Metadata of the model: that of the first part.
    pub fn metadata(&self) -> &Metadata {
        static NONE: std::sync::LazyLock<Metadata> = std::sync::LazyLock::new(Metadata::new);
        self.parts.first().map_or(&NONE, Gguf::metadata)
    }

    /// Bytes of all files.
    pub fn file_size(&self) -> u64 {
        self.parts.iter().map(Gguf::file_size).sum()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// All tensors with their files, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (&Gguf, &TensorInfo)> {
        self.parts.iter().flat_map(|part| part.tensors().iter().map(move |t| (part, t)))
    }

    /// The tensor of this name and its file.
    pub fn tensor(&self, name: &str) -> Option<(&Gguf, &TensorInfo)> {
        let &(p, t) = self.index.get(name)?;
        Some((&self.parts[p], &self.parts[p].tensors()[t]))
    }

    /// All bytes of a tensor.
    ///
    /// # Errors
    /// No such tensor, or a failed read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, GgufError> {
        self.file_of(name)?.read(name)
    }

    /// The bytes of a tensor as a source.
    ///
    /// # Errors
    /// No such tensor.
    pub fn data(&self, name: &str) -> Result<Slice, GgufError> {
        self.file_of(name)?.data(name)
    }

    fn file_of(&self, name: &str) -> Result<&Gguf, GgufError> {
        self.tensor(name).map(|(file, _)| file).ok_or_else(|| {
            let first = self.parts.first().map_or("", Gguf::name);
            GgufError::new(first, GgufFault::NoSuchTensor { name: name.into() })
        })
    }
}

/// Checks the split keys of part `no` (from 0).
fn check_part(part: &Gguf, no: u64, count: u64, tensors: u64) -> Result<(), GgufError> {
    for (key, expected) in [(KEY_NO, no), (KEY_COUNT, count), (KEY_TENSORS, tensors)] {
        let found = part.metadata().u64(key);
        if found != Some(expected) {
            let found = found.map_or("missing".to_owned(), |n| n.to_string());
            let fault = GgufFault::SplitMismatch {
                expected_no: no + 1,
                expected_count: count,
                problem: format!("{key} is {found}, not {expected}"),
            };
            return Err(GgufError::new(part.name(), fault));
        }
    }
    Ok(())
}

/// Names of all parts, from the name of part `no` (from 1) of `count`.
fn part_paths(path: &Path, no: u64, count: u64) -> Option<Vec<PathBuf>> {
    let count = usize::try_from(count).ok().filter(|&count| count <= MAX_PARTS)?;
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(&format!("-{no:05}-of-{count:05}.gguf"))?;
    Some((1..=count).map(|i| part_path(&path.with_file_name(stem), i, count)).collect())
}

/// Name of part `no` (from 1) of `count`, for a model at `stem` without `.gguf`.
pub(crate) fn part_path(stem: &Path, no: usize, count: usize) -> PathBuf {
    let mut name = stem.file_name().unwrap_or_default().to_os_string();
    name.push(format!("-{no:05}-of-{count:05}.gguf"));
    stem.with_file_name(name)
}
