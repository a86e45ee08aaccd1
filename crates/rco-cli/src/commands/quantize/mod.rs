//! `rco quantize`: the best GGUF that fits.

mod args;
mod progress;
mod report;

use std::fs;
use std::path::Path;

use rco_quant::job::{Job, JobOutcome, JobSettings, written_plan};
use serde_json::{Value, json};

pub(crate) use self::args::Args;
pub(crate) use self::args::parse_effort;
pub(crate) use self::progress::Stages;
use crate::error::CliError;
use crate::output::{self, Out};
use crate::run_folder::{Description, RunFolder};

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let settings = args.settings()?;
    if !args.dry_run {
        let resumed = args.folder(&settings).0.join("run.json").exists();
        for order in &settings.orders {
            // A run that was killed may have written its file already.
            let own = resumed && written_plan(&order.output).is_some();
            output::check_target(&order.output, args.force || own)?;
        }
        if let Some(path) = &args.tensor_types_file {
            output::check_target(path, args.force)?;
        }
    }
    super::start_threads(settings.threads)?;
    let mut out = if args.quiet || args.json { Out::none() } else { Out::stdout() };
    let job = Job::open(settings)?;
    let outlook = job.outlook()?;
    report::outlook(&mut out, &outlook, job.settings())?;
    if args.dry_run {
        return if args.json {
            Out::stdout().json(&outlook)
        } else {
            out.line("\nDry run: nothing was computed or written.")
        };
    }
    let (dir, kept) = args.folder(job.settings());
    check_space(&dir, &outlook)?;
    let folder = RunFolder::open(&dir, &describe(job.settings())?)?;
    let mut stages = Stages::new(args.quiet || args.json);
    let outcome = job.run(&dir, &mut stages);
    stages.finish();
    let outcome = outcome?;
    output::write_json(&folder.plan(), &plan(&outcome))?;
    if let Some(path) = &args.tensor_types_file {
        write_tensor_types(path, &outcome)?;
    }
    report::outcome(&mut out, &outcome, args.plan)?;
    if args.json {
        Out::stdout().json(&outcome)?;
    }
    drop(folder);
    if kept {
        out.field("run folder", dir.display())?;
    } else {
        fs::remove_dir_all(&dir).map_err(CliError::io(&dir, "deleting the run folder"))?;
    }
    Ok(())
}

/// What the run computes: the content of every input, and all settings that change it.
fn describe(settings: &JobSettings) -> Result<Description, CliError> {
    let hash = |path: &Path| rco_quant::hash::sha256_file(path).map_err(CliError::from);
    let texts = settings.texts.iter().map(|path| hash(path)).collect::<Result<Vec<_>, _>>()?;
    let imatrix = settings.imatrix.as_deref().map(hash).transpose()?;
    let names = |types: &[rco_formats::gguf::TensorType]| -> Vec<String> {
        types.iter().map(ToString::to_string).collect()
    };
    let kept = json!({
        "texts": texts,
        "imatrix": imatrix,
        "types": names(&settings.filter.only),
        "exclude": names(&settings.filter.without),
        "pins": settings.pins.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ties": settings.ties.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "fuse_friendly": settings.fuse_friendly,
        "effort": settings.effort,
        "seed": settings.seed,
    });
    let budgets: Vec<String> = settings.orders.iter().map(|o| format!("{:?}", o.target)).collect();
    let command = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let sha256 = hash(&settings.model)?;
    Ok(Description::new(&settings.model, &sha256, json!(budgets), kept, command))
}

/// Refuses to start where the options cannot be stored.
fn check_space(dir: &Path, outlook: &rco_quant::job::Outlook) -> Result<(), CliError> {
    let files: u64 = outlook.orders.iter().map(|o| o.budget).sum();
    let needed = outlook.database_bytes.saturating_add(files);
    let parent = dir.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("."));
    match rco_formats::disk::free_bytes(parent) {
        Some(free) if free < needed && !dir.join("options").is_dir() => {
            Err(CliError::DiskTooSmall { path: parent.to_owned(), needed, free })
        }
        _ => Ok(()),
    }
}

/// The plan file: the types of every file, nothing that depends on the clock.
fn plan(outcome: &JobOutcome) -> Value {
    let files = outcome.files.iter().map(|file| {
        let types = file.plan.iter().map(|(name, ty)| (name.clone(), json!(ty)));
        json!({
            "budget": file.budget,
            "bytes": file.bytes,
            "slack": file.slack,
            "sha256": file.plan_sha256,
            "heldout_kl": file.search.loss_heldout,
            "method": file.search.method,
            "found_by": file.search.origin,
            "tensors": types.collect::<serde_json::Map<String, Value>>(),
        })
    });
    json!({
        "format": "rco-model-plan",
        "version": 1,
        "rco": env!("CARGO_PKG_VERSION"),
        "model": { "sha256": outcome.source_sha256, "bytes": outcome.source_bytes },
        "files": files.collect::<Vec<_>>(),
    })
}

/// A line `^tensor$=type` for every tensor, as `llama-quantize --tensor-type-file` reads it.
fn write_tensor_types(path: &Path, outcome: &JobOutcome) -> Result<(), CliError> {
    let Some(file) = outcome.files.first() else { return Ok(()) };
    let lines = file.plan.iter().map(|(name, ty)| {
        format!("^{}$={}\n", name.replace('.', "\\."), ty.to_string().to_lowercase())
    });
    output::write(path, lines.collect::<String>().as_bytes())
}
