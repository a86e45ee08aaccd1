//! Plans of one set of options against each other, at equal size, on held-out texts: what the
//! benchmarks of `rco quantize` share, whatever the model is stored in.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rco_core::baselines::{EvolutionSettings, EvolutionStart, ScoreSettings, Selection};
use rco_core::search::{
    Counts, MethodName, PolishSettings, PolishWhen, SearchOutcome, SearchSettings, Silent, search,
};
use rco_core::{Assignment, Problem};
use rco_model::eval::{Comparison, Estimate};
use rco_model::head::Head;
use rco_model::text::{Corpus, Side, TextSettings, Tokenise};
use rco_model::{Batch, Model};
use rco_quant::objective::{PlanLoss, PlanModels};
use rco_quant::teacher::{Taught, Teacher, kl};
use rco_quant::{QuantError, TuningOutcome};
use serde::Serialize;

use crate::error::BenchError;

/// What is measured.
#[derive(Debug, Clone)]
pub struct ContestSettings {
    /// Texts that the plans are reported on, one column each.
    pub heldout: Vec<PathBuf>,
    /// Windows of each.
    pub windows: usize,
    /// Evaluations of the evolutionary search, as a multiple of those of the full search; 0
    /// leaves it out.
    pub evolution: u64,
    /// Steps of RCO without warm start or polish (four samples each); 0 leaves it out.
    pub plain_steps: u64,
    /// Only contenders whose name holds one of these; all if there is none.
    pub only: Vec<String>,
}

/// One plan at one size, on one text.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Budget in bytes; for zeros, in weights.
    pub budget: u64,
    /// How the plan was made.
    pub contender: String,
    /// Bytes of what the budget counts; for zeros, weights that remain.
    pub bytes: u64,
    /// The same in bits for each weight; for zeros, as a share of all weights.
    pub bits: f64,
    /// What is above the budget.
    pub over: u64,
    /// Option gradients that the search took.
    pub gradients: u64,
    /// Losses that it took on single batches of calibration windows.
    pub draws: u64,
    /// Plans that it measured on all calibration windows that measure a plan.
    pub measured: u64,
    /// Seconds of the search alone.
    pub seconds: f64,
    /// Text of the column.
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

/// What all plans are made of.
pub(crate) struct Field<'a> {
    /// The model in all of its forms.
    pub(crate) models: &'a dyn PlanModels,
    /// The original on the calibration texts.
    pub(crate) teacher: &'a Teacher,
    /// Sensitivities of all options.
    pub(crate) scores: &'a [f64],
    /// What all of that was made from.
    pub(crate) origin: &'a str,
    /// The command that is compared.
    pub(crate) command: &'a str,
    /// Batches of the calibration text that a plan is measured on.
    pub(crate) measured: usize,
    /// The full search.
    pub(crate) search: SearchSettings,
    /// Bits of a weight for each unit of the budget.
    pub(crate) per_weight: f64,
}

/// One budget.
pub(crate) struct Course<'a> {
    pub(crate) budget: u64,
    pub(crate) problem: &'a Problem,
    /// Bytes of a plan.
    pub(crate) bytes: &'a dyn Fn(&Assignment) -> u64,
}

/// Runs contenders and measures what they find.
pub(crate) struct Contest<'a> {
    settings: &'a ContestSettings,
    pub(crate) field: Field<'a>,
    head: Head,
    judges: Vec<Judge>,
    rows: Vec<Row>,
    found: Vec<Found>,
    report: &'a mut dyn FnMut(&Row),
}

/// A plan that was found, and the work that it took.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) plan: Assignment,
    pub(crate) counts: Counts,
    pub(crate) seconds: f64,
    /// Its loss on the held-out text, if that was measured.
    pub(crate) before: Option<f64>,
}

/// The folder of a tuning, one for each plan.
pub(crate) fn tuning_folder(run: &Path, plan: &Assignment) -> Result<PathBuf, QuantError> {
    let mut text = String::new();
    for option in plan.choices() {
        let _ = write!(text, "{option} ");
    }
    let name = rco_quant::hash::sha256(text.as_bytes()).chars().take(12).collect::<String>();
    let folder = run.join(format!("tuned-{name}"));
    std::fs::create_dir_all(&folder).map_err(QuantError::io(&folder, "creating the folder"))?;
    Ok(folder)
}

/// What a contender is called whose plan has tuned scales.
fn tuned(name: &str) -> String {
    format!("{name}, scales tuned")
}

/// A contender that searches.
struct Entry<'a> {
    name: &'a str,
    scores: &'a [f64],
    known: Vec<(String, Assignment)>,
    settings: &'a SearchSettings,
    /// Whether gradients are corrected for curvature.
    curved: bool,
}

impl<'a> Entry<'a> {
    fn new(name: &'a str, scores: &'a [f64], settings: &'a SearchSettings, curved: bool) -> Self {
        Self { name, scores, known: Vec::new(), settings, curved }
    }
}

/// Evolution with a few hundred evaluations: more generations of fewer offspring than by default,
/// from the best plan that needs no search.
fn few_evaluations() -> EvolutionSettings {
    EvolutionSettings {
        offspring: 8,
        selection: vec![Selection { survivors: 2, draws: 1 }, Selection { survivors: 1, draws: 4 }],
        start: EvolutionStart::Best,
        ..EvolutionSettings::default()
    }
}

impl<'a> Contest<'a> {
    /// Reads the held-out texts in windows of so many tokens and has the original read them.
    pub(crate) fn new(
        settings: &'a ContestSettings,
        field: Field<'a>,
        original: &Model,
        tokenizer: &dyn Tokenise,
        window: usize,
        report: &'a mut dyn FnMut(&Row),
    ) -> Result<Self, BenchError> {
        let text = TextSettings { seed: 0, held_out: 0.5, window };
        let mut judges = Vec::new();
        for path in &settings.heldout {
            // Both halves are held out: no contender sees this file.
            let mut corpus = Corpus::new(text).map_err(QuantError::from)?;
            corpus.add_file(path).map_err(QuantError::from)?;
            let windows = corpus
                .windows(tokenizer, Side::HeldOut, settings.windows)
                .map_err(QuantError::from)?;
            let batches = windows
                .iter()
                .map(|w| Batch::new(std::slice::from_ref(&w.tokens)))
                .collect::<Result<Vec<_>, _>>()?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            judges.push(Judge { name, taught: Taught::new(original, batches)? });
        }
        let head = original.head()?;
        Ok(Self { settings, field, head, judges, rows: Vec::new(), found: Vec::new(), report })
    }

    /// All rows so far.
    pub(crate) fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    /// The plans that were found since this was asked last.
    pub(crate) fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    /// Whether the plan of a contender takes part with tuned scales: where `by_default`, if its
    /// name does; any other, if it is asked for by what its own name does not have.
    pub(crate) fn wants_tuned(&self, name: &str, by_default: bool) -> bool {
        let with = tuned(name);
        let asked = |part: &String| with.contains(part) && (by_default || !name.contains(part));
        (by_default && self.wants(name)) || self.settings.only.iter().any(asked)
    }

    /// Measures the plan of a contender with tuned scales, which took so many seconds besides.
    pub(crate) fn tuned(
        &mut self,
        budget: u64,
        found: &Found,
        bytes: u64,
        model: &Model,
        outcome: &TuningOutcome,
        seconds: f64,
    ) -> Result<(), BenchError> {
        let gradients = found.counts.gradients + outcome.steps;
        let counts = Some(Counts { gradients, ..found.counts });
        self.model(budget, &tuned(&found.name), bytes, model, counts, found.seconds + seconds)
    }

    /// Whether a contender of this name takes part.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let only = &self.settings.only;
        only.is_empty() || only.iter().any(|part| name.contains(part))
    }

    /// Everything that searches: knapsacks on these `errors` and on sensitivities, RCO, the
    /// full search with the plans that are `known`, its parts, evolution, RCO as in the paper.
    pub(crate) fn searches(
        &mut self,
        course: &Course<'_>,
        errors: &[(&str, Vec<f64>)],
        known: Vec<(String, Assignment)>,
    ) -> Result<(), BenchError> {
        let full = self.field.search.clone();
        let evaluations = full.evaluations.unwrap_or(0);
        let one = |method| SearchSettings {
            method,
            polish: PolishSettings { when: PolishWhen::Never, ..full.polish.clone() },
            ..full.clone()
        };
        let scores = self.field.scores;
        let proxy = one(MethodName::Proxy);
        // What evolution starts from.
        let mut simple = known.clone();
        for (name, errors) in errors {
            if let Some(outcome) = self.search(course, Entry::new(name, errors, &proxy, false))? {
                simple.push(((*name).to_owned(), outcome.assignment));
            }
        }
        self.search(course, Entry::new("Fisher, knapsack", scores, &proxy, false))?;
        if full.rescore.rounds > 0 {
            let rescore = one(MethodName::Rescore);
            self.search(course, Entry::new("Fisher, scores at the plan", scores, &rescore, false))?;
        }
        if full.descend.rounds > 0 {
            let descend = one(MethodName::Descend);
            let name = "Fisher, gradients at the plan";
            self.search(course, Entry::new(name, scores, &descend, true))?;
        }
        let rco = one(MethodName::Rco);
        self.search(course, Entry::new("Fisher, RCO", scores, &rco, true))?;
        let name = self.field.command;
        let ours = Entry { known, ..Entry::new(name, scores, &full, true) };
        if let Some(outcome) = self.search(course, ours)? {
            self.parts(course, &outcome)?;
        }
        if self.settings.evolution > 0 {
            let mut evolution = one(MethodName::Evolution);
            evolution.steps = None;
            evolution.baselines.evolution = few_evaluations();
            evolution.evaluations = Some(self.settings.evolution * evaluations);
            let name = format!("evolution, {} × evaluations", self.settings.evolution);
            let entry = Entry::new(&name, scores, &evolution, false);
            self.search(course, Entry { known: simple, ..entry })?;
        }
        if self.settings.plain_steps > 0 {
            let mut plain = one(MethodName::Rco);
            plain.warm_start.enabled = false;
            plain.steps = Some(self.settings.plain_steps);
            plain.evaluations = None;
            plain.rco.samples_per_step = 4;
            plain.rco.learning_rate = 0.1;
            plain.rco.tau_end = 0.01;
            plain.baselines.scores = ScoreSettings::default();
            self.search(course, Entry::new("RCO as in the paper", scores, &plain, false))?;
        }
        Ok(())
    }

    /// The best plan of each part of the full search, by its held-out loss.
    fn parts(&mut self, course: &Course<'_>, outcome: &SearchOutcome) -> Result<(), BenchError> {
        for (method, name) in [
            (MethodName::Rescore, "scores at the plan"),
            (MethodName::Descend, "gradients at the plan"),
            (MethodName::Refine, "corrected scores"),
            (MethodName::Rco, "RCO"),
            (MethodName::Polish, "the polish"),
        ] {
            let of_method = outcome.candidates.iter().filter(|c| c.method == method);
            let best = of_method.min_by(|a, b| a.loss_heldout.total_cmp(&b.loss_heldout));
            if let Some(best) = best {
                let name = format!("{}, best of {name}", self.field.command);
                self.plan(course, &name, &best.assignment)?;
            }
        }
        Ok(())
    }

    /// What the contender finds, if it takes part.
    fn search(
        &mut self,
        course: &Course<'_>,
        entry: Entry<'_>,
    ) -> Result<Option<SearchOutcome>, BenchError> {
        if !self.wants(entry.name) && !self.wants(&tuned(entry.name)) {
            return Ok(None);
        }
        let Entry { name, scores, known, settings, curved } = entry;
        let Field { models, teacher, measured, origin, .. } = self.field;
        let seed = settings.seed;
        let mut loss =
            PlanLoss::new(models, teacher, measured, seed, scores.to_vec(), known, origin);
        if curved {
            loss = loss.with_curvature(scores.to_vec());
        }
        let begun = Instant::now();
        let outcome = search(course.problem, &mut loss, settings, &mut Silent)?;
        let seconds = begun.elapsed().as_secs_f64();
        let model = models.model(&outcome.assignment)?;
        let bytes = (course.bytes)(&outcome.assignment);
        self.model(course.budget, name, bytes, &model, Some(outcome.counts), seconds)?;
        let (name, plan, counts) = (name.to_owned(), outcome.assignment.clone(), outcome.counts);
        let before = Some(outcome.loss_heldout);
        self.found.push(Found { name, plan, counts, seconds, before });
        Ok(Some(outcome))
    }

    /// Measures a plan that needed no search, or is a part of another.
    pub(crate) fn plan(
        &mut self,
        course: &Course<'_>,
        contender: &str,
        plan: &Assignment,
    ) -> Result<(), BenchError> {
        if !self.wants(contender) {
            return Ok(());
        }
        let (model, counts) = (self.field.models.model(plan)?, Some(Counts::default()));
        self.model(course.budget, contender, (course.bytes)(plan), &model, counts, 0.0)
    }

    /// Measures a plan that was found somewhere else by so much work.
    pub(crate) fn found(
        &mut self,
        course: &Course<'_>,
        contender: &str,
        plan: &Assignment,
        counts: Counts,
        seconds: f64,
    ) -> Result<(), BenchError> {
        if !self.wants(contender) && !self.wants(&tuned(contender)) {
            return Ok(());
        }
        let model = self.field.models.model(plan)?;
        self.model(course.budget, contender, (course.bytes)(plan), &model, Some(counts), seconds)?;
        let name = contender.to_owned();
        self.found.push(Found { name, plan: plan.clone(), counts, seconds, before: None });
        Ok(())
    }

    /// Measures a model on all texts.
    pub(crate) fn model(
        &mut self,
        budget: u64,
        contender: &str,
        bytes: u64,
        model: &Model,
        counts: Option<Counts>,
        seconds: f64,
    ) -> Result<(), BenchError> {
        for judge in &self.judges {
            let mut comparison = Comparison::default();
            let all = 0..judge.taught.len();
            for report in kl(&self.head, model, &judge.taught, all)? {
                comparison.add(&report);
            }
            let none = Estimate { value: f64::NAN, error: f64::NAN };
            let kl = comparison.summary().map_or(none, |s| s.kl_mean);
            let row = Row {
                budget,
                contender: contender.to_owned(),
                bytes,
                bits: bytes as f64 * self.field.per_weight,
                over: bytes.saturating_sub(budget),
                gradients: counts.map_or(0, |c| c.gradients),
                draws: counts.map_or(0, |c| c.draws),
                measured: counts.map_or(0, |c| c.calibration),
                seconds,
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
