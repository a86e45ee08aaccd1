//! `rco quantize` against what else there is, at equal size, on held-out texts.
//!
//! All plans are made of the same encoded tensors, with the same importance matrix and the
//! same calibration text, and are measured by the same engine on the same windows of texts
//! that none of them has seen. llama.cpp's recipes are files that its own quantiser wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rco_formats::gguf::GgufModel;
use rco_ggml::{Preset, Vocabulary};
use rco_quant::QuantError;
use rco_quant::job::{EngineMeasure, Job, Prepared, Reporter};
use rco_quant::known;
use rco_quant::size::weights;

use crate::contest::{Contest, ContestSettings, Course, Field, Row, tuning_folder};
use crate::error::BenchError;

/// Runs all contenders at all budgets of `job`; `report` sees every row as it comes.
///
/// # Errors
/// Whatever any of them meets.
pub fn run(
    job: &Job,
    settings: &ContestSettings,
    folder: &Path,
    reporter: &mut dyn Reporter,
    report: &mut dyn FnMut(&Row),
) -> Result<Vec<Row>, BenchError> {
    let prepared = job.prepare(folder, reporter)?;
    let engine = prepared.engine().ok_or(BenchError::Unsupported("a job without gradients"))?;
    let work = job.settings().effort.plan();
    let field = Field {
        models: &engine.candidates,
        teacher: &engine.teacher,
        scores: &prepared.scores,
        origin: &prepared.origin,
        command: "rco quantize",
        measured: work.measured_batches(),
        search: work.search(job.settings().seed),
        per_weight: 8.0 / weights(job.model())?.max(1) as f64,
    };
    reporter.stage("held-out texts", None);
    let vocabulary = Vocabulary::open(&job.settings().model).map_err(QuantError::from)?;
    let window = job.window(&work);
    let contest = Contest::new(settings, field, &engine.original, &vocabulary, window, report)?;
    let mut bench = Bench { job, prepared: &prepared, engine, contest };
    for &budget in job.budgets() {
        reporter.stage(&format!("{budget} bytes"), None);
        bench.presets(budget, folder)?;
        bench.searches(budget)?;
        bench.tuned(budget, folder, reporter)?;
    }
    Ok(bench.contest.into_rows())
}

struct Bench<'a> {
    job: &'a Job,
    prepared: &'a Prepared,
    engine: &'a EngineMeasure,
    contest: Contest<'a>,
}

impl Bench<'_> {
    /// The largest recipe that fits and the smallest that does not, as llama.cpp writes them.
    fn presets(&mut self, budget: u64, folder: &Path) -> Result<(), BenchError> {
        let files = folder.join("presets");
        std::fs::create_dir_all(&files).map_err(QuantError::io(&files, "creating the folder"))?;
        let threads = self.job.settings().threads;
        let mut made: Vec<(u64, &str, PathBuf)> = Vec::new();
        for preset in Preset::all().filter(|p| self.contest.wants(&recipe(p.name()))) {
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
            self.contest.model(budget, &recipe(name), bytes, &model, None, 0.0)?;
        }
        Ok(())
    }

    /// All plans that are made of options.
    fn searches(&mut self, budget: u64) -> Result<(), BenchError> {
        let Prepared { groups, importance, database, .. } = self.prepared;
        let problem = groups.problem(budget, &[])?;
        let course = Course { budget, problem: &problem, bytes: &|plan| groups.bytes(plan) };
        let source = &self.job.settings().model;
        let known = known::plans(groups, source, importance.as_ref(), database.foreign(), budget)?;
        if let Some((name, plan)) = known.first() {
            self.contest.plan(&course, name, plan)?;
        }
        let errors = [
            ("weight error, knapsack", database.distortions(groups.menu())),
            ("relative weight error, knapsack", database.relative_distortions(groups.menu())),
        ];
        self.contest.searches(&course, &errors, known)
    }

    /// The plans that were found, with scales tuned: by default that of the command.
    fn tuned(
        &mut self,
        budget: u64,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<(), BenchError> {
        for found in self.contest.take_found() {
            let command = found.name == self.contest.field.command;
            if !self.contest.wants_tuned(&found.name, command) {
                continue;
            }
            let (begun, plan) = (Instant::now(), &found.plan);
            let run = tuning_folder(folder, plan)?;
            let (job, prepared) = (self.job, self.prepared);
            let tuned = job.tune(budget, prepared, plan, found.before, &run, reporter)?;
            let Some(scales) = tuned else { continue };
            let (bytes, seconds) = (prepared.groups.bytes(plan), begun.elapsed().as_secs_f64());
            let (model, outcome) = (scales.model(), scales.outcome());
            self.contest.tuned(budget, &found, bytes, model, outcome, seconds)?;
        }
        Ok(())
    }
}

/// Name of a contender.
fn recipe(preset: &str) -> String {
    format!("llama.cpp {preset}")
}
