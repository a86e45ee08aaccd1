//! A Hugging Face folder: configuration, tokenizer and safetensors in one file or several.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::{SafetensorsError, SafetensorsFault};
use super::file::Safetensors;
use super::header::TensorEntry;
use super::index::ShardIndex;
use crate::source::{FileSource, ReadAt, Slice};

/// Largest JSON file beside the tensors. Tokenizers have up to about 35 MB.
const MAX_JSON_BYTES: u64 = 256 << 20;
pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";
/// Files that belong to a tokenizer.
const TOKENIZER: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// A Hugging Face folder, checked: every tensor is in exactly the file that the index
/// names.
#[derive(Debug, Clone)]
pub struct HfFolder {
    path: PathBuf,
    config: serde_json::Value,
    shards: Vec<Safetensors>,
    index: HashMap<String, (usize, usize)>,
}

impl HfFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// A missing or faulty file, or files that do not fit together.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SafetensorsError> {
        let path = path.as_ref();
        let named = |fault| SafetensorsError::new(path.display().to_string(), fault);
        let config = read_json_file(&path.join(CONFIG)).map_err(named)?.ok_or_else(|| {
            let mend = "give the folder that holds the model's configuration";
            named(SafetensorsFault::Missing { file: CONFIG, mend })
        })?;
        let config = serde_json::from_slice(&config)
            .map_err(|source| named(SafetensorsFault::Json { what: CONFIG, source }))?;

        let index = read_json_file(&path.join(INDEX)).map_err(named)?;
        let single = path.join(SINGLE);
        let folder = match (index, single.exists()) {
            (Some(_), true) => return Err(named(SafetensorsFault::TwoModels)),
            (None, false) => {
                let mend = "models in other formats (.bin, .pth) must be converted first";
                return Err(named(SafetensorsFault::Missing { file: SINGLE, mend }));
            }
            (None, true) => {
                let shards = vec![Safetensors::open(single)?];
                let index = positions(&shards);
                Self { path: path.to_owned(), config, shards, index }
            }
            (Some(json), false) => {
                let index = ShardIndex::parse(&json).map_err(named)?;
                let shards = index
                    .shards
                    .iter()
                    .map(|shard| Safetensors::open(path.join(shard)))
                    .collect::<Result<Vec<_>, _>>()?;
                check_index(&index, &shards).map_err(named)?;
                let index = positions(&shards);
                Self { path: path.to_owned(), config, shards, index }
            }
        };
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`.
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// The first of `architectures` in the configuration.
    pub fn architecture(&self) -> Option<&str> {
        self.config.get("architectures")?.get(0)?.as_str()
    }

    /// `model_type` of the configuration.
    pub fn model_type(&self) -> Option<&str> {
        self.config.get("model_type")?.as_str()
    }

    /// The files of tensors.
    pub fn shards(&self) -> &[Safetensors] {
        &self.shards
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of the files of tensors.
    pub fn file_size(&self) -> u64 {
        self.shards.iter().map(Safetensors::file_size).sum()
    }

    /// All tensors with their files.
    pub fn tensors(&self) -> impl Iterator<Item = (&Safetensors, &TensorEntry)> {
        self.shards.iter().flat_map(|shard| shard.tensors().iter().map(move |t| (shard, t)))
    }

    /// The tensor of this name and its file.
    pub fn tensor(&self, name: &str) -> Option<(&Safetensors, &TensorEntry)> {
        let &(s, t) = self.index.get(name)?;
        Some((&self.shards[s], &self.shards[s].tensors()[t]))
    }

    /// All bytes of a tensor.
    ///
    /// # Errors
    /// No such tensor, or a failed read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, SafetensorsError> {
        self.file_of(name)?.read(name)
    }

    /// The bytes of a tensor as a source.
    ///
    /// # Errors
    /// No such tensor.
    pub fn data(&self, name: &str) -> Result<Slice, SafetensorsError> {
        self.file_of(name)?.data(name)
    }

    /// Files of the tokenizer that exist.
    pub fn tokenizer_files(&self) -> Vec<PathBuf> {
        TOKENIZER.iter().map(|name| self.path.join(name)).filter(|p| p.is_file()).collect()
    }

    fn file_of(&self, name: &str) -> Result<&Safetensors, SafetensorsError> {
        self.tensor(name).map(|(file, _)| file).ok_or_else(|| {
            let fault = SafetensorsFault::NoSuchTensor { name: name.into() };
            SafetensorsError::new(self.path.display().to_string(), fault)
        })
    }
}

fn positions(shards: &[Safetensors]) -> HashMap<String, (usize, usize)> {
    shards
        .iter()
        .enumerate()
        .flat_map(|(s, shard)| {
            shard.tensors().iter().enumerate().map(move |(t, e)| (e.name.clone(), (s, t)))
        })
        .collect()
}

/// The index and the files name the same tensors in the same places.
fn check_index(index: &ShardIndex, shards: &[Safetensors]) -> Result<(), SafetensorsFault> {
    let mut place = HashMap::with_capacity(index.entries.len());
    for (name, s) in &index.entries {
        if shards[*s].tensor(name).is_none() {
            let (name, shard) = (name.clone(), index.shards[*s].clone());
            return Err(SafetensorsFault::NotInShard { name, shard });
        }
        place.insert(name.as_str(), *s);
    }
    let mut total = 0_u64;
    for (s, shard) in shards.iter().enumerate() {
        for tensor in shard.tensors() {
            let says = match place.get(tensor.name.as_str()) {
                Some(&named) if named == s => {
                    total = total.saturating_add(tensor.length);
                    continue;
                }
                Some(&named) => format!("puts it into {}", index.shards[named]),
                None => "does not name it".to_owned(),
            };
            let (name, shard) = (tensor.name.clone(), index.shards[s].clone());
            return Err(SafetensorsFault::NotInIndex { name, shard, says });
        }
    }
    match index.total_size {
        Some(expected) if expected != total => {
            Err(SafetensorsFault::WrongTotal { expected, found: total })
        }
        _ => Ok(()),
    }
}

/// The bytes of a small file; `None` if it does not exist.
fn read_json_file(path: &Path) -> Result<Option<Vec<u8>>, SafetensorsFault> {
    let io = |source| SafetensorsFault::Io { action: "read a JSON file", source };
    if !path.exists() {
        return Ok(None);
    }
    let source = FileSource::open(path).map_err(io)?;
    let found = source.size();
    if found > MAX_JSON_BYTES {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(SafetensorsFault::FileTooLarge { file, found, limit: MAX_JSON_BYTES });
    }
    let mut bytes = vec![0; found as usize];
    source.read_exact_at(&mut bytes, 0).map_err(io)?;
    Ok(Some(bytes))
}
