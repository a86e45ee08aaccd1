//! From a folder and a share to a folder with so many zeros that has been read again.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rco_core::Assignment;
use rco_core::search::{SearchOutcome, SearchSettings};
use rco_formats::atomic::WriteOptions;
use rco_model::ModelError;
use rco_model::importance::Importance;
use rco_model::weights::WeightSource;
use serde::Serialize;

use super::folder;
use super::levels::Levels;
use super::mask::{Norms, errors};
use super::models::SparseModels;
use crate::effort::{Effort, WorkPlan};
use crate::error::QuantError;
use crate::fisher;
use crate::hash::sha256;
use crate::job::Reporter;
use crate::objective::{PlanLoss, PlanModels};
use crate::prune::effort::{CHOOSE_CALIBRATION, PruneWork};
use crate::prune::made::{Made, check_kind};
use crate::prune::reference::Reference;
use crate::prune::source::Source;
use crate::prune::{Amount, CommonSettings, PruneError};
use crate::samples::SampleFile;
use crate::search_folder::search_in;

/// What a job is asked to do.
#[derive(Debug, Clone)]
pub struct SparsitySettings {
    /// Model, texts, output. Its work is that of `effort`.
    pub common: CommonSettings,
    /// How much work to spend.
    pub effort: Effort,
    /// Share of the weights of all matrices that goes.
    pub amount: Amount,
}

/// A job whose inputs have been opened and checked, as far as headers say.
#[derive(Debug)]
pub struct SparsityJob {
    settings: SparsitySettings,
    source: Source,
    levels: Arc<Levels>,
}

/// What a job would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SparsityOutlook {
    /// Family of the model.
    pub family: String,
    /// Matrices of its blocks.
    pub matrices: usize,
    /// Their weights.
    pub weights: u64,
    /// Weights that are set to zero at least.
    pub dropped: u64,
    /// Bytes of the source's weights.
    pub source_bytes: u64,
    /// Tokens that are computed forwards, about; a gradient counts as four.
    pub tokens: u64,
}

/// Level of a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MatrixLevel {
    /// The matrix, by the name of its tensor.
    pub name: String,
    /// Share that went.
    pub share: String,
    /// Weights that went.
    pub dropped: u64,
    /// Weights there were.
    pub of: u64,
}

/// What a job has made.
#[derive(Debug, Clone, Serialize)]
pub struct SparsityOutcome {
    /// The model that was written, and how it was found.
    #[serde(flatten)]
    pub made: Made,
    /// Weights that were set to zero.
    pub dropped: u64,
    /// Weights of all matrices.
    pub weights: u64,
    /// The levels.
    pub matrices: Vec<MatrixLevel>,
}

/// What all plans are made from.
#[derive(Debug)]
pub struct SparsityPrepared {
    /// The original and the texts.
    pub reference: Reference,
    /// The model with every share of every matrix.
    pub models: SparseModels,
    /// What each option takes away: squares of weights times activation norms, in the flat order.
    pub errors: Vec<f64>,
    /// Sensitivities of all options, in the flat order.
    pub scores: Vec<f64>,
    /// What all of that was made from.
    pub origin: String,
}

impl SparsityJob {
    /// Opens the folder and checks the order.
    ///
    /// # Errors
    /// A model that cannot be read or is no folder, a share that cannot be met, weights of
    /// texts, which this search does not know.
    pub fn open(mut settings: SparsitySettings) -> Result<Self, PruneError> {
        settings.common.work = work(&settings.effort.plan());
        let CommonSettings { model, output, text, .. } = &settings.common;
        text.check()?;
        if !text.weights.is_empty() || !text.protected.is_empty() {
            return Err(PruneError::SparsityText);
        }
        let source = Source::open(model)?;
        if source.folder().is_none() {
            return Err(PruneError::SparsityOfGguf { path: model.clone() });
        }
        if text.files.is_empty() {
            return Err(PruneError::NoText);
        }
        let Amount::Share(asked) = settings.amount else { return Err(PruneError::SparsityCount) };
        let levels = Arc::new(Levels::new(source.config(), asked)?);
        levels.problem()?;
        check_kind(&source, output.as_deref())?;
        Ok(Self { settings, source, levels })
    }

    /// The settings.
    pub fn settings(&self) -> &SparsitySettings {
        &self.settings
    }

    /// SHA-256 of the source. Reads all of it.
    ///
    /// # Errors
    /// A failed read.
    pub fn source_sha256(&self) -> Result<String, PruneError> {
        self.source.sha256()
    }

    /// What the job would do. Reads nothing but headers.
    pub fn outlook(&self) -> SparsityOutlook {
        let plan = self.settings.effort.plan();
        let window = self.source.window(plan.window) as u64;
        let gradients = 4 * (plan.fisher + plan.steps * plan.per_gradient as u64);
        let measured = (plan.refine + plan.polish + 20) * plan.measured as u64;
        let texts = plan.calibration as u64 + 14 * plan.heldout as u64;
        SparsityOutlook {
            family: self.source.config().family.to_string(),
            matrices: self.levels.matrices.len(),
            weights: self.levels.weights(),
            dropped: self.levels.to_drop(),
            source_bytes: self.source.bytes(),
            tokens: window * (gradients + measured + texts),
        }
    }

    /// The source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Matrices and shares.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The settings of the search.
    pub fn search_settings(&self) -> SearchSettings {
        let mut settings = self.settings.effort.plan().search(self.settings.common.seed);
        // The same share everywhere is what others do: how far behind it is has to be seen.
        settings.choose_within = None;
        settings.choose_calibration = CHOOSE_CALIBRATION;
        // From few samples, and far from the original, sums of scores need not have the scale
        // of the losses.
        settings.refine.rescale = true;
        settings
    }

    /// Plans that need no search.
    pub fn known(&self) -> Vec<(String, Assignment)> {
        vec![("the same share everywhere".to_owned(), self.levels.uniform())]
    }

    /// All of it in order, over the run folder.
    ///
    /// # Errors
    /// Whatever any of the stages meets.
    pub fn run(
        &self,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<SparsityOutcome, PruneError> {
        let prepared = self.prepare(folder, reporter)?;
        let found = self.search(&prepared, folder, reporter)?;
        let plan = found.assignment.clone();
        let matrices = self.matrices(&plan);
        let sha256 = plan_sha256(&matrices);
        let masked = prepared.models.weights(&plan);
        let write = |path: &Path, options| self.write(path, &plan, &masked, &sha256, options);
        let (common, reference) = (&self.settings.common, &prepared.reference);
        let named = sha256.clone();
        let made = Made::new(&self.source, common, reference, found, named, write, reporter)?;
        let dropped = self.levels.dropped(&plan);
        Ok(SparsityOutcome { made, dropped, weights: self.levels.weights(), matrices })
    }

    /// All that comes before the search: texts, the original's states, activations, masks,
    /// sensitivities.
    ///
    /// # Errors
    /// Whatever any of the stages meets.
    pub fn prepare(
        &self,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<SparsityPrepared, PruneError> {
        let Self { settings, source, levels } = self;
        let reference = Reference::new(source, &settings.common, folder, reporter)?;
        let Reference { original, teacher, origin, .. } = &reference;
        let batches = teacher.calibration.len();
        reporter.stage("activations", Some(batches as u64));
        let mut importance = Importance::default();
        for n in 0..batches {
            reporter.advance(n as u64, "");
            original.visit_inputs(teacher.calibration.batch(n), &mut importance)?;
        }
        let norms = Arc::new(Norms::new(&importance, &levels.matrices));
        reporter.stage("masks", None);
        let weights = original.weights();
        let errors: Vec<Vec<f64>> = levels
            .matrices
            .par_iter()
            .map(|m| errors(&**weights, &norms, levels, m))
            .collect::<Result<_, ModelError>>()?;
        let errors = errors.concat();
        let config = Arc::clone(source.config());
        let models = SparseModels::new(config, Arc::clone(weights), levels, &norms);

        let work = settings.effort.plan();
        let seed = settings.common.seed;
        reporter.stage("sensitivities", Some(work.fisher));
        let mut of_samples = format!("sparsity {origin} {seed}");
        for error in &errors {
            let _ = write!(of_samples, " {:016x}", error.to_bits());
        }
        let origin = sha256(of_samples.as_bytes());
        let count = models.option_count();
        let mut file = SampleFile::open(&folder.join("fisher.jsonl"), &origin, count)?;
        for index in file.samples().len() as u64..work.fisher {
            reporter.advance(index, "");
            let batch = teacher.calibration.batch(index as usize % batches.max(1));
            file.push(fisher::sample(&models, batch, seed, index)?)?;
        }
        let samples = &file.samples()[..work.fisher as usize];
        let scores = fisher::scores(samples, &errors, models.offsets());
        Ok(SparsityPrepared { reference, models, errors, scores, origin })
    }

    fn search(
        &self,
        prepared: &SparsityPrepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<SearchOutcome, PruneError> {
        let SparsityPrepared { reference, models, scores, origin, .. } = prepared;
        let (work, seed) = (self.settings.effort.plan(), self.settings.common.seed);
        let problem = self.levels.problem()?;
        let run = folder.join("search");
        let (settings, known) = (self.search_settings(), self.known());
        let measured = work.measured_batches();
        let teacher = &reference.teacher;
        let loss = PlanLoss::new(models, teacher, measured, seed, scores.clone(), known, origin);
        let mut loss = loss.with_curvature(scores.clone());
        Ok(search_in(&run, &problem, &mut loss, settings, reporter)?)
    }

    fn matrices(&self, plan: &Assignment) -> Vec<MatrixLevel> {
        let each = self.levels.matrices.iter().enumerate();
        let level = |(n, m): (usize, &super::levels::Matrix)| {
            let rows = m.rows as u64;
            MatrixLevel {
                name: self.source.config().family.hf_name(m.key),
                share: self.levels.name(plan.option(n)),
                dropped: rows * self.levels.drops(plan.option(n), m.columns) as u64,
                of: rows * m.columns as u64,
            }
        };
        each.map(level).collect()
    }

    /// Writes the folder; gives its bytes, which are those predicted.
    fn write(
        &self,
        path: &Path,
        plan: &Assignment,
        masked: &Arc<dyn WeightSource>,
        sha256: &str,
        options: WriteOptions,
    ) -> Result<u64, PruneError> {
        let Some(source) = self.source.folder() else { return Ok(0) };
        let files = folder::plan(source, self.source.config(), &self.levels, plan, masked, sha256)?;
        let expected = files.bytes(source.path())?;
        let found = files.write(path, options)?;
        match expected {
            Some(expected) if expected != found => {
                Err(QuantError::SizeDiffers { path: path.to_owned(), expected, found }.into())
            }
            _ => Ok(found),
        }
    }
}

/// The texts of an effort as every kind of pruning takes them.
fn work(plan: &WorkPlan) -> PruneWork {
    PruneWork {
        window: plan.window,
        calibration: plan.calibration,
        heldout: plan.heldout,
        together: plan.per_gradient,
        fisher: plan.fisher,
        steps: plan.steps,
        polish: plan.polish,
        verified: plan.verified,
    }
}

/// SHA-256 of a plan: of a line `tensor share` for each matrix.
fn plan_sha256(matrices: &[MatrixLevel]) -> String {
    let mut text = String::new();
    for m in matrices {
        let _ = writeln!(text, "{} {}", m.name, m.share);
    }
    sha256(text.as_bytes())
}
