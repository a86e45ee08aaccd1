//! `rco quantize` of a Hugging Face folder against what else there is, at equal size, on
//! held-out texts.
//!
//! All plans are made of the same matrices, rounded by GPTQ with the second moments of the same
//! calibration text, and are measured by the same engine on the same windows of texts that none
//! of them has seen.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rco_core::search::Counts;
use rco_model::tokenizer::Tokenizer;
use rco_quant::job::Reporter;
use rco_quant::objective::PlanModels;
use rco_quant::packed::{PackJob, PackPrepared};

use crate::contest::{Contest, ContestSettings, Course, Field, Row, tuning_folder};
use crate::error::BenchError;
use crate::outside;

/// Contenders that are other programs.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Write options, tokens and budgets into this folder, and do no more.
    pub export: Option<PathBuf>,
    /// Files with plans that other programs have made of them.
    pub plans: Vec<PathBuf>,
}

/// Runs all contenders at all orders of `job`, whose outputs are not written; `report` sees
/// every row as it comes.
///
/// # Errors
/// Whatever any of them meets.
pub fn run(
    job: &PackJob,
    settings: &ContestSettings,
    outside: &Outside,
    folder: &Path,
    reporter: &mut dyn Reporter,
    report: &mut dyn FnMut(&Row),
) -> Result<Vec<Row>, BenchError> {
    let budgets: Vec<u64> = (0..job.settings().orders.len()).map(|n| job.budget(n)).collect();
    let mut theirs = Vec::new();
    for path in &outside.plans {
        for plan in outside::read(path)? {
            if !budgets.contains(&plan.budget) {
                let problem = format!(
                    "a plan of `{}` is for {} bytes, which is none of the budgets asked for \
                     ({budgets:?}): give the bits that were exported",
                    plan.contender, plan.budget
                );
                return Err(BenchError::Outside { path: path.clone(), problem });
            }
            theirs.push((plan.assignment(job, path)?, plan));
        }
    }
    let prepared = job.prepare(folder, reporter)?;
    if let Some(folder) = &outside.export {
        reporter.stage("handing over", None);
        outside::export(job, &prepared, folder)?;
        return Ok(Vec::new());
    }
    let PackPrepared { database, models, teacher, scores, origin, .. } = &prepared;
    let work = job.settings().effort.plan();
    let command = "rco quantize";
    let field = Field {
        models,
        teacher,
        scores,
        origin,
        command,
        measured: work.measured_batches(),
        search: work.search_packed(job.settings().seed),
        per_weight: 8.0 / job.menu().weights().max(1) as f64,
    };
    reporter.stage("held-out texts", None);
    let tokenizer = Tokenizer::open(job.source().folder().path())?;
    let (original, window) = (models.original()?, job.window());
    let mut contest = Contest::new(settings, field, &original, &tokenizer, window, report)?;
    let errors = [("GPTQ error, knapsack", database.errors(job.menu()))];
    let uniform = job.uniform_plans();
    for order in 0..job.settings().orders.len() {
        let budget = job.budget(order);
        reporter.stage(&format!("{budget} bytes"), None);
        let problem = job.problem(order)?;
        let bytes = |plan: &_| job.bytes(order, plan);
        let course = Course { budget, problem: &problem, bytes: &bytes };
        // The largest that fits, and the smallest that does not.
        let mut rising: Vec<_> =
            uniform.iter().map(|(name, plan)| (bytes(plan), name, plan)).collect();
        rising.sort_by_key(|(bytes, name, _)| (*bytes, *name));
        let above = rising.partition_point(|(bytes, ..)| *bytes <= budget);
        for (_, name, plan) in &rising[above.saturating_sub(1)..rising.len().min(above + 1)] {
            contest.plan(&course, name, plan)?;
        }
        for (plan, found) in theirs.iter().filter(|(_, found)| found.budget == budget) {
            let counts = Counts { gradients: found.gradients, ..Counts::default() };
            contest.found(&course, &found.contender, plan, counts, found.seconds)?;
        }
        contest.searches(&course, &errors, job.known(order))?;
        for found in contest.take_found() {
            // Each takes its time: by default those that are compared.
            let theirs = theirs.iter().any(|(_, theirs)| theirs.contender == found.name);
            if !contest.wants_tuned(&found.name, theirs || found.name == command) {
                continue;
            }
            let (begun, plan) = (Instant::now(), &found.plan);
            let run = tuning_folder(folder, plan)?;
            let scales = job.tune(order, &prepared, plan, found.before, &run, reporter)?;
            let (bytes, seconds) = (bytes(plan), begun.elapsed().as_secs_f64());
            contest.tuned(budget, &found, bytes, scales.model(), scales.outcome(), seconds)?;
        }
    }
    Ok(contest.into_rows())
}
