//! llama.cpp as the reference runtime: tokens, logits, text.
//!
//! Runs on the processor. The KV cache holds 32-bit floats, flash attention is off, and
//! every window starts from an empty cache, so the same file, settings and tokens give the
//! same logits to the bit.
//!
//! A file is checked before llama.cpp sees it, and must not change while it is open: its
//! weights are mapped into memory.

mod ffi;
mod sampling;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

pub use sampling::Sampling;
pub use vocabulary::Vocabulary;

use crate::presets::MOST_THREADS;
use crate::source::Source;
use crate::{GgmlError, backend, c_int, log};

/// Tokens that llama.cpp computes at once: bounds the logits that it keeps.
const BATCH: usize = 256;
/// Most tokens of a context.
const MOST_CONTEXT: usize = 1 << 20;

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Threads, 1 to 512. They wait for each other by spinning: more than the free
    /// processors make a model many times slower.
    pub threads: usize,
    /// Most tokens of a window, 1 to 1,048,576.
    pub context: usize,
}

impl Default for RuntimeSettings {
    /// All processors, 2,048 tokens.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { threads: threads.min(MOST_THREADS), context: 2048 }
    }
}

/// A loaded model that computes logits and writes text.
pub struct Runtime {
    session: ffi::Session,
    vocabulary: Vocabulary,
    settings: RuntimeSettings,
}

impl Runtime {
    /// Loads a model by its only file or any of its parts.
    ///
    /// # Errors
    /// Settings out of range, a file that the strict reader refuses or that is no decoder
    /// with a supported tokenizer, or a refusal of llama.cpp.
    pub fn open(path: impl AsRef<Path>, settings: &RuntimeSettings) -> Result<Self, GgmlError> {
        let setting = |what, found: usize, expected| {
            let found = found.to_string();
            GgmlError::Setting { what, found, expected }
        };
        if !(1..=MOST_THREADS).contains(&settings.threads) {
            return Err(setting("threads", settings.threads, "1 to 512"));
        }
        if !(1..=MOST_CONTEXT).contains(&settings.context) {
            return Err(setting("context", settings.context, "1 to 1048576 tokens"));
        }
        let source = Source::open(path.as_ref())?;
        source.check_vocabulary()?;
        source.check_decoder()?;
        let model = load(&source, false)?;
        let session = context(&source.path, &model, settings)?;
        let vocabulary = Vocabulary::of(model)?;
        Ok(Self { session, vocabulary, settings: *settings })
    }

    /// The tokenizer of the model.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> RuntimeSettings {
        self.settings
    }

    /// Logits of every position of one window: `tokens.len()` × vocabulary, position after
    /// position. The window has its positions from 0 on; nothing of earlier calls is seen.
    ///
    /// # Errors
    /// No tokens or more than the context holds, a token outside the vocabulary, a failure
    /// of llama.cpp, or logits that are not finite.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, GgmlError> {
        let mut all = Vec::with_capacity(tokens.len() * self.vocabulary.size());
        self.each_position(tokens, |_, logits| all.extend_from_slice(logits))?;
        Ok(all)
    }

    /// As [`Runtime::logits`], but hands the logits of each position to `visit` instead of
    /// keeping them all.
    ///
    /// # Errors
    /// As [`Runtime::logits`].
    pub fn each_position(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(usize, &[f32]),
    ) -> Result<(), GgmlError> {
        let tokens = self.window(tokens, tokens.len())?;
        self.session.clear();
        let size = BATCH.min(self.settings.context);
        for (i, piece) in tokens.chunks(size).enumerate() {
            self.decode(piece, i * size, true)?;
            for j in 0..piece.len() {
                visit(i * size + j, self.position(j, i * size + j)?);
            }
        }
        Ok(())
    }

    /// As [`Runtime::logits`] for several windows; `visit` takes the number of the window
    /// and its logits.
    ///
    /// # Errors
    /// As [`Runtime::logits`].
    pub fn windows<'a>(
        &mut self,
        windows: impl IntoIterator<Item = &'a [u32]>,
        mut visit: impl FnMut(usize, &[f32]),
    ) -> Result<(), GgmlError> {
        for (i, window) in windows.into_iter().enumerate() {
            visit(i, &self.logits(window)?);
        }
        Ok(())
    }

    /// At most `count` tokens that continue the prompt; fewer if the model ends the text.
    /// The token that ends it is left out.
    ///
    /// # Errors
    /// As [`Runtime::logits`], also if prompt and continuation exceed the context, or for a
    /// temperature that is not positive.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        count: usize,
        sampling: Sampling,
    ) -> Result<Vec<u32>, GgmlError> {
        let tokens = self.window(prompt, prompt.len().saturating_add(count))?;
        let mut sampler = sampling.sampler()?;
        self.session.clear();
        let size = BATCH.min(self.settings.context);
        let mut last = 0;
        for (i, piece) in tokens.chunks(size).enumerate() {
            self.decode(piece, i * size, false)?;
            last = piece.len() - 1;
        }
        let mut written = Vec::with_capacity(count);
        while written.len() < count {
            let at = tokens.len() + written.len();
            self.position(last, at - 1)?;
            let token = sampler.next(self.session.context(), c_int(last));
            if self.vocabulary.ends(token) {
                break;
            }
            written.push(token.0 as u32);
            if written.len() < count {
                self.decode(&[token], at, false)?;
                last = 0;
            }
        }
        Ok(written)
    }

    /// Checks the tokens of a window that grows to `length`.
    fn window(&self, tokens: &[u32], length: usize) -> Result<Vec<LlamaToken>, GgmlError> {
        let limit = self.settings.context;
        if tokens.is_empty() || length > limit {
            return Err(GgmlError::WindowLength { found: length, limit });
        }
        self.vocabulary.checked(tokens)
    }

    /// Computes tokens that begin at `position`; logits of all of them, or of the last.
    fn decode(
        &mut self,
        tokens: &[LlamaToken],
        position: usize,
        all: bool,
    ) -> Result<(), GgmlError> {
        let failed = |log: String| GgmlError::Refused { action: "compute logits".into(), log };
        let mut batch = LlamaBatch::new(tokens.len(), 1);
        for (i, token) in tokens.iter().enumerate() {
            let wanted = all || i + 1 == tokens.len();
            batch
                .add(*token, c_int(position + i), &[0], wanted)
                .map_err(|fault| failed(fault.to_string()))?;
        }
        let (done, log) = log::watched(|| self.session.context_mut().decode(&mut batch));
        done.map_err(|fault| failed(format!("{fault}; {}", log.faults())))
    }

    /// Logits of the token at `index` of the last batch.
    fn position(&self, index: usize, position: usize) -> Result<&[f32], GgmlError> {
        let logits = self.session.context().get_logits_ith(c_int(index));
        if logits.iter().all(|v| v.is_finite()) {
            Ok(logits)
        } else {
            Err(GgmlError::BadLogits { position })
        }
    }
}

/// Loads a checked file.
fn load(source: &Source, only_vocabulary: bool) -> Result<Arc<LlamaModel>, GgmlError> {
    let backend = backend::backend()?;
    let params = LlamaModelParams::default().with_n_gpu_layers(0).with_vocab_only(only_vocabulary);
    let path = PathBuf::from(&source.path);
    let (model, log) = log::watched(|| LlamaModel::load_from_file(backend, &path, &params));
    let action = || format!("load {}", source.path);
    model.map(Arc::new).map_err(|fault| GgmlError::Refused {
        action: action(),
        log: format!("{fault}; {}", log.faults()),
    })
}

/// A context with a cache of 32-bit floats, or of 16-bit floats if the model cannot have it.
fn context(
    path: &str,
    model: &Arc<LlamaModel>,
    settings: &RuntimeSettings,
) -> Result<ffi::Session, GgmlError> {
    let backend = backend::backend()?;
    let batch = BATCH.min(settings.context) as u32;
    let params = |cache| {
        LlamaContextParams::default()
            .with_n_ctx(std::num::NonZeroU32::new(settings.context as u32))
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_threads(c_int(settings.threads))
            .with_n_threads_batch(c_int(settings.threads))
            .with_flash_attention_policy(ffi::NO_FLASH_ATTENTION)
            .with_type_k(cache)
            .with_type_v(cache)
            .with_no_perf(true)
    };
    let open =
        |cache| log::watched(|| ffi::Session::new(Arc::clone(model), backend, params(cache)));
    match open(KvCacheType::F32) {
        (Ok(session), _) => Ok(session),
        (Err(fault), log) => open(KvCacheType::F16).0.map_err(|_| GgmlError::Refused {
            action: format!("set up a context of {} tokens for {path}", settings.context),
            log: format!("{fault}; {}", log.faults()),
        }),
    }
}
