//! `plan.json` of a run folder: the form of every tensor for every budget.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rco_quant::job::{JobOutcome, OptionsFile, Planned, Prepared};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::output;

const FORMAT: &str = "rco-model-plan";
const VERSION: u32 = 1;

/// Writes the plans; nothing in the file depends on the clock.
pub(super) fn write(path: &Path, outcome: &JobOutcome) -> Result<(), CliError> {
    let files = outcome.files.iter().map(|file| {
        let forms = file.plan.iter().map(|(name, form)| (name.clone(), json!(form)));
        json!({
            "budget": file.budget,
            "bytes": file.bytes,
            "slack": file.slack,
            "sha256": file.plan_sha256,
            "heldout_kl": file.search.as_ref().map(|s| s.loss_heldout),
            "method": file.search.as_ref().map(|s| s.method),
            "found_by": file.search.as_ref().map(|s| &s.origin),
            "experts": file.experts,
            "tensors": forms.collect::<Map<String, Value>>(),
        })
    });
    let plan = json!({
        "format": FORMAT,
        "version": VERSION,
        "rco": env!("CARGO_PKG_VERSION"),
        "model": { "sha256": outcome.source_sha256, "bytes": outcome.source_bytes },
        "options": outcome.options,
        "files": files.collect::<Vec<_>>(),
    });
    output::write_json(path, &plan)
}

#[derive(Deserialize)]
struct PlanFile {
    format: String,
    version: u32,
    model: Model,
    options: Vec<Options>,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct Model {
    sha256: String,
}

#[derive(Deserialize)]
struct Options {
    name: String,
    sha256: String,
}

#[derive(Deserialize)]
struct File {
    budget: u64,
    /// Experts that remain in each block; none if all do.
    #[serde(default)]
    experts: Vec<Vec<usize>>,
    /// Names of forms by those of tensors.
    tensors: BTreeMap<String, String>,
}

/// Refuses to go on without a plan, before anything is computed.
pub(super) fn check_there(path: &Path) -> Result<(), CliError> {
    if path.is_file() { Ok(()) } else { Err(CliError::NoPlan { path: path.to_owned() }) }
}

/// Reads the plan of every budget.
pub(super) fn read(
    path: &Path,
    prepared: &Prepared,
    budgets: &[u64],
) -> Result<Vec<Planned>, CliError> {
    let wrong = |problem: String| CliError::Plan { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CliError::NoPlan { path: path.to_owned() },
        _ => CliError::io(path, "reading")(error),
    })?;
    let file: PlanFile =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    if file.format != FORMAT || file.version != VERSION {
        let found = format!("{} {}", file.format, file.version);
        return Err(wrong(format!("expected {FORMAT} {VERSION}, found {found}")));
    }
    let (found, expected) = (&file.model.sha256, &prepared.source_sha256);
    if found != expected {
        return Err(wrong(format!(
            "it was made for another model (SHA-256 {found}, here {expected})"
        )));
    }
    let same = |(a, b): (&Options, &OptionsFile)| a.name == b.name && a.sha256 == b.sha256;
    if file.options.len() != prepared.options.len()
        || !file.options.iter().zip(&prepared.options).all(same)
    {
        return Err(wrong("it was made with other files of --options".to_owned()));
    }
    let plan_of = |&budget: &u64| {
        let file = file.files.iter().find(|file| file.budget == budget);
        let file = file.ok_or_else(|| wrong(format!("it has no plan for {budget} bytes")))?;
        let mut versions = prepared.versions();
        let version = versions.position(|v| v.groups.menu().experts == file.experts);
        let version = version.ok_or_else(|| {
            wrong(
                "the experts that it keeps are not those of a version that this run has made: \
                   search again, or put back what the search wrote"
                    .to_owned(),
            )
        })?;
        let groups = &prepared.version(version).groups;
        let plan = groups.assignment(|name| file.tensors.get(name).cloned()).map_err(wrong)?;
        Ok(Planned { version, plan, search: None, tried: Vec::new() })
    };
    budgets.iter().map(plan_of).collect()
}
