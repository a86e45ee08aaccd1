//! The steps of a tuning.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rco_core::Assignment;
use rco_core::rng::{Purpose, stream};
use rco_model::engine::Settings;
use rco_model::weights::{Overlay, PackedMatrix};
use rco_model::{Batch, GradientVisitor, Model, ModelError, WeightGradient, WeightKey};
use serde::Serialize;

use super::super::error::PackedError;
use super::super::job::{PackJob, PackPrepared};
use super::matrix::MatrixScales;
use super::state::{self, Progress};
use crate::error::QuantError;
use crate::hash::sha256;
use crate::job::Reporter;
use crate::objective::PlanModels;

/// Largest relative change of a scale in a step.
const RATE: f64 = 3e-3;
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

/// Matrices with tuned scales.
#[derive(Debug, Clone)]
pub struct TunedScales {
    /// What was done.
    pub outcome: TuningOutcome,
    /// SHA-256 of the scales that are taken; `None` for those that rounding chose.
    pub sha256: Option<String>,
    matrices: HashMap<String, PackedMatrix>,
    model: Model,
}

impl TunedScales {
    /// The tuned form of a matrix, if it was tuned and that is taken.
    pub fn matrix(&self, module: &str) -> Option<&PackedMatrix> {
        self.matrices.get(module).filter(|_| self.outcome.taken)
    }

    /// The model with the scales that are taken.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Mean KL of that model on the held-out text.
    pub fn loss(&self) -> f64 {
        if self.outcome.taken { self.outcome.after } else { self.outcome.before }
    }
}

impl PackJob {
    /// Fits the scales of a plan to the loss, or goes on with what is in the run folder. `before` is
    /// the plan's loss on the held-out text, if that has been measured.
    ///
    /// # Errors
    /// Whatever model and disk meet.
    pub fn tune(
        &self,
        order: usize,
        prepared: &PackPrepared,
        plan: &Assignment,
        before: Option<f64>,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<TunedScales, PackedError> {
        let steps = self.settings.tuning_steps();
        let path = folder.join(format!("scales-{order}-{}.safetensors", self.budget(order)));
        Tuning { job: self, prepared, plan, steps, before }.run(&path, reporter)
    }
}

/// What a tuning works with.
struct Tuning<'a> {
    job: &'a PackJob,
    prepared: &'a PackPrepared,
    plan: &'a Assignment,
    steps: u64,
    /// Loss on the held-out text, if that is known.
    before: Option<f64>,
}

impl Tuning<'_> {
    /// Tunes the scales, or goes on with the tuning that `path` holds.
    ///
    /// # Errors
    /// Whatever model and disk meet.
    fn run(&self, path: &Path, reporter: &mut dyn Reporter) -> Result<TunedScales, PackedError> {
        let mut matrices = Vec::new();
        let mut origin = format!("{} {} {} {RATE}", self.prepared.origin, self.seed(), self.steps);
        for (linear, form) in self.job.menu.linears.iter().zip(self.job.forms(self.plan)) {
            // Those that are not rounded have no scales.
            if let Some(matrix) = self.prepared.database.matrix(linear, form) {
                matrices.push(MatrixScales::new(linear.key, matrix.clone()));
                let _ = write!(origin, " {} {form}", linear.module);
            }
        }
        let origin = sha256(origin.as_bytes());
        let fresh = || Progress { origin: origin.clone(), ..Progress::default() };
        let mut progress = state::load(path, &origin, &mut matrices)?.unwrap_or_else(fresh);
        reporter.stage("tuning scales", Some(self.steps));
        let started = self.prepared.models.model(self.plan)?;
        let before = match progress.before.or(self.before) {
            Some(before) => before,
            None => self.heldout(&started)?,
        };
        progress.before = Some(before);
        self.steps(&mut progress, &mut matrices, path, reporter)?;
        let (tuned, by_module) = self.model(&matrices)?;
        let after = match progress.after {
            Some(after) => after,
            None => self.heldout(&tuned)?,
        };
        if progress.after.replace(after).is_none() {
            state::save(path, &mut progress, &matrices)?;
        }
        let taken = after < before;
        let scales = matrices.iter().map(|matrix| matrix.factors.len() as u64).sum();
        Ok(TunedScales {
            outcome: TuningOutcome { steps: progress.steps, scales, before, after, taken },
            sha256: taken.then(|| hash(&matrices)),
            matrices: by_module,
            model: if taken { tuned } else { started },
        })
    }

    /// The steps that are left.
    fn steps(
        &self,
        progress: &mut Progress,
        matrices: &mut [MatrixScales],
        path: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<(), PackedError> {
        let original = self.prepared.models.original()?;
        let index: HashMap<WeightKey, usize> =
            matrices.iter().enumerate().map(|(n, matrix)| (matrix.key, n)).collect();
        let (mut saved, mut saving) = (Instant::now(), Duration::ZERO);
        while progress.steps < self.steps {
            let last = progress.losses.last().map(|loss| format!("KL {loss:.4}"));
            reporter.advance(progress.steps, &last.unwrap_or_default());
            let batch = self.batch(progress.steps)?;
            let (model, _) = self.model(matrices)?;
            let rate = self.rate(progress.steps) as f32;
            let mut visitor = Updates { index: &index, matrices, rate };
            let report =
                self.prepared.teacher.gradient_on(&original, &model, &batch, &mut visitor)?;
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

    /// The model of the plan with the scales of `matrices`, and these by module.
    fn model(
        &self,
        matrices: &[MatrixScales],
    ) -> Result<(Model, HashMap<String, PackedMatrix>), PackedError> {
        let mut weights = Overlay::new(Arc::clone(&self.prepared.models.source));
        let mut by_module = HashMap::new();
        for matrix in matrices {
            let tuned = matrix.tuned()?;
            by_module.insert(tuned.module().to_owned(), tuned.clone());
            weights.replace(matrix.key, Arc::new(tuned));
        }
        let config = Arc::clone(&self.prepared.models.config);
        Ok((Model::new(config, Arc::new(weights), Settings::default())?, by_module))
    }

    fn seed(&self) -> u64 {
        self.job.settings.seed
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
        let windows = &self.prepared.windows;
        let count = windows.len().max(1) as u64;
        let (pass, place) = (step / count, step % count);
        let order = stream(self.seed(), Purpose::Tuning, pass).order(windows.len());
        let window = order.get(place as usize).and_then(|&n| windows.get(n..=n));
        Batch::new(window.unwrap_or_default())
    }

    fn heldout(&self, model: &Model) -> Result<f64, QuantError> {
        let teacher = &self.prepared.teacher;
        Ok(teacher.mean(model, &teacher.heldout, 0..teacher.heldout.len())?)
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
    rate: f32,
}

impl GradientVisitor for Updates<'_> {
    fn wants(&self, key: WeightKey) -> bool {
        self.index.contains_key(&key)
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        if let Some(&n) = self.index.get(&gradient.key) {
            let matrix = &mut self.matrices[n];
            let group = matrix.matrix.scheme().group();
            matrix.update(&gradient.group_products(group)?, self.rate);
        }
        Ok(())
    }
}
