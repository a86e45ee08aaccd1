//! The stages of a job over its run folder. Each leaves what it made there; a job that was
//! killed finds it and goes on.

use std::path::Path;
use std::sync::Arc;

use rco_core::Assignment;
use rco_core::search::{CheckpointSettings, Fanout, JsonlHistory, SearchOutcome, search};
use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{GgufModel, TensorType};
use rco_formats::imatrix::Imatrix;
use rco_model::engine::Settings;
use serde::Serialize;

use super::Reporter;
use super::open::Job;
use super::texts::Texts;
use crate::database::{OptionDatabase, Origin};
use crate::effort::WorkPlan;
use crate::error::QuantError;
use crate::fisher;
use crate::groups::Groups;
use crate::hash::{sha256, sha256_file};
use crate::known;
use crate::menu::Menu;
use crate::objective::{Candidates, PlanLoss};
use crate::output::{Provenance, metadata, plan_sha256, tensors, write};
use crate::rules;
use crate::samples::SampleFile;
use crate::states::StateCache;
use crate::teacher::Teacher;
use crate::tensor::check_finite;
use crate::verify::{Verified, check_file, verify};

/// What a job has made.
#[derive(Debug, Clone, Serialize)]
pub struct JobOutcome {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// Bytes of the source.
    pub source_bytes: u64,
    /// The files, in the order of the orders.
    pub files: Vec<FileOutcome>,
}

/// A file that was made.
#[derive(Debug, Clone, Serialize)]
pub struct FileOutcome {
    /// The file.
    pub path: std::path::PathBuf,
    /// Budget in bytes.
    pub budget: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of the budget that are left.
    pub slack: u64,
    /// Fewest bytes that any change of one tensor to a costlier type would take: why the
    /// slack is left. `None` if every tensor has its costliest type.
    pub next_step: Option<u64>,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// Type of every tensor that was decided on.
    pub plan: Vec<(String, TensorType)>,
    /// The search.
    pub search: SearchOutcome,
    /// The file in the runtime.
    pub verified: Option<Verified>,
}

/// Everything that the search for a plan needs, whatever the budget.
#[derive(Debug)]
pub struct Prepared {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// The importance matrix.
    pub importance: Imatrix,
    /// Every tensor in every type.
    pub database: OptionDatabase,
    /// The menu and its costs.
    pub groups: Groups,
    /// The model in every form.
    pub candidates: Candidates,
    /// The original on the texts.
    pub teacher: Teacher,
    /// Scores of all options from the Fisher matrix, in the flat order.
    pub scores: Vec<f64>,
    /// What all of this was made from.
    pub origin: String,
    /// The beginning of a held-out text.
    pub prompt: String,
}

impl Job {
    /// Does the job in a run folder.
    ///
    /// # Errors
    /// Whatever any of the stages meets.
    pub fn run(
        &self,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<JobOutcome, QuantError> {
        let prepared = self.prepare(folder, reporter)?;
        let mut files = Vec::new();
        for n in 0..self.settings.orders.len() {
            files.push(self.fill(n, &prepared, folder, reporter)?);
        }
        let source_bytes = self.model.file_size();
        Ok(JobOutcome { source_sha256: prepared.source_sha256, source_bytes, files })
    }

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
        let source_sha256 = self.source_sha256()?;
        check_finite(&self.model)?;
        reporter.stage("preparing text", None);
        let texts = Texts::new(self, &work, folder, reporter)?;
        let importance = self.importance(&texts, folder, reporter)?;
        let importance_sha256 = importance_sha256(&importance);

        let menu = self.covered_menu(&importance)?;
        let takes = |ty: &TensorType| -> u64 {
            let takes = menu.choices.iter().filter(|c| c.types.contains(ty) && c.tensor.ty != *ty);
            takes.map(|c| c.weights).sum()
        };
        reporter.stage("encoding options", Some(menu.encoded_types().iter().map(takes).sum()));
        let origin = Origin { source: &source_sha256, importance: &importance_sha256 };
        let database = OptionDatabase::build(
            &self.model,
            &menu,
            Some(&importance),
            origin,
            &folder.join("options"),
            &mut |done, _, ty| reporter.advance(done, &ty.to_string()),
        )?;
        let mut menu = database.without_dominated(&menu);
        rules::align(&mut menu, &self.ties)?;

        // The groups of all budgets are alike: the budget is a number in the header.
        let metadata = metadata(&self.model, self.provenance(0))?;
        let groups = Groups::new(menu, &metadata, &tensors(&self.model))?;
        let candidates = Candidates::new(
            Arc::clone(&self.config),
            self.weights.clone(),
            &groups,
            database.clone(),
            Settings::default(),
        )?;

        let (calibration, heldout) = texts.batches(&work)?;
        reporter.stage("original model", Some((calibration.len() + heldout.len()) as u64));
        let original = candidates.original()?;
        let mut advance = |done: usize| reporter.advance(done as u64, "");
        let taught_by = format!("{source_sha256} {} {}", texts.sha256(), work.per_gradient);
        let mut cache = StateCache::open(&folder.join("teacher"), &taught_by)?;
        let teacher = Teacher::new(&original, calibration, heldout, &mut cache, &mut advance)?;
        drop(original);

        reporter.stage("sensitivities", Some(work.fisher));
        let origin = format!("{source_sha256} {importance_sha256} {}", texts.sha256());
        let scores = self.scores(&candidates, &groups, &texts, &work, &origin, folder, reporter)?;
        let prompt = texts.prompt;
        Ok(Prepared {
            source_sha256,
            importance,
            database,
            groups,
            candidates,
            teacher,
            scores,
            origin,
            prompt,
        })
    }

    /// Searches, writes and checks the file of an order.
    fn fill(
        &self,
        n: usize,
        prepared: &Prepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<FileOutcome, QuantError> {
        let (order, budget) = (&self.settings.orders[n], self.budgets[n]);
        let Prepared { database, groups, candidates, teacher, .. } = prepared;
        let work = self.settings.effort.plan();
        reporter.stage("known recipes", None);
        let known = known::plans(groups, &self.settings.model, Some(&prepared.importance), budget)?;
        let run = folder.join(format!("search-{budget}"));
        std::fs::create_dir_all(&run).map_err(QuantError::io(&run, "creating the folder"))?;
        let mut settings = work.search(self.settings.seed);
        settings.checkpoint = Some(CheckpointSettings::new(&run));
        let problem = groups.problem(budget, &self.ties)?;
        let mut loss = prepared.loss(&work, self.settings.seed, known);
        let outcome = {
            let mut history = JsonlHistory::new(run.join("history.jsonl"));
            let mut watching = reporter.observer();
            let mut observers = Fanout(vec![&mut *watching, &mut history]);
            search(&problem, &mut loss, &settings, &mut observers)?
        };
        let plan = &outcome.assignment;
        let types = groups.types(plan);
        reporter.stage("writing", None);
        let bytes = groups.bytes(plan);
        let options = WriteOptions { force: self.settings.force };
        // A run that was killed after this point finds its file there.
        if written_plan(&order.output).as_deref() != Some(&*plan_sha256(groups.menu(), &types)) {
            write(groups, database, &types, self.provenance(budget), &order.output, options)?;
        }
        check_file(&order.output, groups, &types, bytes)?;
        let verified = if self.settings.verify {
            reporter.stage("checking in llama.cpp", None);
            Some(verify(
                &self.settings.model,
                &order.output,
                candidates,
                teacher,
                plan,
                work.verified,
                self.settings.threads,
                &prepared.prompt,
            )?)
        } else {
            None
        };
        let names = groups.menu().choices.iter().map(|c| c.tensor.name.clone());
        Ok(FileOutcome {
            path: order.output.clone(),
            budget,
            bytes,
            slack: budget - bytes,
            next_step: next_step(groups, plan),
            plan_sha256: plan_sha256(groups.menu(), &types),
            plan: names.zip(types).collect(),
            search: outcome,
            verified,
        })
    }

    fn provenance(&self, budget: u64) -> Provenance {
        Provenance { budget, seed: self.settings.seed }
    }

    /// SHA-256 over all parts of the source.
    fn source_sha256(&self) -> Result<String, QuantError> {
        let parts = self.model.parts();
        if let [one] = parts {
            return sha256_file(Path::new(one.name()));
        }
        let hashes = parts.iter().map(|p| sha256_file(Path::new(p.name())));
        Ok(sha256(hashes.collect::<Result<Vec<_>, _>>()?.concat().as_bytes()))
    }

    /// The menu without types that need more importance than there is.
    fn covered_menu(&self, importance: &Imatrix) -> Result<Menu, QuantError> {
        let mut menu = Menu::new(&self.model, &self.settings.filter, Some(importance))?;
        rules::pin(&mut menu, &self.settings.pins)?;
        rules::align(&mut menu, &self.ties)?;
        Ok(menu)
    }

    /// Scores of all options; samples that were taken before are read.
    #[allow(clippy::too_many_arguments, reason = "each is a thing of its own")]
    fn scores(
        &self,
        candidates: &Candidates,
        groups: &Groups,
        texts: &Texts,
        work: &WorkPlan,
        origin: &str,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<f64>, QuantError> {
        let count = candidates.option_count();
        let origin = sha256(format!("{origin} {:?}", groups.menu()).as_bytes());
        let mut file = SampleFile::open(&folder.join("fisher.jsonl"), &origin, count)?;
        for index in file.samples().len() as u64..work.fisher {
            reporter.advance(index, "");
            let batch = texts.window(index as usize % texts.calibration.len())?;
            file.push(fisher::sample(candidates, &batch, self.settings.seed, index)?)?;
        }
        let samples = &file.samples()[..work.fisher as usize];
        Ok(fisher::scores(samples, &candidates.distortions(groups), candidates.offsets()))
    }
}

impl Prepared {
    /// The loss of plans, as the search is to see it.
    pub fn loss(
        &self,
        work: &WorkPlan,
        seed: u64,
        known: Vec<(String, Assignment)>,
    ) -> PlanLoss<'_> {
        let measured = work.measured.div_ceil(work.per_gradient);
        let Self { candidates, teacher, scores, origin, .. } = self;
        PlanLoss::new(candidates, teacher, measured, seed, scores.clone(), known, origin)
            .with_curvature(scores.clone())
    }
}

/// SHA-256 of the plan that a file of ours was made by; `None` for any other file.
pub fn written_plan(path: &Path) -> Option<String> {
    let file = GgufModel::open(path).ok()?;
    file.metadata().str("rco.plan_sha256").map(str::to_owned)
}

/// Fewest bytes by which one tensor can grow.
fn next_step(groups: &Groups, plan: &Assignment) -> Option<u64> {
    let choices = groups.menu().choices.iter().enumerate();
    let steps = choices.flat_map(|(g, choice)| {
        let now = groups.cost(g, plan.option(g));
        (0..choice.types.len())
            .map(move |k| groups.cost(g, k))
            .filter_map(move |c| c.checked_sub(now).filter(|&step| step > 0))
    });
    steps.min()
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
