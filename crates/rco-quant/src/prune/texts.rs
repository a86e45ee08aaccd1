//! Windows of text by domain.

use std::io;
use std::path::{Path, PathBuf};

use rco_formats::atomic::{WriteOptions, write_bytes};
use rco_model::Batch;
use rco_model::text::{Corpus, Side, TextSettings, Window};
use serde::{Deserialize, Serialize};

use super::effort::PruneWork;
use super::error::PruneError;
use super::source::Source;
use crate::error::QuantError;
use crate::hash::sha256;
use crate::job::{Reporter, write_windows};

/// Share of each text that is held out.
pub const HELD_OUT: f64 = 0.25;
/// Tokens of a held-out window that the sentence of the check goes on from.
const PROMPT: usize = 12;

/// Where text comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextOrder<'a> {
    /// Files, one for each domain; none takes text that the model itself writes.
    pub(super) files: &'a [PathBuf],
    /// Seed of the division, and of text that is written.
    pub(super) seed: u64,
    /// Threads of the runtime that writes.
    pub(super) threads: usize,
}

/// Windows of tokens, the domains in turns.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneTexts {
    /// Windows that the search learns from.
    pub calibration: Vec<Vec<u32>>,
    /// Windows that only choose and report.
    pub heldout: Vec<Vec<u32>>,
    /// Names of the domains. Window `i` of either list is of domain `i mod domains`.
    pub domains: Vec<String>,
    /// The beginning of a held-out window.
    pub prompt: String,
}

impl PruneTexts {
    /// The texts that were given, or what the model writes; that is kept in the run folder.
    pub(super) fn new(
        source: &Source,
        order: &TextOrder<'_>,
        work: &PruneWork,
        window: usize,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Self, PruneError> {
        let TextOrder { files, seed, threads } = *order;
        if !files.is_empty() {
            let tokenizer = source.tokenizer()?;
            let text = TextSettings { seed, held_out: HELD_OUT, window };
            let mut corpus = Corpus::new(text)?;
            for path in files {
                corpus.add_file(path)?;
            }
            // A domain without a window would count for nothing.
            let count = |windows: usize| windows.max(files.len());
            let tokens = |windows: Vec<Window>| windows.into_iter().map(|w| w.tokens).collect();
            let calibration =
                tokens(corpus.windows(&*tokenizer, Side::Calibration, count(work.calibration))?);
            let heldout =
                tokens(corpus.windows(&*tokenizer, Side::HeldOut, count(work.heldout))?);
            let domains = corpus.domains().map(str::to_owned).collect();
            return Self::with_prompt(source, calibration, heldout, domains);
        }
        let path = folder.join("text.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                return serde_json::from_slice(&bytes)
                    .map_err(|source| QuantError::Json { path, source }.into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(QuantError::io(&path, "reading")(source).into()),
        }
        if source.gguf().is_none() {
            return Err(PruneError::NoText);
        }
        let total = work.calibration + work.heldout;
        reporter.stage("the model writes text", Some(total as u64));
        let mut calibration = write_windows(source.path(), threads, seed, total, window, reporter)?;
        let heldout = calibration.split_off(work.calibration);
        let domains = vec!["written by the model".to_owned()];
        let texts = Self::with_prompt(source, calibration, heldout, domains)?;
        let json = serde_json::to_vec(&texts)
            .map_err(|source| QuantError::Json { path: path.clone(), source })?;
        write_bytes(&path, &json, WriteOptions::force())?;
        Ok(texts)
    }

    fn with_prompt(
        source: &Source,
        calibration: Vec<Vec<u32>>,
        heldout: Vec<Vec<u32>>,
        domains: Vec<String>,
    ) -> Result<Self, PruneError> {
        let start = heldout.first().map_or(&[][..], |w| &w[..w.len().min(PROMPT)]);
        let skip = usize::from(source.tokenizer()?.bos().is_some());
        let prompt = source.decode(start.get(skip..).unwrap_or_default())?;
        Ok(Self { calibration, heldout, domains, prompt })
    }

    /// Calibration windows as batches of several, held-out windows as batches of one.
    pub(super) fn batches(&self, together: usize) -> Result<(Vec<Batch>, Vec<Batch>), PruneError> {
        let cut = |windows: &[Vec<u32>], together: usize| -> Result<Vec<Batch>, QuantError> {
            windows.chunks(together.max(1)).map(|c| Ok(Batch::new(c)?)).collect()
        };
        Ok((cut(&self.calibration, together)?, cut(&self.heldout, together)?))
    }

    /// SHA-256 of all tokens.
    pub(super) fn sha256(&self) -> String {
        let windows = self.calibration.iter().chain(&self.heldout);
        let bytes: Vec<u8> = windows.flatten().flat_map(|t| t.to_le_bytes()).collect();
        sha256(&bytes)
    }
}
