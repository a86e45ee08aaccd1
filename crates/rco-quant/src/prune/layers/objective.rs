//! The loss of a plan that drops blocks: mean KL from the original model.

use std::fmt::Write as _;
use std::sync::Arc;

use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem};
use rco_formats::gguf::GgufModel;
use rco_model::Model;
use rco_model::config::ModelConfig;
use rco_model::engine::Settings;
use rco_model::weights::GgufWeights;

use super::cut;
use crate::error::QuantError;
use crate::hash::sha256;
use crate::prune::PruneError;
use crate::prune::experts::{DROP, KEEP};
use crate::teacher::{Taught, Teacher};

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

/// A GGUF model that can be run without some of its blocks.
#[derive(Debug, Clone)]
pub struct Shortened {
    source: Arc<GgufModel>,
    blocks: usize,
}

impl Shortened {
    /// A model whose blocks are named in its metadata.
    ///
    /// # Errors
    /// [`PruneError::NoBlocks`].
    pub fn new(source: Arc<GgufModel>) -> Result<Self, PruneError> {
        let blocks = cut::blocks(&source)?;
        Ok(Self { source, blocks })
    }

    /// Its blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The model that keeps these blocks.
    ///
    /// # Errors
    /// A configuration that what remains does not fit.
    pub fn model(&self, kept: &[usize]) -> Result<Model, PruneError> {
        let file = cut::model(&self.source, kept)?;
        let config = ModelConfig::from_gguf(&file)?;
        let weights = GgufWeights::new(Arc::new(file), &config)?;
        Ok(Model::new(Arc::new(config), Arc::new(weights), Settings::default())?)
    }
}

/// Mean KL of plans from the original model.
#[derive(Debug)]
pub struct LayersLoss<'a> {
    shortened: &'a Shortened,
    teacher: &'a Teacher,
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
        shortened: &'a Shortened,
        teacher: &'a Teacher,
        measured: usize,
        singles: &[f64],
        known: Vec<(String, Assignment)>,
        origin: &str,
    ) -> Self {
        let mut scores = Vec::with_capacity(2 * singles.len());
        for &single in singles {
            let mut options = [0.0; 2];
            options[DROP] = single;
            scores.extend(options);
        }
        let mut text = format!("layers {origin} {measured}");
        for score in &scores {
            let _ = write!(text, " {:016x}", score.to_bits());
        }
        let fingerprint = sha256(text.as_bytes());
        Self { shortened, teacher, measured, scores, known, fingerprint }
    }

    /// Mean KL of the model that keeps these blocks on the calibration windows.
    ///
    /// # Errors
    /// Whatever the model meets.
    pub fn measure(&self, kept: &[usize]) -> Result<f64, PruneError> {
        self.mean(kept, &self.teacher.calibration, self.measured)
    }

    fn mean(&self, kept: &[usize], taught: &Taught, batches: usize) -> Result<f64, PruneError> {
        let model = self.shortened.model(kept)?;
        let (mut sum, mut tokens) = (0.0, 0);
        let batches = 0..batches.min(taught.len());
        for report in self.teacher.losses(&model, taught, batches).map_err(QuantError::from)? {
            sum += report.tokens.iter().map(|t| t.loss).sum::<f64>();
            tokens += report.tokens.len();
        }
        Ok(sum / tokens.max(1) as f64)
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
        let (taught, batches) = match split {
            Split::HeldOut => (&self.teacher.heldout, self.teacher.heldout.len()),
            _ => (&self.teacher.calibration, self.measured),
        };
        let kept = kept(self.shortened.blocks, plan);
        self.mean(&kept, taught, batches).map_err(|error| ObjectiveError {
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
