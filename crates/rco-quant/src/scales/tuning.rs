//! The steps of a tuning.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rco_core::rng::{Purpose, stream};
use rco_model::weights::Overlay;
use rco_model::{Batch, GradientVisitor, Model, ModelError, WeightGradient, WeightKey};
use serde::Serialize;

use super::matrix::MatrixScales;
use super::state::{self, Progress};
use crate::error::QuantError;
use crate::hash::sha256;
use crate::job::Reporter;
use crate::teacher::Teacher;

/// Largest relative change of a scale in a step, where the grid is as fine as [`RATE_BITS`] make it.
const RATE: f64 = 3e-3;
/// Bits of that grid. With each bit more, steps of the grid are half as large against the largest
/// weights, and so are those of scales: all move their weights by as much of a step.
const RATE_BITS: f64 = 2.5;
/// Steps in which the rate rises, where there are many more.
const WARM: u64 = 10;
/// What is done is written again after so many times what writing takes.
const SAVED: u32 = 50;

/// What a tuning did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuningOutcome {
    /// Steps, one gradient on one window each.
    pub steps: u64,
    /// Scales that were free.
    pub scales: u64,
    /// Mean KL on held-out text with the scales that rounding chose.
    pub before: f64,
    /// The same with the tuned ones.
    pub after: f64,
    /// Whether the tuned ones are better there, and so are taken.
    pub taken: bool,
}

impl TuningOutcome {
    /// Mean KL on held-out text with the scales that are taken.
    pub fn loss(&self) -> f64 {
        if self.taken { self.after } else { self.before }
    }
}

/// A model with tuned scales.
#[derive(Debug)]
pub(crate) struct Tuned {
    /// What was done.
    pub(crate) outcome: TuningOutcome,
    /// SHA-256 of the scales that are taken; `None` for those that rounding chose.
    pub(crate) sha256: Option<String>,
    /// What the scales of each matrix are multiplied with; empty if they stay.
    pub(crate) factors: Vec<Vec<f32>>,
    /// The model with the scales that are taken.
    pub(crate) model: Model,
}

/// What a tuning works with.
pub(crate) struct Tuning<'a> {
    /// The original.
    pub(crate) original: Model,
    /// The model with the scales that rounding chose.
    pub(crate) started: Model,
    /// The original on the held-out text.
    pub(crate) teacher: &'a Teacher,
    /// Windows to learn from.
    pub(crate) windows: &'a [Vec<u32>],
    /// Steps, one window each.
    pub(crate) steps: u64,
    /// Decides the order of the windows.
    pub(crate) seed: u64,
    /// Loss on the held-out text before, if that is known.
    pub(crate) before: Option<f64>,
}

impl Tuning<'_> {
    /// Tunes the scales, or goes on with the tuning that `path` holds. `origin` says what the
    /// matrices are, and what all of it is computed from.
    ///
    /// # Errors
    /// Whatever model and disk meet.
    pub(crate) fn run(
        &self,
        origin: &str,
        mut matrices: Vec<MatrixScales>,
        path: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Tuned, QuantError> {
        let Self { steps, seed, .. } = self;
        let windows: Vec<u8> =
            self.windows.iter().flatten().flat_map(|token| token.to_le_bytes()).collect();
        let windows = sha256(&windows);
        let origin =
            sha256(format!("{origin} {windows} {seed} {steps} {RATE} {RATE_BITS}").as_bytes());
        let fresh = || Progress { origin: origin.clone(), ..Progress::default() };
        let mut progress = state::load(path, &origin, &mut matrices)?.unwrap_or_else(fresh);
        reporter.stage("tuning scales", Some(self.steps));
        let before = match progress.before.or(self.before) {
            Some(before) => before,
            None => self.heldout(&self.started)?,
        };
        progress.before = Some(before);
        self.steps(&mut progress, &mut matrices, path, reporter)?;
        let tuned = self.model(&matrices)?;
        let after = match progress.after {
            Some(after) => after,
            None => self.heldout(&tuned)?,
        };
        if progress.after.replace(after).is_none() {
            state::save(path, &mut progress, &matrices)?;
        }
        let taken = after < before;
        let scales = matrices.iter().map(|matrix| matrix.factors.len() as u64).sum();
        let outcome = TuningOutcome { steps: progress.steps, scales, before, after, taken };
        if !taken {
            let model = self.started.clone();
            return Ok(Tuned { outcome, sha256: None, factors: Vec::new(), model });
        }
        let sha256 = Some(hash(&matrices));
        let factors = matrices.into_iter().map(|matrix| matrix.factors).collect();
        Ok(Tuned { outcome, sha256, factors, model: tuned })
    }

    /// The steps that are left.
    fn steps(
        &self,
        progress: &mut Progress,
        matrices: &mut [MatrixScales],
        path: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<(), QuantError> {
        let index: HashMap<WeightKey, usize> =
            matrices.iter().enumerate().map(|(n, matrix)| (matrix.key, n)).collect();
        let (mut saved, mut saving) = (Instant::now(), Duration::ZERO);
        while progress.steps < self.steps {
            let last = progress.losses.last().map(|loss| format!("KL {loss:.4}"));
            reporter.advance(progress.steps, &last.unwrap_or_default());
            let batch = self.batch(progress.steps)?;
            let model = self.model(matrices)?;
            let rate = self.rate(progress.steps);
            let mut visitor = Updates { index: &index, matrices, rate };
            let report = self.teacher.gradient_on(&self.original, &model, &batch, &mut visitor)?;
            progress.losses.push(report.mean);
            progress.steps += 1;
            if saved.elapsed() >= saving * SAVED {
                let begun = Instant::now();
                state::save(path, progress, matrices)?;
                (saved, saving) = (Instant::now(), begun.elapsed());
            }
        }
        Ok(())
    }

    /// The model with the scales of `matrices`.
    fn model(&self, matrices: &[MatrixScales]) -> Result<Model, ModelError> {
        let mut weights = Overlay::new(Arc::clone(self.started.weights()));
        for matrix in matrices {
            weights.replace(matrix.key, matrix.tuned()?);
        }
        self.started.with_weights(Arc::new(weights))
    }

    /// The rate of a step: up in the beginning, then down to nothing.
    fn rate(&self, step: u64) -> f64 {
        let warm = WARM.min(self.steps.div_ceil(4)).max(1);
        let rising = (step + 1) as f64 / warm as f64;
        let falling = (self.steps - step) as f64 / self.steps as f64;
        RATE * rising.min(1.0) * falling
    }

    /// The window of a step: each pass through the text takes them in another order.
    fn batch(&self, step: u64) -> Result<Batch, ModelError> {
        let windows = self.windows;
        let count = windows.len().max(1) as u64;
        let (pass, place) = (step / count, step % count);
        let order = stream(self.seed, Purpose::Tuning, pass).order(windows.len());
        let window = order.get(place as usize).and_then(|&n| windows.get(n..=n));
        Batch::new(window.unwrap_or_default())
    }

    fn heldout(&self, model: &Model) -> Result<f64, QuantError> {
        let heldout = &self.teacher.heldout;
        Ok(self.teacher.mean(model, heldout, 0..heldout.len())?)
    }
}

/// SHA-256 of all scales.
fn hash(matrices: &[MatrixScales]) -> String {
    let mut text = String::new();
    for matrix in matrices {
        let bytes: Vec<u8> = matrix.factors.iter().flat_map(|x| x.to_le_bytes()).collect();
        let _ = write!(text, "{} ", sha256(&bytes));
    }
    sha256(text.as_bytes())
}

/// Takes up gradients as the backward pass goes by: none is kept.
struct Updates<'a> {
    index: &'a HashMap<WeightKey, usize>,
    matrices: &'a mut [MatrixScales],
    rate: f64,
}

impl GradientVisitor for Updates<'_> {
    fn wants(&self, key: WeightKey) -> bool {
        self.index.contains_key(&key)
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        if let Some(&n) = self.index.get(&gradient.key) {
            let matrix = &mut self.matrices[n];
            let fineness = (RATE_BITS - matrix.matrix.bits()).exp2();
            matrix.visit(gradient, self.rate * fineness)?;
        }
        Ok(())
    }
}
