//! `rco quantize` against what else there is, at equal size, on held-out texts.
//!
//! All plans are made of the same encoded tensors, with the same importance matrix and the
//! same calibration text, and are measured by the same engine on the same windows of texts
//! that none of them has seen. llama.cpp's recipes are files that its own quantiser wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rco_core::Assignment;
use rco_core::baselines::ScoreSettings;
use rco_core::search::{
    Counts, MethodName, PolishWhen, SearchOutcome, SearchSettings, Silent, search,
};
use rco_formats::gguf::GgufModel;
use rco_ggml::{Preset, Vocabulary};
use rco_model::eval::{Comparison, Estimate};
use rco_model::head::Head;
use rco_model::text::{Corpus, Side, TextSettings};
use rco_model::{Batch, Model};
use rco_quant::QuantError;
use rco_quant::job::{EngineMeasure, Job, Prepared, Reporter};
use rco_quant::known;
use rco_quant::objective::PlanLoss;
use rco_quant::teacher::{Taught, kl};
use serde::Serialize;

use crate::error::BenchError;

/// What is measured.
#[derive(Debug, Clone)]
pub struct QuantizeSettings {
    /// Texts that the plans are reported on, one column each.
    pub heldout: Vec<PathBuf>,
    /// Windows of each.
    pub windows: usize,
    /// Evaluations of the evolutionary search, as a multiple of those of the full search.
    pub evolution: u64,
    /// Steps of RCO without warm start or polish (four samples each); 0 leaves it out.
    pub plain_steps: u64,
}

/// One plan at one size.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Budget in bytes.
    pub budget: u64,
    /// How the plan was made.
    pub contender: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Option gradients that the search took.
    pub gradients: u64,
    /// Plans that it measured on calibration windows.
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

/// Runs all contenders at all budgets of `job`; `report` sees every row as it comes.
///
/// # Errors
/// Whatever any of them meets.
pub fn run(
    job: &Job,
    settings: &QuantizeSettings,
    folder: &Path,
    reporter: &mut dyn Reporter,
    report: &mut dyn FnMut(&Row),
) -> Result<Vec<Row>, BenchError> {
    let prepared = job.prepare(folder, reporter)?;
    let engine = prepared.engine().ok_or(BenchError::Unsupported("a job without gradients"))?;
    let original = engine.original.clone();
    let head = original.head().map_err(QuantError::from)?;
    reporter.stage("held-out texts", None);
    let judges = judges(job, settings, &original)?;
    let mut bench = Bench {
        job,
        settings,
        prepared: &prepared,
        engine,
        head,
        judges,
        rows: Vec::new(),
        curved: false,
        report,
    };
    for &budget in job.budgets() {
        reporter.stage(&format!("{budget} bytes"), None);
        bench.presets(budget, folder)?;
        bench.searches(budget)?;
    }
    Ok(bench.rows)
}

fn judges(
    job: &Job,
    settings: &QuantizeSettings,
    original: &Model,
) -> Result<Vec<Judge>, BenchError> {
    let vocabulary = Vocabulary::open(&job.settings().model).map_err(QuantError::from)?;
    let work = job.settings().effort.plan();
    let text = TextSettings { seed: 0, held_out: 0.5, window: job.window(&work) };
    let mut out = Vec::new();
    for path in &settings.heldout {
        // Both halves are held out: no contender sees this file.
        let mut corpus = Corpus::new(text).map_err(QuantError::from)?;
        corpus.add_file(path).map_err(QuantError::from)?;
        let windows = corpus
            .windows(&vocabulary, Side::HeldOut, settings.windows)
            .map_err(QuantError::from)?;
        let batches = windows
            .iter()
            .map(|w| Batch::new(std::slice::from_ref(&w.tokens)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(QuantError::from)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let taught = Taught::new(original, batches).map_err(QuantError::from)?;
        out.push(Judge { name, taught });
    }
    Ok(out)
}

struct Bench<'a> {
    job: &'a Job,
    settings: &'a QuantizeSettings,
    prepared: &'a Prepared,
    engine: &'a EngineMeasure,
    head: Head,
    judges: Vec<Judge>,
    rows: Vec<Row>,
    /// Whether gradients are corrected for curvature.
    curved: bool,
    report: &'a mut dyn FnMut(&Row),
}

impl Bench<'_> {
    /// The largest recipe that fits and the smallest that does not, as llama.cpp writes them.
    fn presets(&mut self, budget: u64, folder: &Path) -> Result<(), BenchError> {
        let files = folder.join("presets");
        std::fs::create_dir_all(&files).map_err(QuantError::io(&files, "creating the folder"))?;
        let threads = self.job.settings().threads;
        let mut made: Vec<(u64, &str, PathBuf)> = Vec::new();
        for preset in Preset::all() {
            let path = files.join(format!("{}.gguf", preset.name()));
            if !path.exists() {
                let source = &self.job.settings().model;
                let matrix = self.prepared.importance.as_ref();
                // Some recipes cannot be made of some models.
                if rco_ggml::quantise_file(source, &path, preset, matrix, threads).is_err() {
                    continue;
                }
            }
            let bytes = std::fs::metadata(&path).map_err(QuantError::io(&path, "reading"))?.len();
            made.push((bytes, preset.name(), path));
        }
        made.sort();
        let above = made.partition_point(|(bytes, _, _)| *bytes <= budget);
        let near = made.iter().take(above).rev().take(2).rev();
        let chosen: Vec<_> = near.chain(made.iter().skip(above).take(1)).cloned().collect();
        for (bytes, name, path) in chosen {
            let file = Arc::new(GgufModel::open(&path).map_err(QuantError::from)?);
            let model = self.engine.candidates.other(file)?;
            self.judge(budget, &format!("llama.cpp {name}"), bytes, &model, None, 0.0)?;
        }
        Ok(())
    }

    /// All plans that are made of options.
    fn searches(&mut self, budget: u64) -> Result<(), BenchError> {
        let work = self.job.settings().effort.plan();
        let seed = self.job.settings().seed;
        let full = work.search(seed);
        let evaluations = full.evaluations.unwrap_or(0);
        let one = |method| SearchSettings {
            method,
            polish: rco_core::search::PolishSettings {
                when: PolishWhen::Never,
                ..full.polish.clone()
            },
            ..full.clone()
        };
        let Prepared { database, groups, .. } = self.prepared;
        let errors = database.distortions(groups.menu());
        let relative = database.relative_distortions(groups.menu());

        let known = self.known(budget)?;
        if let Some((name, plan)) = known.first().cloned() {
            let bytes = self.prepared.groups.bytes(&plan);
            let model = self.engine.candidates.model(&plan)?;
            self.judge(budget, &name, bytes, &model, None, 0.0)?;
        }
        let proxy = one(MethodName::Proxy);
        self.search(budget, "weight error, knapsack", &errors, Vec::new(), &proxy)?;
        self.search(budget, "relative weight error, knapsack", &relative, Vec::new(), &proxy)?;
        let scores = self.prepared.scores.clone();
        self.search(budget, "Fisher, knapsack", &scores, Vec::new(), &proxy)?;
        self.curved = true;
        let rco = one(MethodName::Rco);
        self.search(budget, "Fisher, RCO", &scores, Vec::new(), &rco)?;
        let outcome = self.search(budget, "rco quantize", &scores, known, &full)?;
        self.curved = false;
        self.parts(budget, &outcome)?;
        if self.settings.evolution > 0 {
            let mut evolution = one(MethodName::Evolution);
            evolution.steps = None;
            evolution.evaluations = Some(self.settings.evolution * evaluations);
            let name = format!("evolution, {} × evaluations", self.settings.evolution);
            self.search(budget, &name, &scores, Vec::new(), &evolution)?;
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
            self.search(budget, "RCO as in the paper", &scores, Vec::new(), &plain)?;
        }
        Ok(())
    }

    /// The best plan of each part of the full search, by its held-out loss.
    fn parts(&mut self, budget: u64, outcome: &SearchOutcome) -> Result<(), BenchError> {
        for (method, name) in [
            (MethodName::Refine, "rco quantize, best of corrected scores"),
            (MethodName::Rco, "rco quantize, best of RCO"),
            (MethodName::Polish, "rco quantize, best of the polish"),
        ] {
            let of_method = outcome.candidates.iter().filter(|c| c.method == method);
            let best = of_method.min_by(|a, b| a.loss_heldout.total_cmp(&b.loss_heldout));
            if let Some(best) = best {
                let model = self.engine.candidates.model(&best.assignment)?;
                let bytes = self.prepared.groups.bytes(&best.assignment);
                self.judge(budget, name, bytes, &model, None, 0.0)?;
            }
        }
        Ok(())
    }

    fn known(&self, budget: u64) -> Result<Vec<(String, Assignment)>, BenchError> {
        let Prepared { groups, importance, database, .. } = self.prepared;
        let source = &self.job.settings().model;
        Ok(known::plans(groups, source, importance.as_ref(), database.foreign(), budget)?)
    }

    fn search(
        &mut self,
        budget: u64,
        name: &str,
        scores: &[f64],
        known: Vec<(String, Assignment)>,
        settings: &SearchSettings,
    ) -> Result<SearchOutcome, BenchError> {
        let work = self.job.settings().effort.plan();
        let Prepared { groups, origin, .. } = self.prepared;
        let EngineMeasure { candidates, teacher, .. } = self.engine;
        let problem = groups.problem(budget, &[])?;
        let (measured, seed) = (work.measured_batches(), settings.seed);
        let mut loss =
            PlanLoss::new(candidates, teacher, measured, seed, scores.to_vec(), known, origin);
        if self.curved {
            loss = loss.with_curvature(scores.to_vec());
        }
        let begun = Instant::now();
        let outcome = search(&problem, &mut loss, settings, &mut Silent)?;
        let seconds = begun.elapsed().as_secs_f64();
        let model = candidates.model(&outcome.assignment)?;
        let bytes = groups.bytes(&outcome.assignment);
        self.judge(budget, name, bytes, &model, Some(outcome.counts), seconds)?;
        Ok(outcome)
    }

    /// Measures a model on all texts.
    fn judge(
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
            for report in kl(&self.head, model, &judge.taught, all).map_err(QuantError::from)? {
                comparison.add(&report);
            }
            let none = Estimate { value: f64::NAN, error: f64::NAN };
            let kl = comparison.summary().map_or(none, |s| s.kl_mean);
            let row = Row {
                budget,
                contender: contender.to_owned(),
                bytes,
                gradients: counts.map_or(0, |c| c.gradients),
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
