//! `rco quantize` of a Hugging Face folder: packed integers by GPTQ.

mod args;
mod report;

use std::path::Path;

use rco_quant::job::Reporter;
use rco_quant::packed::{PackJob, PackOutcome, written_plan};
use rco_quant::place::check_target;
use serde_json::json;

pub(crate) use self::args::FolderFlags;
use super::args::Flags;
use super::{Step, logged};
use crate::error::CliError;
use crate::output::{self, Out};
use crate::run_folder::{Description, RunFolder};

/// What `plan.json` says it is.
const FORMAT: &str = "rco-folder-plan";
const VERSION: u32 = 1;

pub(super) fn run(flags: &Flags, step: Step) -> Result<(), CliError> {
    let settings = flags.pack_settings(step)?;
    let (dir, kept) = flags.pack_folder(&settings);
    if !flags.dry_run {
        let resumed = dir.join("run.json").exists();
        for order in &settings.orders {
            // A run that was killed may have written its folder already.
            let own = resumed && written_plan(&order.output).is_some();
            check_target(&order.output, flags.force || own)
                .map_err(|error| CliError::from(rco_quant::packed::PackedError::from(error)))?;
            // Names a folder that is missing.
            output::check_target(&order.output, true)?;
        }
    }
    crate::commands::start_threads(flags.threads)?;
    let mut out = if flags.quiet || flags.json { Out::none() } else { Out::stdout() };
    let job = PackJob::open(settings)?;
    let outlook = job.outlook()?;
    report::outlook(&mut out, &outlook, job.settings())?;
    if flags.dry_run {
        return if flags.json {
            Out::stdout().json(&outlook)
        } else {
            out.line("\nDry run: nothing was computed or written.")
        };
    }
    check_space(&dir, &outlook)?;
    let folder = RunFolder::open(&dir, &describe(&job)?)?;
    let outcome = logged(&dir, flags.quiet || flags.json, "quantize", |reporter| {
        take(&job, &dir, &folder, reporter)
    })?;
    report::outcome(&mut out, &outcome, flags.plan)?;
    if flags.json {
        Out::stdout().json(&outcome)?;
    }
    if kept {
        out.field("run folder", dir.display())?;
    }
    folder.close(kept)
}

fn take(
    job: &PackJob,
    dir: &Path,
    folder: &RunFolder,
    reporter: &mut dyn Reporter,
) -> Result<PackOutcome, CliError> {
    let prepared = job.prepare(dir, reporter)?;
    let plans = job.search(&prepared, dir, reporter)?;
    let outcome = job.build(&prepared, &plans, dir, reporter)?;
    write_plan(&folder.plan(), &outcome)?;
    Ok(outcome)
}

/// Writes which matrix has which form; nothing in the file depends on the clock.
fn write_plan(path: &Path, outcome: &PackOutcome) -> Result<(), CliError> {
    let folders: Vec<_> = outcome
        .folders
        .iter()
        .map(|folder| {
            let plan: serde_json::Map<String, serde_json::Value> =
                folder.plan.iter().map(|(module, form)| (module.clone(), json!(form))).collect();
            json!({
                "budget": folder.budget,
                "bytes": folder.bytes,
                "sha256": folder.plan_sha256,
                "heldout_kl": folder.search.loss_heldout,
                "tuning": folder.tuning,
                "method": folder.search.method,
                "found_by": folder.search.origin,
                "plan": plan,
            })
        })
        .collect();
    let plan = json!({
        "format": FORMAT,
        "version": VERSION,
        "rco": env!("CARGO_PKG_VERSION"),
        "model": { "sha256": outcome.source_sha256, "bytes": outcome.source_bytes },
        "folders": folders,
    });
    output::write_json(path, &plan)
}

/// What the run computes: the content of every input, and all settings that change it.
fn describe(job: &PackJob) -> Result<Description, CliError> {
    let settings = job.settings();
    let hash = |path: &Path| rco_quant::hash::sha256_file(path).map_err(CliError::from);
    let texts = settings.texts.iter().map(|path| hash(path)).collect::<Result<Vec<_>, _>>()?;
    let options = job.foreign().iter().map(rco_quant::packed::ForeignFolder::sha256);
    let options = options.collect::<Result<Vec<_>, _>>()?;
    let kept = json!({
        "texts": texts,
        "options": options,
        "widths": settings.widths,
        "group_size": settings.group,
        "zero_points": settings.zeros,
        "damping": settings.factor.damping,
        "act_order": settings.factor.act_order,
        "nearest": settings.nearest,
        "tuning_steps": settings.tuning_steps(),
        "runtime": settings.runtime,
        "shard": settings.shard,
        "effort": settings.effort,
        "seed": settings.seed,
    });
    let budgets: Vec<String> = settings.orders.iter().map(|o| format!("{:?}", o.limit)).collect();
    let command = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let sha256 = job.source_sha256()?;
    Ok(Description::new(&settings.model, &sha256, json!(budgets), kept, command))
}

/// Refuses to start where the options cannot be stored.
fn check_space(dir: &Path, outlook: &rco_quant::packed::PackOutlook) -> Result<(), CliError> {
    let folders: u64 = outlook.orders.iter().map(|o| o.budget).sum();
    let needed = outlook.database_bytes.saturating_add(folders);
    let parent = dir.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("."));
    match rco_formats::disk::free_bytes(parent) {
        Some(free) if free < needed && !dir.join("options").is_dir() => {
            Err(CliError::DiskTooSmall { path: parent.to_owned(), needed, free })
        }
        _ => Ok(()),
    }
}
