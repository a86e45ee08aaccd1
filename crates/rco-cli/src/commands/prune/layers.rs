//! `rco prune --layers`.

use std::fs;
use std::path::Path;

use rco_quant::prune::layers::{LayersJob, LayersSettings};
use serde_json::json;

use super::args::Args;
use super::{check_targets, report};
use crate::commands::quantize::{Logged, Stages};
use crate::error::CliError;
use crate::output::{self, Out};
use crate::run_folder::{Description, RunFolder};

/// What `plan.json` says it is.
const FORMAT: &str = "rco-layer-plan";
const VERSION: u32 = 1;

pub(super) fn run(args: &Args, settings: LayersSettings) -> Result<(), CliError> {
    let (dir, kept) = args.folder();
    check_targets(args, settings.output.as_deref(), &dir)?;
    crate::commands::start_threads(settings.threads)?;
    let mut out = if args.quiet || args.json { Out::none() } else { Out::stdout() };
    let job = LayersJob::open(settings)?;
    let outlook = job.outlook()?;
    report::layers_outlook(&mut out, &outlook, job.settings())?;
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
    let done = job.run(&dir, &mut log);
    match &done {
        Ok(_) => log.write("prune: done"),
        Err(error) => log.write(&format!("prune: {error}")),
    }
    drop(log);
    stages.finish();
    let outcome = done?;
    let plan = json!({
        "format": FORMAT,
        "version": VERSION,
        "rco": env!("CARGO_PKG_VERSION"),
        "model": { "sha256": outcome.source_sha256, "bytes": outcome.source_bytes },
        "sha256": outcome.plan_sha256,
        "heldout_kl": outcome.search.loss_heldout,
        "method": outcome.search.method,
        "found_by": outcome.search.origin,
        "dropped_layers": outcome.dropped,
    });
    output::write_json(&folder.plan(), &plan)?;
    report::layers_outcome(&mut out, &outcome)?;
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

/// What the run computes: the content of every input, and all settings that change it.
fn describe(job: &LayersJob) -> Result<Description, CliError> {
    let settings = job.settings();
    let hash = |path: &Path| rco_quant::hash::sha256_file(path).map_err(CliError::from);
    let texts = settings.texts.iter().map(|path| hash(path)).collect::<Result<Vec<_>, _>>()?;
    let kept = json!({ "texts": texts, "work": settings.work, "seed": settings.seed });
    let budget = json!(format!("layers: {}", settings.layers));
    let command = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    Ok(Description::new(&settings.model, &job.source_sha256()?, budget, kept, command))
}
