//! From options to plans, and from plans to files.

use std::path::{Path, PathBuf};

use rco_core::Assignment;
use rco_core::search::SearchOutcome;
use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::GgufModel;
use serde::Serialize;

use super::Reporter;
use super::experts::VersionTried;
use super::open::Job;
use super::scales::TunedBlocks;
use super::stages::{EngineMeasure, Measure, OptionsFile, Prepared};
use crate::error::QuantError;
use crate::groups::Groups;
use crate::known;
use crate::menu::NamedForm;
use crate::output::{PlanFile, existing, plan_sha256};
use crate::scales::TuningOutcome;
use crate::search_folder::search_in;
use crate::verify::{Verified, check_file, verify, verify_in_runtime};

/// The plan of an order.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The version that it is for: 0 has all experts, others are in the order of
    /// [`Prepared::smaller`].
    pub version: usize,
    /// An assignment of the groups of that version.
    pub plan: Assignment,
    /// The search that found it; `None` for a plan that was read.
    pub search: Option<SearchOutcome>,
    /// Numbers of experts that were tried; empty if none could be dropped.
    pub tried: Vec<VersionTried>,
}

/// What a job has made.
#[derive(Debug, Clone, Serialize)]
pub struct JobOutcome {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// Bytes of the source.
    pub source_bytes: u64,
    /// The options files.
    pub options: Vec<OptionsFile>,
    /// The files, in the order of the orders.
    pub files: Vec<FileOutcome>,
}

/// A file that was made, or that a plan was made for.
#[derive(Debug, Clone, Serialize)]
pub struct FileOutcome {
    /// The file; `None` if only its plan was made.
    pub path: Option<PathBuf>,
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
    /// Form of every tensor that was decided on.
    pub plan: Vec<(String, NamedForm)>,
    /// Experts that remain in each block that has some; empty if none was dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub experts: Vec<Vec<usize>>,
    /// Numbers of experts that were tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<VersionTried>,
    /// The search; `None` for a plan that was read.
    pub search: Option<SearchOutcome>,
    /// How its scales were tuned, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuning: Option<TuningOutcome>,
    /// The file in the runtime.
    pub verified: Option<Verified>,
}

impl Job {
    /// Searches a plan for every order.
    ///
    /// # Errors
    /// Whatever the searches meet.
    pub fn search(
        &self,
        prepared: &Prepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Planned>, QuantError> {
        let budgets = self.budgets.iter();
        budgets.map(|&budget| self.search_one(budget, prepared, folder, reporter)).collect()
    }

    fn search_one(
        &self,
        budget: u64,
        prepared: &Prepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Planned, QuantError> {
        if prepared.smaller.is_empty() {
            return self.search_version(budget, prepared, 0, folder, reporter);
        }
        let (versions, mut tried) = self.promising(budget, prepared, reporter)?;
        let mut best: Option<Planned> = None;
        for version in versions {
            let found = self.search_version(budget, prepared, version, folder, reporter)?;
            let loss = |p: &Planned| p.search.as_ref().map_or(f64::INFINITY, |s| s.loss_heldout);
            if let Some(tried) = tried.iter_mut().find(|t| t.version == version) {
                tried.searched = Some(loss(&found));
            }
            best = best.filter(|best| loss(best) <= loss(&found)).or(Some(found));
        }
        let best = best.ok_or(QuantError::NothingToChoose)?;
        Ok(Planned { tried, ..best })
    }

    /// Searches the types of a version.
    fn search_version(
        &self,
        budget: u64,
        prepared: &Prepared,
        version: usize,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Planned, QuantError> {
        let prepared = prepared.version(version);
        let Prepared { groups, database, .. } = prepared;
        let work = self.settings.effort.plan();
        reporter.stage("known recipes", None);
        let (source, importance) = (&self.settings.model, prepared.importance.as_ref());
        let known = known::plans(groups, source, importance, database.foreign(), budget)?;
        let name = match groups.menu().experts.first() {
            None => format!("search-{budget}"),
            Some(kept) => format!("search-{budget}-experts-{}", kept.len()),
        };
        let run = folder.join(name);
        let settings = match prepared.measure {
            Measure::Engine(_) => work.search(self.settings.seed),
            Measure::Runtime(_) => work.search_without_gradients(self.settings.seed),
        };
        let problem = groups.problem(budget, &self.ties)?;
        let mut loss = prepared.loss(&work, self.provenance(budget), known);
        let outcome = search_in(&run, &problem, &mut *loss, settings, reporter)?;
        let plan = outcome.assignment.clone();
        Ok(Planned { version, plan, search: Some(outcome), tried: Vec::new() })
    }

    /// Tunes the scales of every plan, writes its file and checks it.
    ///
    /// # Errors
    /// A plan above its budget, and whatever tuning, writing and checking meet.
    pub fn build(
        &self,
        prepared: &Prepared,
        plans: &[Planned],
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<JobOutcome, QuantError> {
        let mut outcome = self.outcome(prepared, plans)?;
        for (n, (planned, file)) in plans.iter().zip(&mut outcome.files).enumerate() {
            let path = self.settings.orders[n].output.clone();
            let version = prepared.version(planned.version);
            let Planned { plan, search, .. } = planned;
            let before = search.as_ref().map(|search| search.loss_heldout);
            let tuned = self.tune(file.budget, version, plan, before, folder, reporter)?;
            if let Some(tuned) = &tuned {
                let (menu, forms) = (version.groups.menu(), version.groups.forms(plan));
                file.plan_sha256 = plan_sha256(menu, &forms, tuned.sha256());
                file.tuning = Some(tuned.outcome().clone());
            }
            let tuned = tuned.as_ref();
            let (path, verified) = self.build_one(&path, file, version, plan, tuned, reporter)?;
            (file.path, file.verified) = (Some(path), verified);
        }
        Ok(outcome)
    }

    fn build_one(
        &self,
        path: &Path,
        file: &FileOutcome,
        prepared: &Prepared,
        plan: &Assignment,
        tuned: Option<&TunedBlocks>,
        reporter: &mut dyn Reporter,
    ) -> Result<(PathBuf, Option<Verified>), QuantError> {
        let Prepared { database, groups, prompt, .. } = prepared;
        let forms = groups.forms(plan);
        reporter.stage("writing", None);
        // A run that was killed after this point finds its file there, and writes it again:
        // the same plan may have been one for another model.
        let there = existing(path, self.settings.split.is_some());
        let there = there.and_then(|there| written_plan(&there));
        let own = there.is_some_and(|found| found == file.plan_sha256);
        let options = WriteOptions { force: self.settings.force || own };
        let provenance = self.provenance(file.budget);
        let planned = PlanFile { groups, database, forms: &forms, provenance, tuned };
        let path = if let Some(part) = self.settings.split {
            planned.write_split(path, part, options)?.0
        } else {
            planned.write(path, options)?;
            path.to_owned()
        };
        check_file(&path, groups, &forms, file.bytes)?;
        if !self.settings.verify {
            return Ok((path, None));
        }
        reporter.stage("checking in llama.cpp", None);
        let (source, threads) = (&self.settings.model, self.settings.threads);
        let windows = self.settings.effort.plan().verified;
        let verified = match &prepared.measure {
            Measure::Engine(engine) => {
                let EngineMeasure { original, candidates, teacher } = &**engine;
                let model = match tuned {
                    Some(tuned) => tuned.model().clone(),
                    None => candidates.model(plan)?,
                };
                verify(source, &path, original, &model, teacher, windows, threads, prompt)?
            }
            Measure::Runtime(texts) => {
                let windows = texts.heldout.iter().take(windows).map(Vec::as_slice);
                verify_in_runtime(source, &path, windows, threads, prompt)?
            }
        };
        Ok((path, Some(verified)))
    }

    /// What the plans of all orders are, without files.
    ///
    /// # Errors
    /// [`QuantError::PlanTooLarge`].
    pub fn outcome(
        &self,
        prepared: &Prepared,
        plans: &[Planned],
    ) -> Result<JobOutcome, QuantError> {
        let mut files = Vec::with_capacity(plans.len());
        for (&budget, planned) in self.budgets.iter().zip(plans) {
            let Planned { version, plan, search, tried } = planned;
            let prepared = prepared.version(*version);
            let groups = &prepared.groups;
            let forms = groups.forms(plan);
            let bytes = match self.settings.split {
                None => groups.bytes(plan),
                Some(part) => {
                    let (database, provenance) = (&prepared.database, self.provenance(budget));
                    let forms = &forms;
                    PlanFile { groups, database, forms, provenance, tuned: None }
                        .split_bytes(part)?
                }
            };
            let slack =
                budget.checked_sub(bytes).ok_or(QuantError::PlanTooLarge { budget, bytes })?;
            let menu = groups.menu();
            let names = menu.choices.iter().map(|c| c.tensor.name.clone());
            files.push(FileOutcome {
                path: None,
                budget,
                bytes,
                slack,
                next_step: next_step(groups, plan),
                plan_sha256: plan_sha256(menu, &forms, None),
                plan: names.zip(forms.iter().map(|&form| menu.named(form))).collect(),
                experts: menu.experts.clone(),
                tried: tried.clone(),
                search: search.clone(),
                tuning: None,
                verified: None,
            });
        }
        Ok(JobOutcome {
            source_sha256: prepared.source_sha256.clone(),
            source_bytes: self.model.file_size(),
            options: prepared.options.clone(),
            files,
        })
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
        (0..choice.forms.len())
            .map(move |k| groups.cost(g, k))
            .filter_map(move |c| c.checked_sub(now).filter(|&step| step > 0))
    });
    steps.min()
}
