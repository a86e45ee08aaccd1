//! `rco prune` against rankings, evolution, and all masks there are.
//!
//! All plans keep exactly the same number of experts and see the same calibration text; all are
//! measured by the same engine on the same windows of texts that none of them has seen.

mod domains;
mod enumerate;

pub use domains::{DomainRow, domains};
pub use enumerate::{EnumerationRow, enumerate};

use std::path::PathBuf;
use std::time::Instant;

use rco_core::Assignment;
use rco_core::search::{
    Control, MethodName, Observer, PolishSettings, PolishWhen, SearchOutcome, SearchSettings,
    StepEvent, search,
};
use rco_model::eval::{Comparison, Estimate};
use rco_model::text::{Corpus, Side, TextSettings};
use rco_model::{Batch, FlipForm, Model};
use rco_quant::QuantError;
use rco_quant::prune::HELD_OUT;
use rco_quant::prune::rankings::{plans, rankings};
use rco_quant::prune::reference::Reference;
use rco_quant::prune::{Amount, ExpertBudget, PruneError, PruneJob, PruneLoss, PrunePrepared};
use rco_quant::teacher::{Taught, kl};
use serde::Serialize;

use crate::error::BenchError;

/// What is measured.
#[derive(Debug, Clone)]
pub struct PruneBench {
    /// Shares of the experts to drop.
    pub amounts: Vec<Amount>,
    /// The same number in each block.
    pub per_layer: bool,
    /// Texts that the plans are reported on.
    pub heldout: Vec<PathBuf>,
    /// Windows of each.
    pub windows: usize,
    /// Seeds of random plans.
    pub random: u64,
    /// Evaluations of the evolutionary search at most, as a multiple of those of the full one;
    /// 0 leaves it out.
    pub evolution: u64,
    /// Whether searches with other forms of gradients run besides.
    pub forms: bool,
}

/// One plan on one text.
#[derive(Debug, Clone, Serialize)]
pub struct PruneRow {
    /// Share asked for.
    pub share: String,
    /// `all` or `per layer`.
    pub budget: &'static str,
    /// Experts that go.
    pub dropped: u64,
    /// How the plan was made.
    pub contender: String,
    /// Mean KL on the calibration text.
    pub calibration: f64,
    /// Evaluations of the search: gradients and losses on the calibration text.
    pub evaluations: u64,
    /// Of these, gradients.
    pub gradients: u64,
    /// Evaluations after which its best plan was as good as that of `rco prune` on the
    /// calibration text; empty if never, and for plans that no search made.
    pub equal_after: Option<u64>,
    /// Seconds of the search alone.
    pub seconds: f64,
    /// The text.
    pub text: String,
    /// Mean KL from the original in nats.
    pub kl: f64,
    /// Its standard error.
    pub error: f64,
}

/// A text and what the original makes of it.
struct Judge {
    name: String,
    taught: Taught,
}

/// Notes when a search has found a plan as good as `target`.
struct Reached {
    target: f64,
    after: Option<u64>,
}

impl Observer for Reached {
    fn on_step(&mut self, event: &StepEvent) -> std::io::Result<Control> {
        if self.after.is_none() && event.best.is_some_and(|best| best <= self.target) {
            self.after = Some(event.evaluations);
            return Ok(Control::Finish);
        }
        Ok(Control::Continue)
    }
}

/// Notes how good the best plan was after how many evaluations.
#[derive(Default)]
struct Progress(Vec<(u64, f64)>);

impl Progress {
    /// Evaluations after which a plan as good as `target` was there.
    fn reached(&self, target: Option<f64>) -> Option<u64> {
        let target = target?;
        self.0.iter().find(|(_, best)| *best <= target).map(|(evaluations, _)| *evaluations)
    }
}

impl Observer for Progress {
    fn on_step(&mut self, event: &StepEvent) -> std::io::Result<Control> {
        if let Some(best) = event.best
            && self.0.last().is_none_or(|(_, last)| best < *last)
        {
            self.0.push((event.evaluations, best));
        }
        Ok(Control::Continue)
    }
}

/// Runs all contenders; `report` sees every row as it comes.
///
/// # Errors
/// Whatever any of them meets.
pub fn run(
    job: &PruneJob,
    prepared: &PrunePrepared,
    settings: &PruneBench,
    report: &mut dyn FnMut(&PruneRow),
) -> Result<Vec<PruneRow>, BenchError> {
    let judges = judges(job, prepared, settings)?;
    let mut bench = Bench { job, prepared, settings, judges, rows: Vec::new(), report };
    for &amount in &settings.amounts {
        let budget = ExpertBudget::new(job.map(), amount, settings.per_layer, None)?;
        bench.contenders(amount, &budget)?;
    }
    Ok(bench.rows)
}

fn judges(
    job: &PruneJob,
    prepared: &PrunePrepared,
    settings: &PruneBench,
) -> Result<Vec<Judge>, BenchError> {
    let tokenizer = job.source().tokenizer()?;
    let mut out = vec![same_text(job, prepared, settings)?];
    let text = TextSettings { seed: 0, held_out: 0.5, window: job.window() };
    for path in &settings.heldout {
        // Both halves are held out: no contender sees this file.
        let mut corpus = Corpus::new(text).map_err(QuantError::from)?;
        corpus.add_file(path).map_err(QuantError::from)?;
        let windows = corpus
            .windows(&*tokenizer, Side::HeldOut, settings.windows)
            .map_err(QuantError::from)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let tokens: Vec<Vec<u32>> = windows.into_iter().map(|w| w.tokens).collect();
        out.push(judge(name, &tokens, prepared)?);
    }
    Ok(out)
}

/// Held-out windows of the calibration texts that come after those of the final choice.
fn same_text(
    job: &PruneJob,
    prepared: &PrunePrepared,
    settings: &PruneBench,
) -> Result<Judge, BenchError> {
    let tokenizer = job.source().tokenizer()?;
    let (seed, window) = (job.settings().common.seed, job.window());
    let text = TextSettings { seed, held_out: HELD_OUT, window };
    let mut corpus = Corpus::new(text).map_err(QuantError::from)?;
    for path in &job.settings().common.text.files {
        corpus.add_file(path).map_err(QuantError::from)?;
    }
    let used = job.work().heldout;
    let windows = corpus
        .windows(&*tokenizer, Side::HeldOut, used + settings.windows)
        .map_err(QuantError::from)?;
    let tokens: Vec<Vec<u32>> = windows.into_iter().skip(used).map(|w| w.tokens).collect();
    judge("same text".to_owned(), &tokens, prepared)
}

fn judge(name: String, tokens: &[Vec<u32>], prepared: &PrunePrepared) -> Result<Judge, BenchError> {
    let batches = tokens.chunks(8).map(Batch::new).collect::<Result<_, _>>();
    let batches = batches.map_err(QuantError::from)?;
    let taught = Taught::new(&prepared.reference.original, batches).map_err(QuantError::from)?;
    Ok(Judge { name, taught })
}

struct Bench<'a> {
    job: &'a PruneJob,
    prepared: &'a PrunePrepared,
    settings: &'a PruneBench,
    judges: Vec<Judge>,
    rows: Vec<PruneRow>,
    report: &'a mut dyn FnMut(&PruneRow),
}

impl Bench<'_> {
    fn contenders(&mut self, amount: Amount, budget: &ExpertBudget) -> Result<(), BenchError> {
        let map = self.job.map();
        let seed = self.job.settings().common.seed;
        let ranked = rankings(&self.prepared.uses, seed);
        let known = plans(map, budget, &ranked);
        for (name, plan) in known.iter().filter(|(name, _)| name != "random") {
            self.judge(amount, budget, name, plan, None)?;
        }
        for seed in 0..self.settings.random {
            let ranked = rankings(&self.prepared.uses, seed);
            if let Some((_, plan)) = plans(map, budget, &ranked).pop() {
                self.judge(amount, budget, &format!("random {seed}"), &plan, None)?;
            }
        }
        let full = self.job.work().search(seed);
        let one = |method| SearchSettings {
            method,
            polish: PolishSettings { when: PolishWhen::Never, ..full.polish.clone() },
            ..full.clone()
        };
        let proxy = one(MethodName::Proxy);
        self.search(amount, budget, "sensitivities, knapsack", Vec::new(), &proxy, None)?;
        if self.settings.forms {
            // From equal logits: what the gradients by themselves find.
            let mut cold = one(MethodName::Rco);
            cold.warm_start.enabled = false;
            for (name, form, curved) in [
                ("RCO cold, exact changes and sensitivities", FlipForm::Exact, true),
                ("RCO cold, exact changes", FlipForm::Exact, false),
                ("RCO cold, masks not renormalised", FlipForm::Unnormalised, false),
                ("RCO cold, masks renormalised", FlipForm::Renormalised, false),
            ] {
                self.search(amount, budget, name, Vec::new(), &cold, Some((form, curved)))?;
            }
        }
        let ours = self.search(amount, budget, "rco prune", known, &full, None)?;
        if self.settings.evolution > 0 {
            let mut evolution = one(MethodName::Evolution);
            evolution.steps = None;
            let spent = ours.counts.limited();
            evolution.evaluations = Some(self.settings.evolution * spent);
            self.evolution(amount, budget, &evolution, &ours)?;
        }
        Ok(())
    }

    fn loss(&self, known: Vec<(String, Assignment)>) -> PruneLoss<'_> {
        let PrunePrepared { reference, sensitivities, .. } = self.prepared;
        let Reference { original, teacher, origin, aim, .. } = reference;
        PruneLoss::new(original, self.job.map(), teacher, sensitivities, known, origin)
            .with_aim(aim)
    }

    fn search(
        &mut self,
        amount: Amount,
        budget: &ExpertBudget,
        name: &str,
        known: Vec<(String, Assignment)>,
        settings: &SearchSettings,
        form: Option<(FlipForm, bool)>,
    ) -> Result<SearchOutcome, BenchError> {
        let problem = budget.problem(self.job.map())?;
        let mut loss = self.loss(known);
        if let Some((form, curved)) = form {
            loss = loss.with_form(form, curved);
        }
        let begun = Instant::now();
        let mut progress = Progress::default();
        let outcome = search(&problem, &mut loss, settings, &mut progress)?;
        let seconds = begun.elapsed().as_secs_f64();
        let plan = outcome.assignment.clone();
        let after = progress.reached(outcome.loss_calibration);
        self.judge(amount, budget, name, &plan, Some((&outcome, seconds, after)))?;
        Ok(outcome)
    }

    /// Runs until its best plan is as good as ours on the calibration text, or to its limit.
    fn evolution(
        &mut self,
        amount: Amount,
        budget: &ExpertBudget,
        settings: &SearchSettings,
        ours: &SearchOutcome,
    ) -> Result<(), BenchError> {
        let problem = budget.problem(self.job.map())?;
        let mut loss = self.loss(Vec::new());
        let Some(target) = ours.loss_calibration else { return Ok(()) };
        let mut reached = Reached { target, after: None };
        let begun = Instant::now();
        let outcome = search(&problem, &mut loss, settings, &mut reached)?;
        let seconds = begun.elapsed().as_secs_f64();
        let name = format!("evolution, up to {} × evaluations", self.settings.evolution);
        let plan = outcome.assignment.clone();
        self.judge(amount, budget, &name, &plan, Some((&outcome, seconds, reached.after)))
    }

    /// Measures a plan on all texts.
    fn judge(
        &mut self,
        amount: Amount,
        budget: &ExpertBudget,
        contender: &str,
        plan: &Assignment,
        found: Option<(&SearchOutcome, f64, Option<u64>)>,
    ) -> Result<(), BenchError> {
        use rco_core::search::{Objective, Split};
        let mut loss = self.loss(Vec::new());
        let calibration = match found.and_then(|(outcome, ..)| outcome.loss_calibration) {
            Some(known) => known,
            None => loss.loss(plan, Split::Calibration)?,
        };
        let model = loss.model(plan).map_err(QuantError::from)?;
        let counts = found.map(|(outcome, ..)| outcome.counts);
        for judge in &self.judges {
            let kl = mean_kl(self.prepared, &model, &judge.taught)?;
            let row = PruneRow {
                share: amount.to_string(),
                budget: if self.settings.per_layer { "per layer" } else { "all" },
                dropped: self.job.map().total() as u64 - budget.total(),
                contender: contender.to_owned(),
                calibration,
                evaluations: counts.map_or(0, |c| c.limited()),
                gradients: counts.map_or(0, |c| c.gradients),
                equal_after: found.and_then(|(.., after)| after),
                seconds: found.map_or(0.0, |(_, seconds, _)| seconds),
                text: judge.name.clone(),
                kl: kl.value,
                error: kl.error,
            };
            (self.report)(&row);
            self.rows.push(row);
        }
        Ok(())
    }
}

/// Mean KL of a model on batches.
fn mean_kl(
    prepared: &PrunePrepared,
    model: &Model,
    taught: &Taught,
) -> Result<Estimate, BenchError> {
    let head = prepared.reference.original.head().map_err(QuantError::from)?;
    let mut comparison = Comparison::default();
    for report in kl(&head, model, taught, 0..taught.len()).map_err(QuantError::from)? {
        comparison.add(&report);
    }
    let none = Estimate { value: f64::NAN, error: f64::NAN };
    Ok(comparison.summary().map_or(none, |s| s.kl_mean))
}

impl From<PruneError> for BenchError {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Quant(error) => Self::Quant(error),
            other => Self::Prune(Box::new(other)),
        }
    }
}
