//! A mixture of experts as a GGUF file or a Hugging Face folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::gguf::GgufModel;
use rco_formats::safetensors::HfFolder;
use rco_ggml::Vocabulary;
use rco_model::Model;
use rco_model::config::ModelConfig;
use rco_model::engine::Settings;
use rco_model::text::Tokenise;
use rco_model::tokenizer::Tokenizer;
use rco_model::weights::{GgufWeights, HfWeights, MemoryWeights, WeightSource};

use super::error::PruneError;
use crate::error::QuantError;
use crate::hash::{sha256, sha256_file, sha256_model};
use crate::tensor::check_finite;

/// Weights that are kept in memory as 32-bit numbers while a plan is searched; those of a
/// larger model are read when they are needed.
const IN_MEMORY: usize = 1 << 30;

/// Where the weights lie.
#[derive(Clone)]
enum Files {
    Gguf(Arc<GgufModel>, Arc<GgufWeights>),
    Folder(Arc<HfWeights>),
}

/// A model whose headers have been read and fit together.
#[derive(Clone)]
pub struct Source {
    path: PathBuf,
    config: Arc<ModelConfig>,
    files: Files,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}

impl Source {
    /// Opens a GGUF file, or the first part of a split one, or a Hugging Face folder.
    ///
    /// # Errors
    /// A model that cannot be read or is not supported.
    pub fn open(path: &Path) -> Result<Self, PruneError> {
        let (config, files) = if path.is_dir() {
            let folder = HfFolder::open(path)?;
            let config = ModelConfig::from_hf(folder.config())?;
            let weights = HfWeights::new(folder, &config)?;
            (config, Files::Folder(Arc::new(weights)))
        } else {
            let model = Arc::new(GgufModel::open(path)?);
            let config = ModelConfig::from_gguf(&model)?;
            let weights = GgufWeights::new(Arc::clone(&model), &config)?;
            (config, Files::Gguf(model, Arc::new(weights)))
        };
        let source = Self { path: path.to_owned(), config: Arc::new(config), files };
        // Every weight is there and has its shape.
        Model::new(Arc::clone(&source.config), source.weights(), Settings::default())?;
        Ok(source)
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<ModelConfig> {
        &self.config
    }

    /// The file, if it is one.
    pub fn gguf(&self) -> Option<&Arc<GgufModel>> {
        match &self.files {
            Files::Gguf(model, _) => Some(model),
            Files::Folder(_) => None,
        }
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&HfFolder> {
        match &self.files {
            Files::Gguf(..) => None,
            Files::Folder(weights) => Some(weights.folder()),
        }
    }

    /// Tokens of a window: `wanted`, the model's context permitting.
    pub fn window(&self, wanted: usize) -> usize {
        let context = match &self.files {
            Files::Gguf(model, _) => {
                let metadata = model.metadata();
                let architecture = metadata.architecture().unwrap_or_default();
                metadata.u64(&format!("{architecture}.context_length"))
            }
            Files::Folder(weights) => {
                let config = weights.folder().config();
                config.get("max_position_embeddings").and_then(serde_json::Value::as_u64)
            }
        };
        let context = usize::try_from(context.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        wanted.min(context).max(2)
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match &self.files {
            Files::Gguf(..) => "a GGUF file",
            Files::Folder(_) => "a Hugging Face folder",
        }
    }

    /// Bytes of the files of weights.
    pub fn bytes(&self) -> u64 {
        match &self.files {
            Files::Gguf(model, _) => model.file_size(),
            Files::Folder(weights) => weights.folder().file_size(),
        }
    }

    /// The weights where they lie.
    fn weights(&self) -> Arc<dyn WeightSource> {
        match &self.files {
            Files::Gguf(_, weights) => Arc::clone(weights) as Arc<dyn WeightSource>,
            Files::Folder(weights) => Arc::clone(weights) as Arc<dyn WeightSource>,
        }
    }

    /// SHA-256 of the file, or of those of its parts. Reads all of it.
    ///
    /// # Errors
    /// A failed read.
    pub fn sha256(&self) -> Result<String, PruneError> {
        match &self.files {
            Files::Gguf(model, _) => Ok(sha256_model(model)?),
            Files::Folder(weights) => {
                let shards = weights.folder().shards().iter();
                let hashes = shards.map(|part| sha256_file(Path::new(part.name())));
                let hashes: Vec<String> = hashes.collect::<Result<_, QuantError>>()?;
                Ok(sha256(hashes.concat().as_bytes()))
            }
        }
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn tokenizer(&self) -> Result<Box<dyn Tokenise>, PruneError> {
        Ok(match &self.files {
            Files::Gguf(..) => Box::new(Vocabulary::open(&self.path)?),
            Files::Folder(_) => Box::new(Tokenizer::open(&self.path)?),
        })
    }

    /// Tokens as text.
    ///
    /// # Errors
    /// A tokenizer that cannot be read or used.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, PruneError> {
        Ok(match &self.files {
            Files::Gguf(..) => Vocabulary::open(&self.path)?.decode(tokens),
            Files::Folder(_) => Tokenizer::open(&self.path)?.decode(tokens)?,
        })
    }

    /// Refuses weights that are not finite.
    ///
    /// # Errors
    /// [`QuantError::NotFinite`]. In a folder such weights show when a loss is not finite.
    pub fn check_finite(&self) -> Result<(), PruneError> {
        match self.gguf() {
            Some(model) => Ok(check_finite(model)?),
            None => Ok(()),
        }
    }

    /// The model, in memory if it is small.
    ///
    /// # Errors
    /// A failed read.
    pub fn model(&self) -> Result<Model, PruneError> {
        let mut weights = self.weights();
        let all = self.config.weights();
        let values: usize = all.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        if values.saturating_mul(size_of::<f32>()) <= IN_MEMORY {
            let mut memory = MemoryWeights::default();
            for (key, _) in all {
                memory.insert(key, weights.load(key)?)?;
            }
            weights = Arc::new(memory);
        }
        Ok(Model::new(Arc::clone(&self.config), weights, Settings::default())?)
    }
}
