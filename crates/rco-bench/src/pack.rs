//! `rco quantize` of a Hugging Face folder against what else there is, at equal size, on
//! held-out texts.
//!
//! All plans are made of the same matrices, rounded by GPTQ with the second moments of the same
//! calibration text, and are measured by the same engine on the same windows of texts that none
//! of them has seen.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rco_core::Assignment;
use rco_core::search::Counts;
use rco_model::tokenizer::Tokenizer;
use rco_quant::QuantError;
use rco_quant::job::Reporter;
use rco_quant::objective::PlanModels;
use rco_quant::packed::{PackJob, PackPrepared};

use crate::contest::{Contest, ContestSettings, Course, Field, Found, Row, tuned};
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

/// The name of a plan in a run folder.
fn plan_name(plan: &Assignment) -> String {
    let mut text = String::new();
    for option in plan.choices() {
        let _ = write!(text, "{option} ");
    }
    rco_quant::hash::sha256(text.as_bytes()).chars().take(12).collect()
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
            let Found { plan, mut counts, seconds, before, .. } = found;
            // Each takes its time: by default those that are compared.
            let theirs = theirs.iter().any(|(_, theirs)| theirs.contender == found.name);
            if !contest.wants_tuned(&found.name, theirs || found.name == command) {
                continue;
            }
            let begun = Instant::now();
            let run = folder.join(format!("tuned-{}", plan_name(&plan)));
            std::fs::create_dir_all(&run).map_err(QuantError::io(&run, "creating the folder"))?;
            let scales = job.tune(order, &prepared, &plan, before, &run, reporter)?;
            let seconds = seconds + begun.elapsed().as_secs_f64();
            counts.gradients += scales.outcome.steps;
            let name = tuned(&found.name);
            contest.model(budget, &name, bytes(&plan), scales.model(), Some(counts), seconds)?;
        }
    }
    Ok(contest.into_rows())
}
