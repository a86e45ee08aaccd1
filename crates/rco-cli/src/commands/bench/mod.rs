//! `rco bench`: what is claimed about the engine, measured.

mod contest;
mod engine;
mod knapsack;
mod pack;
mod prune;
mod quantize;
mod sparsity;
mod synthetic;

use std::fs;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::CliError;
use crate::output;

/// Measure what is claimed about the engine
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    Engine(Box<engine::Args>),
    Knapsack(knapsack::Args),
    Pack(Box<pack::Args>),
    Prune(Box<prune::Args>),
    Quantize(Box<quantize::Args>),
    Sparsity(Box<sparsity::Args>),
    Synthetic(synthetic::Args),
}

pub(crate) fn run(bench: &Bench) -> Result<(), CliError> {
    match bench {
        Bench::Engine(args) => engine::run(args),
        Bench::Knapsack(args) => knapsack::run(args),
        Bench::Pack(args) => pack::run(args),
        Bench::Prune(args) => prune::run(args),
        Bench::Quantize(args) => quantize::run(args),
        Bench::Sparsity(args) => sparsity::run(args),
        Bench::Synthetic(args) => synthetic::run(args),
    }
}

/// A bar over instances on standard error, hidden where that is no terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Creates the folder of the results.
fn create_folder(dir: &Path) -> Result<(), CliError> {
    fs::create_dir_all(dir).map_err(CliError::io(dir, "creating the folder"))
}

fn write_csv(path: &Path, rows: &[impl Serialize]) -> Result<(), CliError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = rows.iter().try_for_each(|row| writer.serialize(row));
    written.map_err(|e| CliError::io(path, "encoding")(e.into()))?;
    let bytes = writer.into_inner().map_err(|e| CliError::io(path, "encoding")(e.into_error()))?;
    output::write(path, &bytes)
}

/// Parses `252x7`.
fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let wrong = || "expected groups x options, such as 252x7".to_owned();
    let (groups, options) = text.split_once('x').ok_or_else(wrong)?;
    match (groups.parse(), options.parse()) {
        (Ok(groups), Ok(options)) if groups > 0 && options > 0 => Ok((groups, options)),
        _ => Err(wrong()),
    }
}
