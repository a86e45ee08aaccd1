//! The loss of a plan that drops blocks: mean KL from the original model.

use std::fmt::Write as _;
use std::sync::Arc;

use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem};
use rco_model::Model;
use rco_model::config::ModelConfig;
use rco_model::engine::Settings;
use rco_model::weights::GgufWeights;

use super::cut;
use super::folder::kept_config;
use crate::error::QuantError;
use crate::hash::sha256;
use crate::prune::PruneError;
use crate::prune::aim::Aim;
use crate::prune::experts::{DROP, KEEP};
use crate::prune::reference::Reference;
use crate::prune::source::Source;
use crate::teacher::Teacher;

/// The problem: a group for each block, which is dropped or kept; exactly `kept` remain.
///
/// # Errors
/// What the problem itself refuses.
pub fn problem(blocks: usize, kept: u64) -> Result<Problem, PruneError> {
    let mut builder = Problem::builder().budget(Budget::exactly("layers", kept));
    for block in 0..blocks {
        let mut options = [OptionSpec::new("drop", [0]), OptionSpec::new("drop", [0])];
        options[KEEP] = OptionSpec::new("keep", [1]);
        builder = builder.group(GroupSpec::new(format!("layer.{block}"), options));
    }
    Ok(builder.build()?)
}

/// The blocks that a plan keeps.
pub fn kept(blocks: usize, plan: &Assignment) -> Vec<usize> {
    (0..blocks).filter(|&block| plan.option(block) == KEEP).collect()
}

/// The plan that drops these blocks.
pub fn plan_without(blocks: usize, dropped: &[usize]) -> Assignment {
    let option = |block| if dropped.contains(&block) { DROP } else { KEEP };
    Assignment::new((0..blocks).map(|block| option(block) as u32).collect::<Vec<u32>>())
}

/// A model that can be run without some of its blocks.
#[derive(Debug, Clone, Copy)]
pub struct Shortened<'a> {
    source: &'a Source,
    /// The weights of a folder, in memory if they are few.
    original: &'a Model,
}

impl<'a> Shortened<'a> {
    /// `original` is the model of `source`.
    pub fn new(source: &'a Source, original: &'a Model) -> Self {
        Self { source, original }
    }

    /// Its blocks.
    pub fn blocks(&self) -> usize {
        self.source.config().blocks.len()
    }

    /// The model that keeps these blocks: what would be written, read where it lies.
    ///
    /// # Errors
    /// A configuration that what remains does not fit.
    pub fn model(&self, kept: &[usize]) -> Result<Model, PruneError> {
        if let Some(folder) = self.source.folder() {
            let (_, config) = kept_config(folder, self.source.config(), kept)?;
            return Ok(self.original.with_blocks(Arc::new(config), kept.to_vec())?);
        }
        let Some(file) = self.source.gguf() else { return Ok(self.original.clone()) };
        let file = cut::model(file, kept)?;
        let config = ModelConfig::from_gguf(&file)?;
        let weights = GgufWeights::new(Arc::new(file), &config)?;
        Ok(Model::new(Arc::new(config), Arc::new(weights), Settings::default())?)
    }
}

/// Mean KL of plans from the original model.
#[derive(Debug)]
pub struct LayersLoss<'a> {
    shortened: Shortened<'a>,
    teacher: &'a Teacher,
    aim: &'a Aim,
    /// Batches of the calibration text that plans are measured on.
    measured: usize,
    scores: Vec<f64>,
    known: Vec<(String, Assignment)>,
    fingerprint: String,
}

impl<'a> LayersLoss<'a> {
    /// A loss with what dropping each block by itself costs (`singles`) and plans known from
    /// elsewhere.
    pub fn new(
        shortened: Shortened<'a>,
        reference: &'a Reference,
        singles: &[f64],
        known: Vec<(String, Assignment)>,
    ) -> Self {
        let mut scores = Vec::with_capacity(2 * singles.len());
        for &single in singles {
            let mut options = [0.0; 2];
            options[DROP] = single;
            scores.extend(options);
        }
        let Reference { teacher, aim, origin, .. } = reference;
        let measured = teacher.calibration.len();
        let mut text = format!("layers {origin} {measured}");
        aim.describe(&mut text);
        for score in &scores {
            let _ = write!(text, " {:016x}", score.to_bits());
        }
        let fingerprint = sha256(text.as_bytes());
        Self { shortened, teacher, aim, measured, scores, known, fingerprint }
    }

    /// Loss of the model that keeps these blocks on the calibration windows.
    ///
    /// # Errors
    /// Whatever the model meets.
    pub fn measure(&self, kept: &[usize]) -> Result<f64, PruneError> {
        self.judged(kept, Split::Calibration)
    }

    fn judged(&self, kept: &[usize], split: Split) -> Result<f64, PruneError> {
        let (taught, batches) = match split {
            Split::HeldOut => (&self.teacher.heldout, self.teacher.heldout.len()),
            _ => (&self.teacher.calibration, self.measured),
        };
        let model = self.shortened.model(kept)?;
        let reports = self.teacher.losses(&model, taught, 0..batches).map_err(QuantError::from)?;
        Ok(self.aim.loss(&self.aim.sums(taught, &reports), split))
    }
}

impl Objective for LayersLoss<'_> {
    fn evaluate(&mut self, _: &Assignment, _: Draw) -> Result<Evaluation, ObjectiveError> {
        Err(ObjectiveError::new("whether a block is there has no derivative"))
    }

    fn has_gradients(&self) -> bool {
        false
    }

    fn loss(&mut self, plan: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        let kept = kept(self.shortened.blocks(), plan);
        self.judged(&kept, split).map_err(|error| ObjectiveError {
            message: error.to_string(),
            source: Some(Box::new(error)),
        })
    }

    fn proxy_scores(&self) -> Option<&[f64]> {
        Some(&self.scores)
    }

    fn known_plans(&self) -> &[(String, Assignment)] {
        &self.known
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}
