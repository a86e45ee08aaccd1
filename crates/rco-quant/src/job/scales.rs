//! Scales of GGUF blocks, tuned once a plan is chosen ([`crate::scales`]).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rco_core::Assignment;
use rco_model::weights::{BlockScales, WeightSource};
use rco_model::{Model, ModelError, WeightGradient};

use super::Reporter;
use super::open::Job;
use super::stages::{EngineMeasure, Prepared};
use crate::error::QuantError;
use crate::scales::{MatrixScales, Scaled, Tuned, Tuning, TuningOutcome};

/// Times that steps go through the text at most, unless a number of steps is asked for.
const PASSES: u64 = 2;

impl Scaled for BlockScales {
    fn name(&self) -> String {
        BlockScales::name(self).to_owned()
    }

    fn scales(&self) -> usize {
        BlockScales::scales(self)
    }

    fn bits(&self) -> f64 {
        BlockScales::bits(self)
    }

    fn times(&self, factors: &[f32]) -> Result<Arc<dyn WeightSource>, ModelError> {
        Ok(Arc::new(BlockScales::times(self, factors)?))
    }

    fn slopes(
        &self,
        factors: &[f32],
        gradient: &WeightGradient<'_>,
    ) -> Result<Vec<f32>, ModelError> {
        let whole = gradient.group_products(self.block())?;
        if !self.has_offsets() {
            return Ok(whole);
        }
        // What is left of the whole is the offset's.
        let part = self.without_offsets(factors)?;
        let scale = gradient.group_products_of(&part, self.block())?;
        Ok(scale.into_iter().zip(whole).flat_map(|(scale, whole)| [scale, whole - scale]).collect())
    }
}

/// Tensors whose blocks have tuned scales.
#[derive(Debug)]
pub struct TunedBlocks {
    tuned: Tuned,
    /// What the floats of each block are multiplied with, by the names of tensors.
    tensors: HashMap<String, Arc<[f32]>>,
}

impl TunedBlocks {
    /// What was done.
    pub fn outcome(&self) -> &TuningOutcome {
        &self.tuned.outcome
    }

    /// SHA-256 of the scales that are taken; `None` for those that rounding chose.
    pub fn sha256(&self) -> Option<&str> {
        self.tuned.sha256.as_deref()
    }

    /// What the floats of each block of a tensor are multiplied with, if it was tuned and that is
    /// taken.
    pub fn factors(&self, tensor: &str) -> Option<&Arc<[f32]>> {
        self.tensors.get(tensor)
    }

    /// The model with the scales that are taken.
    pub fn model(&self) -> &Model {
        &self.tuned.model
    }
}

impl Job {
    /// Steps of a tuning; none without gradients.
    pub fn tuning_steps(&self, prepared: &Prepared) -> u64 {
        let wanted = self.settings.tuning_steps();
        let most = PASSES.saturating_mul(prepared.windows.len() as u64);
        match prepared.engine() {
            Some(_) => self.settings.tuning.unwrap_or_else(|| wanted.min(most)),
            None => 0,
        }
    }

    /// Fits the scales of a plan's blocks to the loss, or goes on with what is in the run folder;
    /// `None` if there is nothing to do. `before` is the plan's loss on the held-out text, if that
    /// has been measured.
    ///
    /// # Errors
    /// Whatever model and disk meet.
    pub fn tune(
        &self,
        budget: u64,
        prepared: &Prepared,
        plan: &Assignment,
        before: Option<f64>,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<TunedBlocks>, QuantError> {
        let steps = self.tuning_steps(prepared);
        let Some(EngineMeasure { original, candidates, teacher }) =
            prepared.engine().filter(|_| steps > 0)
        else {
            return Ok(None);
        };
        let menu = prepared.groups.menu();
        let weights = candidates.weights(plan)?;
        let (mut scales, mut names) = (Vec::new(), Vec::new());
        for (g, choice) in menu.choices.iter().enumerate() {
            let form = choice.forms[plan.option(g)];
            // What is as it was has no error to make up for, and stays so.
            if form == choice.source() {
                continue;
            }
            for &key in candidates.keys(g) {
                if let Some(blocks) = weights.block_scales(key) {
                    names.push((&choice.tensor.name, menu.named(form).to_string()));
                    scales.push(MatrixScales::new(key, blocks));
                }
            }
        }
        let scales = self.within_memory(scales, reporter);
        if scales.is_empty() {
            return Ok(None);
        }
        let tuning = Tuning {
            original: original.clone(),
            started: candidates.model(plan)?,
            teacher,
            windows: &prepared.windows,
            steps,
            seed: self.settings.seed,
            before,
        };
        let experts = menu.experts.first().map_or(String::new(), |e| format!("-{}", e.len()));
        let path = folder.join(format!("scales-{budget}{experts}.safetensors"));
        let origin = format!("{} {:?} {names:?}", prepared.origin, menu.experts);
        let tuned = tuning.run(&origin, scales, &path, reporter)?;
        // A stack has its experts one after the other.
        let mut tensors: HashMap<String, Vec<f32>> = HashMap::new();
        for ((name, _), factors) in names.iter().zip(&tuned.factors) {
            tensors.entry((*name).clone()).or_default().extend(factors);
        }
        let tensors = tensors.into_iter().map(|(name, factors)| (name, factors.into())).collect();
        Ok(Some(TunedBlocks { tuned, tensors }))
    }

    /// These scales, or none where their tuning takes more memory than there may be.
    fn within_memory(
        &self,
        scales: Vec<MatrixScales>,
        reporter: &mut dyn Reporter,
    ) -> Vec<MatrixScales> {
        let (Some(limit), Some(footprint)) = (self.settings.memory, self.footprint()) else {
            return scales;
        };
        let bytes = scales.iter().fold(0_u64, |sum, matrix| sum.saturating_add(matrix.memory()));
        let needed = bytes.saturating_add(footprint.peak());
        if needed <= limit {
            return scales;
        }
        reporter.note(&format!(
            "scales stay as rounding chose them: with them tuned a gradient takes {needed} bytes, \
             and {limit} are allowed (--memory)"
        ));
        Vec::new()
    }
}
