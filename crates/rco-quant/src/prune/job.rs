//! From a model and a number of experts to a smaller model that has been read again.

use std::fmt::Write as _;
use std::path::Path;

use rco_core::Assignment;
use rco_core::search::SearchOutcome;
use rco_formats::atomic::WriteOptions;
use rco_model::{ExpertUse, Model};
use serde::Serialize;

use super::amount::Amount;
use super::budget::ExpertBudget;
use super::effort::PruneWork;
use super::error::PruneError;
use super::experts::{DROP, ExpertMap};
use super::folder::FolderPlan;
use super::made::{Made, check_kind};
use super::objective::PruneLoss;
use super::reference::Reference;
use super::settings::CommonSettings;
use super::source::Source;
use super::{fisher, gguf, rankings};
use crate::error::QuantError;
use crate::hash::sha256;
use crate::job::Reporter;
use crate::samples::SampleFile;
use crate::search_folder::search_in;

/// What a job is asked to do.
#[derive(Debug, Clone)]
pub struct PruneSettings {
    /// Model, texts, output, work.
    pub common: CommonSettings,
    /// Experts to drop.
    pub amount: Amount,
    /// The same number in every block.
    pub per_layer: bool,
    /// Fewest that remain in a block.
    pub min_experts: Option<u64>,
    /// Most experts by which one block may have more than another.
    pub max_spread: Option<u64>,
}

/// A job whose inputs have been opened and checked, as far as headers say.
#[derive(Debug)]
pub struct PruneJob {
    pub(super) settings: PruneSettings,
    pub(super) source: Source,
    pub(super) map: ExpertMap,
    pub(super) budget: ExpertBudget,
}

/// Everything that a search needs, whatever the budget.
pub struct PrunePrepared {
    /// The original and the texts.
    pub reference: Reference,
    /// How its experts are used on the calibration text.
    pub uses: Vec<ExpertUse>,
    /// What each expert costs by itself.
    pub sensitivities: Vec<f64>,
    /// What each costs on every protected text by itself.
    pub protected: Vec<(String, Vec<f64>)>,
}

/// Experts that remain in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerKept {
    /// The block.
    pub layer: usize,
    /// Experts it had.
    pub of: usize,
    /// Those that remain, as they were numbered.
    pub kept: Vec<usize>,
}

/// What a job has made.
#[derive(Debug, Clone, Serialize)]
pub struct PruneOutcome {
    /// The model that was written, and how it was found.
    #[serde(flatten)]
    pub made: Made,
    /// Experts that remain, by block.
    pub layers: Vec<LayerKept>,
}

impl PruneJob {
    /// Opens the model and checks that what is asked for can be done.
    ///
    /// # Errors
    /// A model that cannot be read or has no experts, a budget that cannot be met, an output
    /// that cannot hold the plan.
    pub fn open(settings: PruneSettings) -> Result<Self, PruneError> {
        let CommonSettings { model, output, text, .. } = &settings.common;
        text.check()?;
        let source = Source::open(model)?;
        let map = ExpertMap::new(source.config())?;
        let PruneSettings { amount, per_layer, min_experts, .. } = settings;
        let budget = ExpertBudget::new(&map, amount, per_layer, min_experts)?;
        budget.problem(&map)?;
        if let Some(spread) = settings.max_spread {
            budget.spread(spread)?;
        }
        check_kind(&source, output.as_deref())?;
        if source.gguf().is_some() && budget.uniform().is_none() {
            return Err(PruneError::UnevenGguf);
        }
        if source.gguf().is_none() && text.files.is_empty() {
            return Err(PruneError::NoText);
        }
        Ok(Self { settings, source, map, budget })
    }

    /// The settings.
    pub fn settings(&self) -> &PruneSettings {
        &self.settings
    }

    /// The model.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Its experts.
    pub fn map(&self) -> &ExpertMap {
        &self.map
    }

    /// How many remain.
    pub fn budget(&self) -> &ExpertBudget {
        &self.budget
    }

    /// The work of the search.
    pub fn work(&self) -> PruneWork {
        self.settings.common.work
    }

    /// Tokens of a window: what the effort says, the model's context permitting.
    pub fn window(&self) -> usize {
        self.source.window(self.work().window)
    }

    /// Bytes of the output, where they do not depend on the plan.
    pub(super) fn predicted_bytes(&self) -> Result<Option<u64>, PruneError> {
        let (Some(model), Some(kept)) = (self.source.gguf(), self.budget.uniform()) else {
            return Ok(None);
        };
        let kept: Vec<Vec<usize>> =
            self.map.layers().iter().map(|_| (0..kept as usize).collect()).collect();
        let writer = gguf::writer(model, &self.map, &kept, None, self.settings.common.seed)?;
        Ok(Some(writer.file_size()?))
    }

    /// All that comes before the search; what the run folder holds already is not computed
    /// again.
    ///
    /// # Errors
    /// Whatever any of the stages meets.
    pub fn prepare(
        &self,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<PrunePrepared, PruneError> {
        let work = self.work();
        let common = &self.settings.common;
        let reference = Reference::new(&self.source, common, folder, reporter)?;
        let Reference { original, teacher, aim, texts, origin, .. } = &reference;
        let batches = || (0..teacher.calibration.len()).map(|n| teacher.calibration.batch(n));
        let uses = rankings::expert_use(original, &self.map, batches())?;

        let count = batches().len() as u64 * work.fisher;
        reporter.stage("sensitivities", Some(count));
        let of_samples = sha256(format!("{origin} {}", common.seed).as_bytes());
        let mut file =
            SampleFile::open(&folder.join("fisher.jsonl"), &of_samples, self.map.total())?;
        let mut before = 0;
        for index in 0..count {
            reporter.advance(index, "");
            let batch = teacher.calibration.batch(index as usize % teacher.calibration.len());
            // Those of a batch that were kept are taken anew with the rest of it.
            let have = file.samples().len().saturating_sub(before);
            before += batch.sequences();
            if have < batch.sequences() {
                let found = fisher::samples(original, &self.map, batch, common.seed, index)?;
                for sample in found.into_iter().skip(have) {
                    file.push(sample)?;
                }
            }
        }
        let samples = &file.samples()[..before];
        let windows = texts.calibration.len();
        let sensitivities = fisher::sensitivities(samples, aim, windows);
        let protected = (0..aim.domains()).filter(|&d| aim.limit(d).is_some());
        let protected = protected
            .map(|d| (texts.domains[d].clone(), fisher::of_domain(samples, aim, windows, d)));
        let protected = protected.collect();
        Ok(PrunePrepared { reference, uses, sensitivities, protected })
    }

    /// The budget of the search: of the ways to keep to the largest difference between blocks
    /// the one that costs least by the sensitivities.
    fn searched(&self, sensitivities: &[f64]) -> Result<ExpertBudget, PruneError> {
        let Some(spread) = self.settings.max_spread else { return Ok(self.budget.clone()) };
        let cost = |way: &ExpertBudget| {
            let plan = way.by_rank(&self.map, sensitivities);
            let dropped = sensitivities.iter().enumerate().filter(|(g, _)| plan.option(*g) == DROP);
            dropped.map(|(_, score)| score).sum::<f64>()
        };
        let ways = self.budget.spread(spread)?;
        let best = ways.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
        Ok(best.unwrap_or_else(|| self.budget.clone()))
    }

    /// Searches the plan.
    ///
    /// # Errors
    /// Whatever the search meets, or [`PruneError::AboveLimit`].
    pub fn search(
        &self,
        prepared: &PrunePrepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<SearchOutcome, PruneError> {
        let PrunePrepared { reference, uses, sensitivities, protected } = prepared;
        let budget = self.searched(sensitivities)?;
        let rankings = rankings::rankings(uses, self.settings.common.seed);
        let mut known = rankings::plans(&self.map, &budget, &rankings);
        for (text, scores) in protected.iter().filter(|(_, scores)| !scores.is_empty()) {
            known.push((format!("least for {text}"), budget.by_rank(&self.map, scores)));
        }
        let Reference { original, teacher, aim, origin, .. } = reference;
        let loss = PruneLoss::new(original, &self.map, teacher, sensitivities, known, origin);
        let mut loss = loss.with_aim(aim);
        let run = aim.search_folder(folder);
        let settings = self.work().search(self.settings.common.seed);
        let problem = budget.problem(&self.map)?;
        let found = search_in(&run, &problem, &mut loss, settings, reporter)?;
        reference.check_limits(&found, || self.model(original, &found.assignment))?;
        Ok(found)
    }

    fn model(&self, original: &Model, plan: &Assignment) -> Result<Model, PruneError> {
        let dropped = self.map.dropped(original.config(), plan)?;
        Ok(original.clone().without_experts(dropped))
    }

    /// SHA-256 of a plan: of a line `layer expert` for each expert that remains.
    pub fn plan_sha256(&self, plan: &Assignment) -> String {
        let mut text = String::new();
        for l in self.layers(plan) {
            for e in l.kept {
                let _ = writeln!(text, "{} {e}", l.layer);
            }
        }
        sha256(text.as_bytes())
    }

    fn layers(&self, plan: &Assignment) -> Vec<LayerKept> {
        let layers = self.map.layers().iter().zip(self.map.kept(plan));
        layers.map(|(l, kept)| LayerKept { layer: l.layer, of: l.experts, kept }).collect()
    }

    /// Writes the model of a plan, reads it again and scores what was written.
    ///
    /// # Errors
    /// Whatever writing and checking meet.
    pub fn build(
        &self,
        prepared: &PrunePrepared,
        search: SearchOutcome,
        reporter: &mut dyn Reporter,
    ) -> Result<PruneOutcome, PruneError> {
        let plan = search.assignment.clone();
        let (layers, sha256) = (self.layers(&plan), self.plan_sha256(&plan));
        let PrunePrepared { reference, .. } = prepared;
        let write = |path: &Path, options| self.write(path, &plan, &sha256, options);
        let (source, common, sha256) = (&self.source, &self.settings.common, sha256.clone());
        let made = Made::new(source, common, reference, search, sha256, write, reporter)?;
        Ok(PruneOutcome { made, layers })
    }

    /// Writes file or folder; gives its bytes, which are those predicted.
    fn write(
        &self,
        path: &Path,
        plan: &Assignment,
        sha256: &str,
        options: WriteOptions,
    ) -> Result<u64, PruneError> {
        let kept = self.map.kept(plan);
        let (expected, found) = if let Some(model) = self.source.gguf() {
            let seed = self.settings.common.seed;
            let writer = gguf::writer(model, &self.map, &kept, Some(sha256), seed)?;
            gguf::write(&writer, path, options)?;
            let found = std::fs::metadata(path).map_err(QuantError::io(path, "reading"))?.len();
            (self.predicted_bytes()?, found)
        } else if let Some(folder) = self.source.folder() {
            let files = FolderPlan::new(folder, self.source.config(), &self.map, &kept, sha256)?;
            let expected = files.bytes(self.source.path())?;
            (expected, files.write(path, options)?)
        } else {
            (None, 0)
        };
        match expected {
            Some(expected) if expected != found => {
                Err(QuantError::SizeDiffers { path: path.to_owned(), expected, found }.into())
            }
            _ => Ok(found),
        }
    }
}
