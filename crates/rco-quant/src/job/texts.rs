//! The texts of a job: files of the user, or text that the model itself writes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rco_formats::atomic::{WriteOptions, write_bytes};
use rco_formats::imatrix::Imatrix;
use rco_ggml::{Runtime, RuntimeSettings, Sampling, Vocabulary};
use rco_model::importance::Importance;
use rco_model::text::{Corpus, Side, TextSettings};
use rco_model::{Batch, Model};
use serde::{Deserialize, Serialize};

use super::Reporter;
use super::open::{Engine, Job};
use super::settings::JobSettings;
use crate::effort::WorkPlan;
use crate::error::QuantError;
use crate::hash::sha256;

/// Share of each text that is held out.
const HELD_OUT: f64 = 0.25;
/// Tokens of a held-out window that the sentence of the check goes on from.
const PROMPT: usize = 12;

/// Windows that go forward together for the importance matrix: twice those of a gradient, whose
/// memory they stay within.
const IMPORTANCE_WINDOWS: usize = 4;

/// Windows of tokens.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Texts {
    /// Windows that the search learns from, the domains in turns.
    pub(super) calibration: Vec<Vec<u32>>,
    /// Windows that only choose and report.
    pub(super) heldout: Vec<Vec<u32>>,
    /// More windows that scales are tuned on, if the texts have any.
    #[serde(default)]
    more: Vec<Vec<u32>>,
    /// Names of the domains.
    pub(super) domains: Vec<String>,
    /// The beginning of a held-out window.
    pub(super) prompt: String,
}

impl Texts {
    /// The texts of a job. Text that the model writes is kept in the run folder.
    pub(super) fn new(
        job: &Job,
        work: &WorkPlan,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Self, QuantError> {
        let window = job.window(work);
        if !job.settings.texts.is_empty() {
            let vocabulary = Vocabulary::open(&job.settings.model)?;
            let settings = TextSettings { seed: job.settings.seed, held_out: HELD_OUT, window };
            let mut corpus = Corpus::new(settings)?;
            for path in &job.settings.texts {
                corpus.add_file(path)?;
            }
            let side = |side, least, most| -> Result<Vec<Vec<u32>>, QuantError> {
                let windows = corpus.windows_between(&vocabulary, side, least, most)?;
                Ok(windows.into_iter().map(|w| w.tokens).collect())
            };
            let most = work.calibration + work.moments;
            let mut calibration = side(Side::Calibration, work.calibration, most)?;
            let more = calibration.split_off(work.calibration.min(calibration.len()));
            let heldout = side(Side::HeldOut, work.heldout, work.heldout)?;
            let domains = corpus.domains().map(str::to_owned).collect();
            let texts = Self::with_prompt(calibration, heldout, domains, &vocabulary);
            return Ok(Self { more, ..texts });
        }
        let path = folder.join("text.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                return serde_json::from_slice(&bytes)
                    .map_err(|source| QuantError::Json { path, source });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(QuantError::io(&path, "reading")(source)),
        }
        let texts = Self::written_by_the_model(job, work, window, reporter)?;
        let json = serde_json::to_vec(&texts)
            .map_err(|source| QuantError::Json { path: path.clone(), source })?;
        write_bytes(&path, &json, WriteOptions::force())
            .map_err(|e| QuantError::io(&path, "writing")(io::Error::other(e)))?;
        Ok(texts)
    }

    /// Windows that the model writes from nothing, token by token as likely as it finds
    /// them.
    fn written_by_the_model(
        job: &Job,
        work: &WorkPlan,
        window: usize,
        reporter: &mut dyn Reporter,
    ) -> Result<Self, QuantError> {
        let total = work.calibration + work.heldout;
        reporter.stage("the model writes text", Some(total as u64));
        let JobSettings { model, threads, seed, .. } = &job.settings;
        let mut windows = write_windows(model, *threads, *seed, total, window, reporter)?;
        let vocabulary = Vocabulary::open(model)?;
        let heldout = windows.split_off(work.calibration);
        let domains = vec!["written by the model".to_owned()];
        Ok(Self::with_prompt(windows, heldout, domains, &vocabulary))
    }

    fn with_prompt(
        calibration: Vec<Vec<u32>>,
        heldout: Vec<Vec<u32>>,
        domains: Vec<String>,
        vocabulary: &Vocabulary,
    ) -> Self {
        let start = heldout.first().map_or(&[][..], |w| &w[..w.len().min(PROMPT)]);
        let skip = usize::from(vocabulary.adds_bos());
        let prompt = vocabulary.decode(start.get(skip..).unwrap_or_default());
        Self { calibration, heldout, domains, prompt, more: Vec::new() }
    }

    /// All windows but those that only choose and report.
    pub(super) fn all(&self) -> Vec<Vec<u32>> {
        self.calibration.iter().chain(&self.more).cloned().collect()
    }

    /// A calibration window as a batch.
    pub(super) fn window(&self, n: usize) -> Result<Batch, QuantError> {
        Ok(Batch::new(&self.calibration[n..=n])?)
    }

    /// Calibration and held-out windows as batches of as many windows as a gradient takes.
    pub(super) fn batches(&self, work: &WorkPlan) -> Result<(Vec<Batch>, Vec<Batch>), QuantError> {
        let cut = |windows: &[Vec<u32>]| -> Result<Vec<Batch>, QuantError> {
            windows.chunks(work.per_gradient).map(|c| Ok(Batch::new(c)?)).collect()
        };
        Ok((cut(&self.calibration)?, cut(&self.heldout)?))
    }

    /// SHA-256 of all tokens.
    pub(super) fn sha256(&self) -> String {
        let windows = self.calibration.iter().chain(&self.heldout);
        let bytes: Vec<u8> = windows.flatten().flat_map(|t| t.to_le_bytes()).collect();
        sha256(&bytes)
    }
}

/// Windows of tokens that a GGUF model writes from nothing.
pub(crate) fn write_windows(
    model: &Path,
    threads: usize,
    seed: u64,
    total: usize,
    window: usize,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Vec<u32>>, QuantError> {
    let settings = RuntimeSettings { threads, context: window };
    let mut runtime = Runtime::open(model, &settings)?;
    // Without a token that begins a text, one that ends it stands before the next.
    let first = runtime.vocabulary().bos().or(runtime.vocabulary().eos()).unwrap_or(0);
    let mut windows = Vec::with_capacity(total);
    for n in 0..total {
        reporter.advance(n as u64, "");
        let seed = (seed as u32).wrapping_mul(1_000_003).wrapping_add(n as u32);
        let sampling = Sampling::Temperature { temperature: 1.0, seed };
        let mut tokens = vec![first];
        while tokens.len() < window {
            let more = runtime.generate(&tokens, window - tokens.len(), sampling)?;
            if more.is_empty() {
                // It ended the text: another one begins.
                tokens.push(first);
            }
            tokens.extend(more);
        }
        tokens.truncate(window);
        windows.push(tokens);
    }
    Ok(windows)
}

impl Job {
    /// Tokens of a window: what the effort says, the model's context permitting.
    pub fn window(&self, work: &WorkPlan) -> usize {
        let metadata = self.model.metadata();
        let key = format!("{}.context_length", metadata.architecture().unwrap_or_default());
        let context = metadata.u64(&key).unwrap_or(u64::MAX);
        work.window.min(usize::try_from(context).unwrap_or(usize::MAX)).max(2)
    }

    /// The importance matrix: given, made before, or made now; `None` if none was given and
    /// there is no engine to make one.
    pub(super) fn importance(
        &self,
        texts: &Texts,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<Imatrix>, QuantError> {
        if let Some(given) = &self.importance {
            return Ok(Some(given.clone()));
        }
        let Some(Engine { config, weights, settings }) = &self.engine else { return Ok(None) };
        let path = folder.join("imatrix.gguf");
        if path.exists() {
            return Ok(Some(Imatrix::open(&path)?));
        }
        reporter.stage("importance matrix", Some(texts.calibration.len() as u64));
        let model = Model::new(Arc::clone(config), Arc::new(weights.clone()), *settings)?;
        let mut importance = Importance::default();
        for (n, windows) in texts.calibration.chunks(IMPORTANCE_WINDOWS).enumerate() {
            reporter.advance((n * IMPORTANCE_WINDOWS) as u64, "");
            model.visit_inputs(&Batch::new(windows)?, &mut importance)?;
        }
        let chunks = texts.calibration.len() as u32;
        let size = texts.calibration.first().map_or(0, Vec::len) as u32;
        let matrix = importance.imatrix(config, texts.domains.clone(), chunks, size)?;
        matrix.write(&path, WriteOptions::force())?;
        // Read back, so that a resumed run sees the same numbers.
        Ok(Some(Imatrix::open(&path)?))
    }
}
