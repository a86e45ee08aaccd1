//! The command line of `rco solve`.

use std::path::PathBuf;
use std::time::Duration;

use rco_core::search::{CheckpointSettings, MethodName, SearchSettings};
use rco_problems::file::{BudgetOverride, Quantity};

use crate::error::CliError;

const EXAMPLES: &str = "\
Examples:
  rco solve problem.json
      The best plan within the budgets of the file.

  rco solve problem.json --budget bytes=5.9GB -o plan.json
      Another budget; the plan goes into a file.

  rco solve table.csv --budget bytes=512MiB
      CSV with the columns group, option, bytes, loss (and optionally size).

  rco solve problem.json --run runs/first
      A long search that survives anything: the same command goes on where it stopped.

  rco solve problem.json --method rco --steps 500 --seed 7
      One method instead of the portfolio of all.

  rco solve problem.json --dry-run
      What would be done, and whether the budgets can be met.

Budgets: 5.9GB, bytes=5.9GB (replaces the file's limit), experts==128 (met exactly).
Units: KB MB GB TB are powers of 1000, KiB MiB GiB TiB powers of 1024.";

/// Find the best plan for a problem file
///
/// Reads groups, options, costs, losses and budgets from PROBLEM (JSON, or CSV for
/// separable problems), searches for the plan with the smallest loss that keeps to every
/// budget to the unit, and says what is proven about it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    /// Problem file, .json or .csv (`rco schema` prints the schema of the former)
    pub(crate) problem: PathBuf,

    /// Budget that replaces or completes those of the file; may be given for each resource
    #[arg(short, long, value_name = "[RESOURCE=]AMOUNT")]
    pub(crate) budget: Vec<BudgetOverride>,

    /// Method: portfolio tries the cheap ones, then RCO, then polishes; exact needs a
    /// separable loss
    #[arg(short, long, value_name = "NAME", value_parser = method_parser())]
    method: Option<MethodName>,

    /// Seed of all random numbers; equal seeds give equal plans on any number of threads
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Threads; 0 takes all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Steps of the iterative method
    #[arg(long, value_name = "N")]
    steps: Option<u64>,

    /// Evaluations of the loss, over all stages together
    #[arg(long, value_name = "N")]
    max_evaluations: Option<u64>,

    /// Time; a plan that it cuts short depends on the speed of the machine
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    max_seconds: Option<Duration>,

    /// End the iterative method after so many steps without a better plan
    #[arg(long, value_name = "STEPS")]
    patience: Option<u64>,

    /// File with settings of the search in JSON; options given here take precedence
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// Folder of a resumable run: the same command again goes on where it stopped
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,

    /// Least time between two checkpoints of a run
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "10",
          requires = "run")]
    checkpoint_every: Duration,

    /// Write the plan into this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Overwrite the output file
    #[arg(long)]
    pub(crate) force: bool,

    /// Print the choice for every group
    #[arg(long)]
    pub(crate) plan: bool,

    /// Print one JSON object instead of text
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,

    /// Check the problem and say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Largest problem file to read
    #[arg(long, value_name = "AMOUNT", default_value = "256MiB", hide_short_help = true)]
    pub(crate) max_file_size: Quantity,
}

fn method_parser() -> impl clap::builder::TypedValueParser<Value = MethodName> {
    use clap::builder::TypedValueParser;
    let names = MethodName::SELECTABLE.map(MethodName::as_str);
    clap::builder::PossibleValuesParser::new(names).try_map(|name| name.parse::<MethodName>())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| "expected a number of seconds, 0 or more".to_owned())
}

impl Args {
    /// The settings: those of the file, then those of the command line.
    pub(crate) fn settings(&self) -> Result<SearchSettings, CliError> {
        let mut settings = match &self.settings {
            None => SearchSettings::default(),
            Some(path) => {
                let bytes = std::fs::read(path).map_err(CliError::io(path, "reading"))?;
                serde_json::from_slice(&bytes)
                    .map_err(|source| CliError::Settings { path: path.clone(), source })?
            }
        };
        settings.method = self.method.unwrap_or(settings.method);
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.threads = self.threads.unwrap_or(settings.threads);
        settings.steps = self.steps.or(settings.steps);
        settings.evaluations = self.max_evaluations.or(settings.evaluations);
        settings.time_limit = self.max_seconds.or(settings.time_limit);
        settings.patience = self.patience.or(settings.patience);
        settings.checkpoint = self
            .run
            .as_ref()
            .map(|dir| CheckpointSettings { dir: dir.clone(), every: self.checkpoint_every });
        Ok(settings)
    }
}
