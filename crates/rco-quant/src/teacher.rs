//! The original model's states on the texts: with its output matrix they hold all of its
//! logits in a fraction of the space.

use rco_model::head::{Head, Hidden, LossReport, Target};
use rco_model::{Batch, GradientVisitor, Model, ModelError};

use crate::error::QuantError;
use crate::states::StateCache;

/// Some batches of text and what the original model makes of them.
#[derive(Debug)]
pub struct Taught {
    batches: Vec<(Batch, Hidden)>,
}

/// The original model's output matrix and its states on the texts.
#[derive(Debug)]
pub struct Teacher {
    head: Head,
    /// Batches that gradients are taken on.
    pub calibration: Taught,
    /// Batches that only select and report.
    pub heldout: Taught,
}

impl Teacher {
    /// Runs the original model on all batches that are not in `cache` yet; `progress` is
    /// told how many are done.
    ///
    /// # Errors
    /// Whatever model and cache meet.
    pub fn new(
        model: &Model,
        calibration: Vec<Batch>,
        heldout: Vec<Batch>,
        cache: &mut StateCache,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, QuantError> {
        let count = calibration.len();
        let batches = calibration.into_iter().chain(heldout).collect();
        let mut taught = Taught::cached(model, batches, cache, progress)?.batches;
        let heldout = Taught { batches: taught.split_off(count) };
        Ok(Self { head: model.head()?, calibration: Taught { batches: taught }, heldout })
    }

    /// KL of `model` on a batch.
    ///
    /// # Errors
    /// Whatever the model meets.
    pub fn loss(&self, model: &Model, taught: &Taught, n: usize) -> Result<LossReport, ModelError> {
        let (batch, hidden) = &taught.batches[n];
        model.loss(batch, Target::Teacher { head: &self.head, hidden })
    }

    /// KL of `model` on some batches, which go through it together.
    ///
    /// # Errors
    /// Whatever the model meets.
    pub fn losses(
        &self,
        model: &Model,
        taught: &Taught,
        batches: impl IntoIterator<Item = usize>,
    ) -> Result<Vec<LossReport>, ModelError> {
        kl(&self.head, model, taught, batches)
    }

    /// Mean KL of a token of some batches.
    ///
    /// # Errors
    /// Whatever the model meets.
    pub fn mean(
        &self,
        model: &Model,
        taught: &Taught,
        batches: impl IntoIterator<Item = usize>,
    ) -> Result<f64, ModelError> {
        let (mut sum, mut tokens) = (0.0, 0);
        for report in self.losses(model, taught, batches)? {
            sum += report.tokens.iter().map(|t| t.loss).sum::<f64>();
            tokens += report.tokens.len();
        }
        Ok(sum / tokens.max(1) as f64)
    }

    /// KL of `model` on a batch, and its gradient.
    ///
    /// # Errors
    /// Whatever the model or the visitor meets.
    pub fn gradient(
        &self,
        model: &Model,
        taught: &Taught,
        n: usize,
        visitor: &mut dyn GradientVisitor,
    ) -> Result<LossReport, ModelError> {
        let (batch, hidden) = &taught.batches[n];
        model.gradient(batch, Target::Teacher { head: &self.head, hidden }, visitor)
    }

    /// KL of `model` on a batch that `original` has yet to read, and its gradient.
    ///
    /// # Errors
    /// Whatever the models or the visitor meet.
    pub fn gradient_on(
        &self,
        original: &Model,
        model: &Model,
        batch: &Batch,
        visitor: &mut dyn GradientVisitor,
    ) -> Result<LossReport, ModelError> {
        let hidden = &original.hidden(batch)?;
        model.gradient(batch, Target::Teacher { head: &self.head, hidden }, visitor)
    }
}

/// KL of `model` on some batches from the model that has taught them and has this output
/// matrix.
///
/// # Errors
/// Whatever the model meets.
pub fn kl(
    head: &Head,
    model: &Model,
    taught: &Taught,
    batches: impl IntoIterator<Item = usize>,
) -> Result<Vec<LossReport>, ModelError> {
    let batches = batches.into_iter().map(|n| &taught.batches[n]);
    let pairs = batches.map(|(batch, hidden)| (batch, Target::Teacher { head, hidden }));
    model.losses(&pairs.collect::<Vec<_>>())
}

/// Batches of which the original's states are computed together, and kept at once.
const TAUGHT_TOGETHER: usize = 8;

impl Taught {
    /// What the original model makes of batches; those in `cache` are read, the others
    /// added to it. `progress` is told how many are done.
    ///
    /// # Errors
    /// Whatever model and cache meet.
    pub fn cached(
        model: &Model,
        batches: Vec<Batch>,
        cache: &mut StateCache,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, QuantError> {
        let mut out = Vec::with_capacity(batches.len());
        let mut left = batches.into_iter();
        while out.len() < cache.len()
            && let Some(batch) = left.next()
        {
            let hidden = Hidden::from_values(cache.read(out.len())?, model.config().hidden)?;
            out.push((batch, hidden));
            progress(out.len());
        }
        loop {
            let batches: Vec<Batch> = left.by_ref().take(TAUGHT_TOGETHER).collect();
            if batches.is_empty() {
                break;
            }
            let states = model.hidden_of_each(&batches.iter().collect::<Vec<_>>())?;
            for (batch, hidden) in batches.into_iter().zip(states) {
                cache.push(&hidden.values()?)?;
                out.push((batch, hidden));
            }
            progress(out.len());
        }
        Ok(Self { batches: out })
    }

    /// What the original model makes of batches.
    ///
    /// # Errors
    /// Whatever the model meets.
    pub fn new(model: &Model, batches: Vec<Batch>) -> Result<Self, ModelError> {
        let states = model.hidden_of_each(&batches.iter().collect::<Vec<_>>())?;
        Ok(Self { batches: batches.into_iter().zip(states).collect() })
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// A batch.
    pub fn batch(&self, n: usize) -> &Batch {
        &self.batches[n].0
    }
}
