//! `rco prune`: fewer experts or layers, exactly as many as asked for.

mod args;
mod experts;
mod layers;
mod report;
mod sparsity;

use std::path::Path;

use rco_core::search::SearchOutcome;
use rco_quant::job::Reporter;
use rco_quant::prune::CommonSettings;
use rco_quant::prune::made::{Made, check_output, written_plan};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::args::Args;
use crate::commands::quantize::logged;
use crate::error::CliError;
use crate::output::{self, Out};
use crate::run_folder::{Description, RunFolder};

/// Version of `plan.json`.
const PLAN_VERSION: u32 = 1;

/// Something that is dropped, from its command line to its outcome.
trait Pruning: Sized {
    type Outlook: Serialize;
    type Outcome: Serialize;

    /// Opens the inputs and checks what is asked for.
    fn open(args: &Args) -> Result<Self, CliError>;

    fn common(&self) -> &CommonSettings;

    fn outlook(&self, out: &mut Out) -> Result<Self::Outlook, CliError>;

    /// What goes, for the description of the run, and settings that change it.
    fn budget(&self) -> (String, Value);

    fn source_sha256(&self) -> Result<String, CliError>;

    /// All of the work over the run folder, with the plan written into it.
    fn make(
        &self,
        folder: &RunFolder,
        reporter: &mut dyn Reporter,
    ) -> Result<Self::Outcome, CliError>;

    fn report(out: &mut Out, outcome: &Self::Outcome) -> Result<(), CliError>;
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if args.sparsity.is_some() {
        drop_some::<sparsity::Sparsity>(args)
    } else if args.layers.is_some() {
        drop_some::<layers::Layers>(args)
    } else {
        drop_some::<experts::Experts>(args)
    }
}

fn drop_some<P: Pruning>(args: &Args) -> Result<(), CliError> {
    let (dir, kept) = args.folder();
    check_targets(args, &dir)?;
    super::start_threads(args.threads())?;
    let mut out = if args.quiet || args.json { Out::none() } else { Out::stdout() };
    let job = P::open(args)?;
    let outlook = job.outlook(&mut out)?;
    if args.dry_run {
        return if args.json {
            Out::stdout().json(&outlook)
        } else {
            out.line("\nDry run: nothing was computed or written.")
        };
    }
    let folder = RunFolder::open(&dir, &describe(&job)?)?;
    let outcome =
        logged(&dir, args.quiet || args.json, "prune", |reporter| job.make(&folder, reporter))?;
    P::report(&mut out, &outcome)?;
    if args.json {
        Out::stdout().json(&outcome)?;
    }
    if kept {
        out.field("run folder", dir.display())?;
    }
    folder.close(kept)
}

/// A plan that a search has found.
struct Plan<'a> {
    /// What the file says it is.
    format: &'a str,
    /// SHA-256 of the source, and its bytes.
    source: (&'a str, u64),
    /// SHA-256 of the plan.
    sha256: &'a str,
    search: &'a SearchOutcome,
}

impl<'a> Plan<'a> {
    fn of(format: &'a str, made: &'a Made) -> Self {
        let source = (&*made.source_sha256, made.source_bytes);
        Self { format, source, sha256: &made.plan_sha256, search: &made.search }
    }
}

/// Writes `plan.json`: what every plan says, and `own` entries. Nothing in the file depends on
/// the clock.
fn write_plan(folder: &RunFolder, plan: &Plan<'_>, own: Value) -> Result<(), CliError> {
    let mut plan = json!({
        "format": plan.format,
        "version": PLAN_VERSION,
        "rco": env!("CARGO_PKG_VERSION"),
        "model": { "sha256": plan.source.0, "bytes": plan.source.1 },
        "sha256": plan.sha256,
        "heldout_kl": plan.search.loss_heldout,
        "method": plan.search.method,
        "found_by": plan.search.origin,
    });
    if let (Some(plan), Value::Object(own)) = (plan.as_object_mut(), own) {
        plan.extend(own);
    }
    output::write_json(&folder.plan(), &plan)
}

/// Refuses to overwrite what is not meant.
fn check_targets(args: &Args, dir: &Path) -> Result<(), CliError> {
    let Some(path) = args.output.as_deref().filter(|_| !args.dry_run) else { return Ok(()) };
    // A run that was killed may have written its output already.
    let own = dir.join("run.json").exists() && written_plan(path).is_some();
    check_output(path, args.force || own)?;
    // Names a folder that is missing.
    output::check_target(path, true)
}

/// What the run computes: the content of every input, and all settings that change it.
fn describe<P: Pruning>(job: &P) -> Result<Description, CliError> {
    let CommonSettings { model, text, work, seed, .. } = job.common();
    let hash = |path: &Path| rco_quant::hash::sha256_file(path).map_err(CliError::from);
    let hashes = |files: &[std::path::PathBuf]| {
        files.iter().map(|path| hash(path)).collect::<Result<Vec<_>, _>>()
    };
    let (budget, own) = job.budget();
    let mut kept = json!({ "texts": hashes(&text.files)?, "work": work, "seed": seed });
    if let (Some(kept), Value::Object(own)) = (kept.as_object_mut(), own) {
        kept.extend(own);
        if !text.weights.is_empty() {
            kept.insert("weights".to_owned(), json!(text.weights));
        }
        // With another limit only the search is another, which has a folder for each.
        if text.limit.is_some() {
            kept.insert("protected".to_owned(), json!(hashes(&text.protected)?));
        }
    }
    let command = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    Ok(Description::new(model, &job.source_sha256()?, json!(budget), kept, command))
}
