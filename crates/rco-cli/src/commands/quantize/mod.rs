//! `rco quantize`: the best GGUF that fits; and its steps as commands of their own.

mod args;
mod copy;
mod folder;
mod log;
mod plan_file;
mod progress;
mod report;

use std::path::Path;

use rco_quant::job::{Job, JobOutcome, JobSettings, MeasuredIn, Reporter, written_plan};
use rco_quant::output::existing;
use serde_json::json;

use self::args::Flags;
pub(crate) use self::args::{Args, BuildArgs, OptionsArgs, SearchArgs, parse_effort};
pub(crate) use self::log::logged;
pub(crate) use self::progress::Stages;
use self::report::Encoded;
use crate::error::CliError;
use crate::output::{self, Out};
use crate::run_folder::{Description, RunFolder};

/// What is done of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Everything.
    All,
    /// All that comes before the search.
    Options,
    /// The plan.
    Search,
    /// The file of the plan.
    Build,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::All => "quantize",
            Self::Options => "options",
            Self::Search => "search",
            Self::Build => "build",
        }
    }

    /// The command that comes after it.
    fn next(self) -> Option<&'static str> {
        match self {
            Self::Options => Some("rco search"),
            Self::Search => Some("rco build"),
            Self::All | Self::Build => None,
        }
    }

    fn writes_files(self) -> bool {
        matches!(self, Self::All | Self::Build)
    }
}

/// What a step has made.
enum Done {
    Encoded(Encoded),
    Planned(JobOutcome),
}

pub(crate) fn run(flags: &Flags, step: Step) -> Result<(), CliError> {
    if flags.is_folder() {
        return folder::run(flags, step);
    }
    flags.check_gguf()?;
    let settings = flags.settings()?;
    let (dir, kept) = flags.folder(&settings);
    if !flags.dry_run {
        check_targets(flags, step, &settings, &dir)?;
    }
    super::start_threads(settings.threads)?;
    let mut out = if flags.quiet || flags.json { Out::none() } else { Out::stdout() };
    if flags.copy && step.writes_files() && copy::copy_if_it_fits(flags, &settings, &mut out)? {
        return Ok(());
    }
    let job = Job::open(settings)?;
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
    let done = logged(&dir, flags.quiet || flags.json, step.name(), |reporter| {
        take(step, &job, &dir, &folder, reporter)
    })?;
    match done {
        Done::Encoded(encoded) => {
            report::encoded(&mut out, &encoded)?;
            if flags.json {
                Out::stdout().json(&encoded)?;
            }
        }
        Done::Planned(outcome) => {
            if let Some(path) = &flags.tensor_types_file {
                write_tensor_types(path, &outcome)?;
            }
            report::outcome(&mut out, &outcome, flags.plan)?;
            if flags.json {
                Out::stdout().json(&outcome)?;
            }
        }
    }
    if kept {
        out.field("run folder", dir.display())?;
        if step == Step::Search {
            out.field("plan", folder.plan().display())?;
        }
    }
    if let Some(next) = step.next() {
        out.field("next", format!("{next}, with the same arguments"))?;
    }
    folder.close(kept)
}

/// Does the step.
fn take(
    step: Step,
    job: &Job,
    dir: &Path,
    folder: &RunFolder,
    reporter: &mut dyn Reporter,
) -> Result<Done, CliError> {
    if step == Step::Build {
        plan_file::check_there(&folder.plan())?;
    }
    let prepared = job.prepare(dir, reporter)?;
    let plans = match step {
        Step::Options => return Ok(Done::Encoded(Encoded::new(&prepared))),
        Step::Build => plan_file::read(&folder.plan(), &prepared, job.budgets())?,
        Step::All | Step::Search => {
            let plans = job.search(&prepared, dir, reporter)?;
            plan_file::write(&folder.plan(), &job.outcome(&prepared, &plans)?)?;
            plans
        }
    };
    Ok(Done::Planned(if step.writes_files() {
        job.build(&prepared, &plans, dir, reporter)?
    } else {
        job.outcome(&prepared, &plans)?
    }))
}

/// Refuses to overwrite what is not meant.
fn check_targets(
    flags: &Flags,
    step: Step,
    settings: &JobSettings,
    dir: &Path,
) -> Result<(), CliError> {
    let resumed = dir.join("run.json").exists();
    for order in settings.orders.iter().filter(|_| step.writes_files()) {
        // A run that was killed may have written its file already.
        let there = existing(&order.output, settings.split.is_some());
        let there = there.unwrap_or_else(|| order.output.clone());
        let own = resumed && written_plan(&there).is_some();
        output::check_target(&there, flags.force || own)?;
    }
    match &flags.tensor_types_file {
        Some(path) => output::check_target(path, flags.force),
        None => Ok(()),
    }
}

/// What the run computes: the content of every input, and all settings that change it.
fn describe(job: &Job) -> Result<Description, CliError> {
    let settings = job.settings();
    let hash = |path: &Path| rco_quant::hash::sha256_file(path).map_err(CliError::from);
    let texts = settings.texts.iter().map(|path| hash(path)).collect::<Result<Vec<_>, _>>()?;
    let imatrix = settings.imatrix.as_deref().map(hash).transpose()?;
    let names = |types: &[rco_formats::gguf::TensorType]| -> Vec<String> {
        types.iter().map(ToString::to_string).collect()
    };
    let (sha256, options) = job.hashes()?;
    let mut kept = json!({
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
    if let Some(part) = settings.split {
        kept["split"] = json!(part);
    }
    if settings.measured_in == MeasuredIn::Engine {
        kept["tuning_steps"] = json!(settings.tuning_steps());
    }
    if settings.drop_experts {
        kept["drop_experts"] = json!(true);
    }
    if settings.measured_in == MeasuredIn::Runtime {
        kept["gradients"] = json!(false);
    }
    if !options.is_empty() {
        kept["options"] = json!(options);
    }
    let budgets: Vec<String> = settings.orders.iter().map(|o| format!("{:?}", o.target)).collect();
    let command = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    Ok(Description::new(&settings.model, sha256, json!(budgets), kept, command))
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

/// A line `^tensor$=type` for every tensor, as `llama-quantize --tensor-type-file` reads it.
fn write_tensor_types(path: &Path, outcome: &JobOutcome) -> Result<(), CliError> {
    let Some(file) = outcome.files.first() else { return Ok(()) };
    let lines = file.plan.iter().map(|(name, form)| {
        format!("^{}$={}\n", name.replace('.', "\\."), form.ty.to_string().to_lowercase())
    });
    output::write(path, lines.collect::<String>().as_bytes())
}
