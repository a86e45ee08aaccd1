//! A model against another on texts: KL, agreement, perplexity.

use std::path::Path;
use std::sync::Arc;

use rco_formats::gguf::GgufModel;
use rco_formats::safetensors::HfFolder;
use rco_ggml::{Runtime, RuntimeSettings, Vocabulary};
use rco_model::config::ModelConfig;
use rco_model::engine::{Footprint, Load, Settings};
use rco_model::eval::{Comparison, Summary};
use rco_model::head::{Head, compare_logits};
use rco_model::text::Tokenise;
use rco_model::tokenizer::Tokenizer;
use rco_model::weights::{GgufWeights, WeightSource, open_folder};
use rco_model::{Batch, Model};
use serde::Serialize;

use crate::error::QuantError;
use crate::hash::{sha256, sha256_folder, sha256_model};
use crate::states::StateCache;
use crate::teacher::{Taught, kl};

/// A model that has been opened: a GGUF file or a Hugging Face folder.
pub struct Opened {
    config: Arc<ModelConfig>,
    weights: Arc<dyn WeightSource>,
    tokenizer: Box<dyn Tokenise>,
    /// SHA-256 of the file, or of those of the folder.
    pub sha256: String,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({})", self.sha256)
    }
}

impl Opened {
    /// Opens a GGUF file (or the first part of a split one) or a Hugging Face folder.
    ///
    /// # Errors
    /// A model that cannot be read or is not supported.
    pub fn new(path: &Path) -> Result<Self, QuantError> {
        if path.is_dir() {
            let folder = HfFolder::open(path)?;
            let tokenizer = Box::new(Tokenizer::open(path)?);
            let sha256 = sha256_folder(&folder)?;
            let (config, weights) = open_folder(folder)?;
            return Ok(Self { config: Arc::new(config), weights, tokenizer, sha256 });
        }
        let model = Arc::new(GgufModel::open(path)?);
        let config = Arc::new(ModelConfig::from_gguf(&model)?);
        let sha256 = sha256_model(&model)?;
        let weights = Arc::new(GgufWeights::new(model, &config)?);
        let tokenizer = Box::new(Vocabulary::open(path)?);
        Ok(Self { config, weights, tokenizer, sha256 })
    }

    /// The model.
    ///
    /// # Errors
    /// Weights that do not fit the configuration.
    pub fn model(&self, settings: Settings) -> Result<Model, QuantError> {
        let (config, weights) = (Arc::clone(&self.config), Arc::clone(&self.weights));
        Ok(Model::new(config, weights, settings)?)
    }

    /// How a model runs that is compared with this one on `texts`, within `memory` bytes if
    /// there is a limit; and what it takes.
    ///
    /// # Errors
    /// [`ModelError::TooLittleMemory`](rco_model::ModelError::TooLittleMemory).
    pub fn settings(
        &self,
        texts: &[NamedWindows],
        memory: Option<u64>,
    ) -> Result<(Settings, Footprint), QuantError> {
        let windows = || texts.iter().flat_map(|(_, windows)| windows);
        let load = Load {
            sequences: 1,
            length: windows().map(Vec::len).max().unwrap_or(0),
            gradient: false,
            head_gradient: false,
            taught: windows().map(Vec::len).sum(),
        };
        let mut settings = Settings::default();
        if let Some(limit) = memory {
            settings = settings.within(limit, &self.config, &load)?;
        }
        Ok((settings, Footprint::of(&self.config, &settings, &load)))
    }

    /// The first `count` windows of `length` tokens of a text, one after the other, each
    /// with the token that begins a text, if the model wants it.
    ///
    /// # Errors
    /// [`QuantError::TextTooShort`] if there is not one window.
    pub fn windows(
        &self,
        name: &str,
        text: &str,
        length: usize,
        count: usize,
    ) -> Result<Vec<Vec<u32>>, QuantError> {
        let bos = self.tokenizer.bos();
        let step = length - usize::from(bos.is_some());
        // A token has at least one byte, hardly ever more than 32.
        let mut end = text.len().min(step.saturating_mul(count).saturating_mul(32));
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let tokens = self.tokenizer.encode(&text[..end])?;
        let windows = tokens.chunks_exact(step.max(1)).take(count);
        let windows: Vec<Vec<u32>> =
            windows.map(|w| bos.into_iter().chain(w.iter().copied()).collect()).collect();
        if windows.is_empty() {
            let (text, found) = (name.to_owned(), tokens.len());
            return Err(QuantError::TextTooShort { text, found, needed: step });
        }
        Ok(windows)
    }
}

/// A text and how the models compare on it.
#[derive(Debug, Clone, Serialize)]
pub struct OnText {
    /// Its name.
    pub text: String,
    /// Windows it was cut into.
    pub windows: usize,
    /// How the models compare.
    #[serde(flatten)]
    pub summary: Summary,
}

/// Windows that go through a model together.
const TOGETHER: usize = 8;

/// Texts cut into windows.
pub type NamedWindows = (String, Vec<Vec<u32>>);

/// Compares in our engine. States of the reference are kept in `cache`, so that a command
/// that was killed goes on; `progress` is told how many windows are done, each counted once
/// for the reference and once for the model.
///
/// # Errors
/// Whatever model and cache meet; [`QuantError::OtherVocabulary`].
pub fn in_engine(
    model: &Opened,
    reference: &Opened,
    texts: &[NamedWindows],
    settings: Settings,
    cache: &Path,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<OnText>, QuantError> {
    let (found, expected) = (model.config.vocabulary, reference.config.vocabulary);
    if found != expected {
        return Err(QuantError::OtherVocabulary { found, expected });
    }
    let teacher = reference.model(settings)?;
    let tokens: Vec<u8> = texts
        .iter()
        .flat_map(|(_, windows)| windows.iter().flatten().flat_map(|t| t.to_le_bytes()))
        .collect();
    let mut origin = format!("{} {}", reference.sha256, sha256(&tokens));
    if settings.runtime_activations {
        origin.push_str(" rounded activations");
    }
    let mut cache = StateCache::open(cache, &origin)?;
    let mut batches = Vec::new();
    for (_, windows) in texts {
        for window in windows {
            batches.push(Batch::new(std::slice::from_ref(window))?);
        }
    }
    let total = batches.len();
    let taught = Taught::cached(&teacher, batches, &mut cache, progress)?;
    let head: Head = teacher.head()?;
    drop(teacher);
    let student = model.model(settings)?;
    let mut out = Vec::new();
    let mut n = 0;
    for (name, windows) in texts {
        let mut comparison = Comparison::default();
        let end = n + windows.len();
        while n < end {
            let next = end.min(n + TOGETHER);
            for report in kl(&head, &student, &taught, n..next)? {
                comparison.add(&report);
            }
            n = next;
            progress(total + n);
        }
        out.extend(on_text(name, windows, &comparison));
    }
    Ok(out)
}

/// Compares in llama.cpp: two GGUF files.
///
/// # Errors
/// Whatever llama.cpp meets.
pub fn in_runtime(
    model: &Path,
    reference: &Path,
    texts: &[NamedWindows],
    threads: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<OnText>, QuantError> {
    let longest = texts.iter().flat_map(|(_, w)| w.iter().map(Vec::len)).max().unwrap_or(1);
    let settings = RuntimeSettings { threads, context: longest };
    let mut teacher = Runtime::open(reference, &settings)?;
    let mut student = Runtime::open(model, &settings)?;
    let (found, expected) = (student.vocabulary().size(), teacher.vocabulary().size());
    if found != expected {
        return Err(QuantError::OtherVocabulary { found, expected });
    }
    let mut out = Vec::new();
    let mut done = 0;
    for (name, windows) in texts {
        let mut comparison = Comparison::default();
        for window in windows {
            let logits = teacher.logits(window)?;
            comparison.add(&compare_logits(window, &logits, &student.logits(window)?)?);
            done += 2;
            progress(done);
        }
        out.extend(on_text(name, windows, &comparison));
    }
    Ok(out)
}

fn on_text(name: &str, windows: &[Vec<u32>], comparison: &Comparison) -> Option<OnText> {
    let summary = comparison.summary()?;
    Some(OnText { text: name.to_owned(), windows: windows.len(), summary })
}
