//! Windows of text by domain.

use std::path::PathBuf;

use rco_model::Batch;
use rco_model::text::{Corpus, Side, TextSettings, Tokenise};
use rco_model::tokenizer::Tokenizer;

use super::error::PackedError;
use super::source::Source;
use crate::effort::WorkPlan;
use crate::hash::sha256;

/// Share of each text that is held out.
const HELD_OUT: f64 = 0.25;
/// With so many times the windows that the search learns from, or more, it shares none with the
/// second moments.
const LEAST_APART: usize = 2;

/// Windows of tokens, the domains in turns.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    /// Windows that the search learns from.
    calibration: Vec<Vec<u32>>,
    /// Windows that second moments are of: others, where there is text enough, for on those plans
    /// lose less than they do elsewhere.
    moments: Vec<Vec<u32>>,
    heldout: Vec<Vec<u32>>,
}

impl Texts {
    pub(super) fn new(
        source: &Source,
        files: &[PathBuf],
        work: &WorkPlan,
        window: usize,
        seed: u64,
    ) -> Result<Self, PackedError> {
        if files.is_empty() {
            return Err(PackedError::NoText);
        }
        let tokenizer = Tokenizer::open(source.folder().path())?;
        let mut corpus = Corpus::new(TextSettings { seed, held_out: HELD_OUT, window })?;
        for path in files {
            corpus.add_file(path)?;
        }
        let tokenizer: &dyn Tokenise = &tokenizer;
        let side = |side, least, most| -> Result<Vec<Vec<u32>>, PackedError> {
            let windows = corpus.windows_between(tokenizer, side, least, most)?;
            Ok(windows.into_iter().map(|w| w.tokens).collect())
        };
        let searched = work.packed;
        // Less text than is wished for is no error.
        let most = searched + work.moments;
        let mut calibration = side(Side::Calibration, work.calibration, most)?;
        let apart = calibration.len() >= LEAST_APART * searched;
        let moments = if apart { calibration.split_off(searched) } else { calibration.clone() };
        calibration.truncate(searched);
        let heldout = side(Side::HeldOut, work.heldout, work.heldout)?;
        Ok(Self { calibration, moments, heldout })
    }

    /// A calibration window, counted round and round.
    pub(super) fn window(&self, n: usize) -> Result<Batch, PackedError> {
        let n = n % self.calibration.len().max(1);
        Ok(Batch::new(self.calibration.get(n..=n).unwrap_or_default())?)
    }

    /// Calibration and held-out windows as batches of so many.
    pub(super) fn batches(&self, together: usize) -> Result<(Vec<Batch>, Vec<Batch>), PackedError> {
        Ok((batches(&self.calibration, together)?, batches(&self.heldout, together)?))
    }

    /// The windows that second moments are of as batches of so many.
    pub(super) fn moments(&self, together: usize) -> Result<Vec<Batch>, PackedError> {
        batches(&self.moments, together)
    }

    /// All windows but those that only choose and report.
    pub(super) fn all(&self) -> Vec<Vec<u32>> {
        let searched: &[_] = if self.are_shared() { &[] } else { &self.calibration };
        searched.iter().chain(&self.moments).cloned().collect()
    }

    /// Whether search and second moments have no windows of their own.
    fn are_shared(&self) -> bool {
        self.moments.starts_with(&self.calibration)
    }

    /// How many windows there are and how many would be best, where the text has too few for the
    /// search and the second moments to have windows of their own.
    pub(super) fn too_few(&self, work: &WorkPlan) -> Option<(usize, usize)> {
        let found = self.moments.len() + if self.are_shared() { 0 } else { self.calibration.len() };
        let best = work.packed + work.moments;
        (found < best).then_some((found, best))
    }

    /// SHA-256 of all tokens.
    pub(super) fn sha256(&self) -> String {
        let windows = self.calibration.iter().chain(&self.moments).chain(&self.heldout);
        let bytes: Vec<u8> = windows.flatten().flat_map(|t| t.to_le_bytes()).collect();
        sha256(&bytes)
    }
}

fn batches(windows: &[Vec<u32>], together: usize) -> Result<Vec<Batch>, PackedError> {
    windows.chunks(together.max(1)).map(|c| Ok(Batch::new(c)?)).collect()
}
