//! The loss of a plan as llama.cpp finds it: for models that the engine cannot run.
//!
//! Each plan becomes a file, which llama.cpp loads and compares with the original. There are
//! no gradients; what a plan costs by itself is estimated by the errors of the weights.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rco_core::Assignment;
use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_formats::atomic::WriteOptions;
use rco_ggml::{Runtime, RuntimeSettings};
use rco_model::head::compare_logits;

use crate::database::OptionDatabase;
use crate::error::QuantError;
use crate::groups::Groups;
use crate::hash::sha256;
use crate::output::{PlanFile, Provenance};

/// Logits of the original that are kept in memory, in bytes; what does not fit is computed
/// each time.
const KEPT: usize = 1 << 30;

/// Windows of text, and the original in llama.cpp.
#[derive(Debug, Clone)]
pub struct RuntimeTexts {
    /// The original.
    pub source: PathBuf,
    /// Windows of the calibration text.
    pub calibration: Vec<Vec<u32>>,
    /// How many of them a plan is measured on.
    pub measured: usize,
    /// Windows that only choose and report.
    pub heldout: Vec<Vec<u32>>,
    /// Threads of llama.cpp.
    pub threads: usize,
    /// Folder for the file of the plan at hand.
    pub folder: PathBuf,
}

/// Mean KL of plans from the original in llama.cpp.
pub struct RuntimeLoss<'a> {
    groups: &'a Groups,
    database: &'a OptionDatabase,
    provenance: Provenance,
    texts: &'a RuntimeTexts,
    scores: Vec<f64>,
    known: Vec<(String, Assignment)>,
    fingerprint: String,
    original: Option<Runtime>,
    /// The original's logits on the first windows, those that plans are measured on.
    logits: Vec<Vec<f32>>,
}

impl std::fmt::Debug for RuntimeLoss<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RuntimeLoss({})", self.texts.source.display())
    }
}

impl<'a> RuntimeLoss<'a> {
    /// A loss with separable `scores` (flat order of the groups of the menu) and plans known
    /// from elsewhere.
    pub fn new(
        groups: &'a Groups,
        database: &'a OptionDatabase,
        provenance: Provenance,
        texts: &'a RuntimeTexts,
        mut scores: Vec<f64>,
        known: Vec<(String, Assignment)>,
        origin: &str,
    ) -> Self {
        // The group of the rest has one option.
        scores.push(0.0);
        let mut text = format!("llama.cpp {origin} {}", texts.measured);
        for window in texts.calibration.iter().chain(&texts.heldout) {
            let _ = write!(text, "|{window:?}");
        }
        for score in &scores {
            let _ = write!(text, " {:016x}", score.to_bits());
        }
        let (fingerprint, original) = (sha256(text.as_bytes()), None);
        Self {
            groups,
            database,
            provenance,
            texts,
            scores,
            known,
            fingerprint,
            original,
            logits: Vec::new(),
        }
    }

    fn settings(&self) -> RuntimeSettings {
        let windows = self.texts.calibration.iter().chain(&self.texts.heldout);
        let context = windows.map(Vec::len).max().unwrap_or(1);
        RuntimeSettings { threads: self.texts.threads, context }
    }

    /// Mean loss over windows, each with its place in the list of kept logits.
    fn mean(&mut self, plan: &Assignment, windows: &[usize]) -> Result<f64, QuantError> {
        let path = self.texts.folder.join("plan.gguf");
        let forms = self.groups.forms(plan);
        let Self { groups, database, provenance, .. } = *self;
        let file = PlanFile { groups, database, forms: &forms, provenance, tuned: None };
        file.write(&path, WriteOptions::force())?;
        let mean = self.mean_of(&path, windows);
        std::fs::remove_file(&path).map_err(QuantError::io(&path, "deleting"))?;
        mean
    }

    fn mean_of(&mut self, path: &Path, windows: &[usize]) -> Result<f64, QuantError> {
        let mut model = Runtime::open(path, &self.settings())?;
        let (mut sum, mut tokens) = (0.0, 0);
        for &n in windows {
            let window = self.window(n);
            let logits = model.logits(window)?;
            let report = match self.original_logits(n)? {
                Original::Kept(place) => compare_logits(window, &self.logits[place], &logits)?,
                Original::Computed(original) => compare_logits(window, &original, &logits)?,
            };
            sum += report.tokens.iter().map(|t| t.loss).sum::<f64>();
            tokens += report.tokens.len();
        }
        Ok(sum / tokens.max(1) as f64)
    }

    /// A window: calibration windows come first.
    fn window(&self, n: usize) -> &'a [u32] {
        let texts = self.texts;
        match n.checked_sub(texts.calibration.len()) {
            None => &texts.calibration[n],
            Some(n) => &texts.heldout[n],
        }
    }

    fn original_logits(&mut self, n: usize) -> Result<Original, QuantError> {
        if n < self.logits.len() {
            return Ok(Original::Kept(n));
        }
        let settings = self.settings();
        let window = self.window(n);
        let runtime = match &mut self.original {
            Some(runtime) => runtime,
            none => none.insert(Runtime::open(&self.texts.source, &settings)?),
        };
        let logits = runtime.logits(window)?;
        let kept: usize = self.logits.iter().map(Vec::len).sum();
        if n == self.logits.len() && 4 * (kept + logits.len()) <= KEPT {
            self.logits.push(logits);
            return Ok(Original::Kept(n));
        }
        Ok(Original::Computed(logits))
    }
}

/// Where the original's logits are.
enum Original {
    Kept(usize),
    Computed(Vec<f32>),
}

fn failed(error: QuantError) -> ObjectiveError {
    ObjectiveError { message: error.to_string(), source: Some(Box::new(error)) }
}

impl Objective for RuntimeLoss<'_> {
    fn evaluate(&mut self, _: &Assignment, _: Draw) -> Result<Evaluation, ObjectiveError> {
        Err(ObjectiveError::new("llama.cpp gives no gradients"))
    }

    fn has_gradients(&self) -> bool {
        false
    }

    fn loss(&mut self, plan: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        let (learnt, heldout) = (self.texts.calibration.len(), self.texts.heldout.len());
        let windows: Vec<usize> = match split {
            Split::HeldOut => (learnt..learnt + heldout).collect(),
            Split::Draws { first, count } => (0..u64::from(count))
                .map(|i| (first.0.wrapping_add(i) % learnt.max(1) as u64) as usize)
                .collect(),
            _ => (0..self.texts.measured.min(learnt)).collect(),
        };
        self.mean(plan, &windows).map_err(failed)
    }

    fn proxy_scores(&self) -> Option<&[f64]> {
        Some(&self.scores)
    }

    fn known_plans(&self) -> &[(String, Assignment)] {
        &self.known
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}
