//! All that comes before the search, over the run folder. Each stage leaves what it made
//! there; a job that was killed finds it and goes on.

use std::path::Path;
use std::sync::Arc;

use rco_core::Assignment;
use rco_core::search::Objective;
use rco_formats::imatrix::Imatrix;
use rco_model::Model;
use serde::Serialize;

use super::Reporter;
use super::open::{Engine, Job};
use super::texts::Texts;
use crate::database::{OptionDatabase, Origin};
use crate::effort::WorkPlan;
use crate::error::QuantError;
use crate::fisher;
use crate::groups::Groups;
use crate::hash::sha256;
use crate::menu::Menu;
use crate::objective::{Candidates, PlanLoss};
use crate::output::Provenance;
use crate::rules;
use crate::runtime_loss::{RuntimeLoss, RuntimeTexts};
use crate::samples::SampleFile;
use crate::states::StateCache;
use crate::teacher::Teacher;
use crate::tensor::check_finite;

/// A file whose tensors are options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OptionsFile {
    /// Its name in plans.
    pub name: String,
    /// SHA-256 of it.
    pub sha256: String,
}

/// Everything that the search for a plan needs, whatever the budget.
#[derive(Debug)]
pub struct Prepared {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// The options files.
    pub options: Vec<OptionsFile>,
    /// The importance matrix; `None` if none was given and no engine could make one.
    pub importance: Option<Imatrix>,
    /// Every tensor in every type.
    pub database: OptionDatabase,
    /// The menu and its costs.
    pub groups: Groups,
    /// What measures plans.
    pub measure: Measure,
    /// Scores of all options in the flat order: from the Fisher matrix, or without gradients
    /// the errors of the weights.
    pub scores: Vec<f64>,
    /// What all of this was made from.
    pub origin: String,
    /// Windows that scales are tuned on: all but those that only choose and report.
    pub windows: Vec<Vec<u32>>,
    /// The beginning of a held-out text.
    pub prompt: String,
    /// Versions with fewer experts, those with most first; none unless they were asked for.
    pub smaller: Vec<Prepared>,
}

/// What measures plans.
#[derive(Debug)]
pub enum Measure {
    /// Our engine.
    Engine(Box<EngineMeasure>),
    /// llama.cpp, for models that the engine cannot run.
    Runtime(RuntimeTexts),
}

/// The model in our engine.
#[derive(Debug)]
pub struct EngineMeasure {
    /// The original.
    pub original: Model,
    /// The model in every form.
    pub candidates: Candidates,
    /// The original on the texts.
    pub teacher: Arc<Teacher>,
}

impl Job {
    /// All that comes before the search: texts, importance, options, the original's states,
    /// sensitivities.
    ///
    /// # Errors
    /// Whatever any of the stages meets.
    pub fn prepare(
        &self,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Prepared, QuantError> {
        let work = self.settings.effort.plan();
        reporter.stage("reading the model", None);
        let (source_sha256, foreign_sha256) = self.hashes()?.clone();
        check_finite(&self.model)?;
        reporter.stage("preparing text", None);
        let texts = Texts::new(self, &work, folder, reporter)?;
        let importance = self.importance(&texts, folder, reporter)?;
        let importance_sha256 = importance.as_ref().map_or_else(String::new, importance_sha256);

        let menu = self.covered_menu(importance.as_ref())?;
        reporter.stage("encoding options", Some(menu.work()));
        let origin = Origin { source: &source_sha256, importance: &importance_sha256 };
        let foreign: Vec<_> =
            self.foreign.iter().cloned().zip(foreign_sha256.iter().cloned()).collect();
        let database = OptionDatabase::build(
            &self.model,
            &menu,
            importance.as_ref(),
            &foreign,
            origin,
            &folder.join("options"),
            &mut |done, _, what| reporter.advance(done, what),
        )?;
        let mut menu = database.without_dominated(&menu, &self.ties);
        rules::align(&mut menu, &self.ties)?;

        let groups = self.groups_of(&menu, &self.model, Vec::new())?;
        let mut origin = format!("{source_sha256} {importance_sha256} {}", texts.sha256());
        for sha256 in &foreign_sha256 {
            origin.push(' ');
            origin.push_str(sha256);
        }
        let (measure, scores) = if let Some(engine) = &self.engine {
            let inputs = Inputs { groups: &groups, database: &database, texts: &texts };
            let by = format!("{source_sha256} {} {}", texts.sha256(), work.per_gradient);
            let measure = self.engine_measure(engine, &inputs, &by, folder, reporter)?;
            let samples = folder.join("fisher.jsonl");
            let scores = self.scores(&measure.candidates, &inputs, &origin, &samples, reporter)?;
            (Measure::Engine(Box::new(measure)), scores)
        } else {
            let texts = RuntimeTexts {
                source: self.settings.model.clone(),
                calibration: texts.calibration.clone(),
                measured: work.measured,
                heldout: texts.heldout.clone(),
                threads: self.settings.threads,
                folder: folder.to_owned(),
            };
            (Measure::Runtime(texts), database.distortions(groups.menu()))
        };
        let prompt = texts.prompt.clone();
        let options = self.foreign.iter().zip(foreign_sha256);
        let options =
            options.map(|(f, sha256)| OptionsFile { name: f.name.clone(), sha256 }).collect();
        let mut prepared = Prepared {
            source_sha256,
            options,
            importance,
            database,
            groups,
            measure,
            scores,
            origin,
            windows: texts.all(),
            prompt,
            smaller: Vec::new(),
        };
        if self.settings.drop_experts {
            prepared.smaller = self.versions(&prepared, &texts, folder, reporter)?;
        }
        Ok(prepared)
    }

    pub(super) fn provenance(&self, budget: u64) -> Provenance {
        Provenance { budget, seed: self.settings.seed }
    }

    /// The original in the engine, and every option.
    fn engine_measure(
        &self,
        engine: &Engine,
        inputs: &Inputs<'_>,
        taught_by: &str,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<EngineMeasure, QuantError> {
        let candidates = Candidates::new(
            Arc::clone(&engine.config),
            engine.weights.clone(),
            inputs.groups,
            inputs.database.clone(),
            engine.settings,
        )?;
        let (calibration, heldout) = inputs.texts.batches(&self.settings.effort.plan())?;
        reporter.stage("original model", Some((calibration.len() + heldout.len()) as u64));
        let original = candidates.original()?;
        let mut advance = |done: usize| reporter.advance(done as u64, "");
        let mut cache = StateCache::open(&folder.join("teacher"), taught_by)?;
        let teacher = Teacher::new(&original, calibration, heldout, &mut cache, &mut advance)?;
        Ok(EngineMeasure { original, candidates, teacher: Arc::new(teacher) })
    }

    /// The menu without types that need more importance than there is.
    fn covered_menu(&self, importance: Option<&Imatrix>) -> Result<Menu, QuantError> {
        let mut menu = Menu::new(&self.model, &self.settings.filter, importance, &self.foreign)?;
        rules::pin(&mut menu, &self.settings.pins)?;
        rules::align(&mut menu, &self.ties)?;
        Ok(menu)
    }

    /// Scores of all options; samples that were taken before are read.
    pub(super) fn scores(
        &self,
        candidates: &Candidates,
        inputs: &Inputs<'_>,
        origin: &str,
        path: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<f64>, QuantError> {
        let Inputs { groups, texts, .. } = inputs;
        let work = self.settings.effort.plan();
        reporter.stage("sensitivities", Some(work.fisher));
        let count = candidates.option_count();
        let origin = sha256(format!("{origin} {:?}", groups.menu()).as_bytes());
        let mut file = SampleFile::open(path, &origin, count)?;
        for index in file.samples().len() as u64..work.fisher {
            reporter.advance(index, "");
            let batch = texts.window(index as usize % texts.calibration.len())?;
            file.push(fisher::sample(candidates, &batch, self.settings.seed, index)?)?;
        }
        let samples = &file.samples()[..work.fisher as usize];
        Ok(fisher::scores(
            samples,
            &inputs.database.distortions(groups.menu()),
            candidates.offsets(),
        ))
    }
}

/// What measures of plans are made from.
pub(super) struct Inputs<'a> {
    pub(super) groups: &'a Groups,
    pub(super) database: &'a OptionDatabase,
    pub(super) texts: &'a Texts,
}

impl Prepared {
    /// The model as it is, and its versions with fewer experts.
    pub fn versions(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.smaller)
    }

    /// The model as it is for 0, or a version with fewer experts.
    pub fn version(&self, number: usize) -> &Self {
        number.checked_sub(1).and_then(|n| self.smaller.get(n)).unwrap_or(self)
    }

    /// The loss of plans, as the search for a budget is to see it.
    pub fn loss(
        &self,
        work: &WorkPlan,
        provenance: Provenance,
        known: Vec<(String, Assignment)>,
    ) -> Box<dyn Objective + '_> {
        let Self { groups, database, scores, origin, .. } = self;
        let scores = scores.clone();
        match &self.measure {
            Measure::Engine(engine) => {
                let EngineMeasure { candidates, teacher, .. } = &**engine;
                let (measured, seed) = (work.measured_batches(), provenance.seed);
                let half = scores.clone();
                let loss =
                    PlanLoss::new(candidates, teacher, measured, seed, scores, known, origin);
                Box::new(loss.with_curvature(half))
            }
            Measure::Runtime(texts) => {
                let loss =
                    RuntimeLoss::new(groups, database, provenance, texts, scores, known, origin);
                Box::new(loss)
            }
        }
    }

    /// The model in our engine; `None` without gradients.
    pub fn engine(&self) -> Option<&EngineMeasure> {
        match &self.measure {
            Measure::Engine(engine) => Some(engine),
            Measure::Runtime(_) => None,
        }
    }
}

/// SHA-256 of what an importance matrix says.
fn importance_sha256(importance: &Imatrix) -> String {
    let mut bytes = Vec::new();
    for entry in importance.entries() {
        bytes.extend_from_slice(entry.name.as_bytes());
        for value in entry.mean_squares() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    sha256(&bytes)
}
