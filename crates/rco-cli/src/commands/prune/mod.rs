//! `rco prune`: fewer experts or layers, exactly as many as asked for.

mod args;
mod layers;
mod report;

use std::fs;
use std::path::Path;

use rco_quant::job::Reporter;
use rco_quant::prune::job::{check_output, written_plan};
use rco_quant::prune::{PruneJob, PruneOutcome};
use serde_json::{Map, Value, json};

pub(crate) use self::args::Args;
use crate::commands::quantize::{Logged, Stages};
use crate::error::CliError;
use crate::output::{self, Out};
use crate::run_folder::{Description, RunFolder};

/// What `plan.json` says it is.
const FORMAT: &str = "rco-expert-plan";
const VERSION: u32 = 1;

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if let Some(settings) = args.layers_settings() {
        return layers::run(args, settings);
    }
    let settings = args.settings();
    let (dir, kept) = args.folder();
    check_targets(args, settings.output.as_deref(), &dir)?;
    super::start_threads(settings.threads)?;
    let mut out = if args.quiet || args.json { Out::none() } else { Out::stdout() };
    let job = PruneJob::open(settings)?;
    let outlook = job.outlook()?;
    report::outlook(&mut out, &outlook, job.settings())?;
    if args.dry_run {
        return if args.json {
            Out::stdout().json(&outlook)
        } else {
            out.line("\nDry run: nothing was computed or written.")
        };
    }
    let folder = RunFolder::open(&dir, &describe(&job)?)?;
    let mut stages = Stages::new(args.quiet || args.json);
    let mut log = Logged::open(&dir.join("log.txt"), &mut stages)?;
    log.begin();
    let done = take(&job, &dir, &folder, &mut log);
    match &done {
        Ok(_) => log.write("prune: done"),
        Err(error) => log.write(&format!("prune: {error}")),
    }
    drop(log);
    stages.finish();
    let outcome = done?;
    report::outcome(&mut out, &outcome)?;
    if args.json {
        Out::stdout().json(&outcome)?;
    }
    if kept {
        out.field("run folder", dir.display())?;
    }
    drop(folder);
    if !kept {
        fs::remove_dir_all(&dir).map_err(CliError::io(&dir, "deleting the run folder"))?;
    }
    Ok(())
}

/// Refuses to overwrite what is not meant.
fn check_targets(args: &Args, output: Option<&Path>, dir: &Path) -> Result<(), CliError> {
    let Some(path) = output.filter(|_| !args.dry_run) else { return Ok(()) };
    // A run that was killed may have written its output already.
    let own = dir.join("run.json").exists() && written_plan(path).is_some();
    check_output(path, args.force || own)?;
    // Names a folder that is missing.
    output::check_target(path, true)
}

fn take(
    job: &PruneJob,
    dir: &Path,
    folder: &RunFolder,
    reporter: &mut dyn Reporter,
) -> Result<PruneOutcome, CliError> {
    let prepared = job.prepare(dir, reporter)?;
    let found = job.search(&prepared, dir, reporter)?;
    write_plan(&folder.plan(), job, &prepared.source_sha256, &found)?;
    Ok(job.build(&prepared, found, reporter)?)
}

/// Writes which experts remain; nothing in the file depends on the clock.
fn write_plan(
    path: &Path,
    job: &PruneJob,
    sha256: &str,
    found: &rco_core::search::SearchOutcome,
) -> Result<(), CliError> {
    let layers = job.map().layers().iter().zip(job.map().kept(&found.assignment));
    let kept: Map<String, Value> =
        layers.map(|(l, kept)| (l.layer.to_string(), json!(kept))).collect();
    let plan = json!({
        "format": FORMAT,
        "version": VERSION,
        "rco": env!("CARGO_PKG_VERSION"),
        "model": { "sha256": sha256, "bytes": job.source().bytes() },
        "sha256": job.plan_sha256(&found.assignment),
        "heldout_kl": found.loss_heldout,
        "method": found.method,
        "found_by": found.origin,
        "kept_experts": kept,
    });
    output::write_json(path, &plan)
}

/// What the run computes: the content of every input, and all settings that change it.
fn describe(job: &PruneJob) -> Result<Description, CliError> {
    let settings = job.settings();
    let hash = |path: &Path| rco_quant::hash::sha256_file(path).map_err(CliError::from);
    let texts = settings.texts.iter().map(|path| hash(path)).collect::<Result<Vec<_>, _>>()?;
    let kept = json!({
        "texts": texts,
        "min_experts": settings.min_experts,
        "work": settings.work,
        "seed": settings.seed,
    });
    let layers = if settings.per_layer { "in each layer alike" } else { "in all" };
    let budget = json!(format!("experts: {} {layers}", settings.amount));
    let command = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let sha256 = job.source().sha256()?;
    Ok(Description::new(&settings.model, &sha256, budget, kept, command))
}
