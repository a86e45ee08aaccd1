//! `rco prune --sparsity` against what else there is, at equal numbers of zeros, on held-out
//! texts.
//!
//! All plans set the same weights of a matrix to zero for a share of it (by weight times
//! activation norm on the same calibration text) and differ in the shares only; all are measured
//! by the same engine on the same windows of texts that none of them has seen.

use std::path::Path;

use rco_model::tokenizer::Tokenizer;
use rco_quant::job::Reporter;
use rco_quant::objective::PlanModels;
use rco_quant::prune::sparsity::{SparsityJob, SparsityPrepared};

use crate::contest::{Contest, ContestSettings, Course, Field, Row};
use crate::error::BenchError;

/// Runs all contenders at the share of `job`, which writes no output; `report` sees every row as
/// it comes.
///
/// # Errors
/// Whatever any of them meets.
pub fn run(
    job: &SparsityJob,
    settings: &ContestSettings,
    folder: &Path,
    reporter: &mut dyn Reporter,
    report: &mut dyn FnMut(&Row),
) -> Result<Vec<Row>, BenchError> {
    let prepared = job.prepare(folder, reporter)?;
    let SparsityPrepared { reference, models, errors, scores, origin } = &prepared;
    let work = job.settings().effort.plan();
    let levels = job.levels();
    let field = Field {
        models,
        teacher: &reference.teacher,
        scores,
        origin,
        command: "rco prune",
        measured: work.measured_batches(),
        search: job.search_settings(),
        per_weight: 1.0 / levels.weights().max(1) as f64,
    };
    reporter.stage("held-out texts", None);
    let tokenizer = Tokenizer::open(&job.settings().common.model)?;
    let window = job.source().window(work.window);
    let original = models.original()?;
    let mut contest = Contest::new(settings, field, &original, &tokenizer, window, report)?;
    let remaining = |plan: &_| levels.weights() - levels.dropped(plan);
    let budget = levels.weights() - levels.to_drop();
    reporter.stage(&format!("{budget} weights"), None);
    let problem = levels.problem()?;
    let course = Course { budget, problem: &problem, bytes: &remaining };
    let known = job.known();
    for (name, plan) in &known {
        contest.plan(&course, name, plan)?;
    }
    contest.searches(&course, &[("weight error, knapsack", errors.clone())], known)?;
    Ok(contest.into_rows())
}
