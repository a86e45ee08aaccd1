//! `rco schema`: the JSON schema of problem files.

use crate::error::CliError;
use crate::output::Out;

/// Print the JSON schema of problem files
///
/// Editors that know the schema complete and check problem files while they are written:
/// save it beside the file and name it in the field "$schema".
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rco schema > problem.schema.json")]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<(), CliError> {
    let mut out = Out::stdout();
    out.json(&rco_problems::file::schema())
}
