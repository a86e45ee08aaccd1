//! `rco inspect`: what is in a model.

use std::path::PathBuf;

use rco_formats::inspect::{inspect, render};

use crate::error::CliError;
use crate::output::Out;

/// Show what is in a model and what it can be stored as
///
/// Reads a GGUF file, any part of a split one, a Hugging Face folder or a safetensors
/// file: architecture, number of weights, types and bits per weight of each part of the
/// model, and the types that the rows of its matrices fit. Only headers are read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rco inspect model.gguf
  rco inspect --tensors model-00001-of-00003.gguf
  rco inspect --json Qwen3-8B/ | jq .bits_per_weight")]
pub(crate) struct Args {
    /// A GGUF file, a safetensors file or a Hugging Face folder
    #[arg(value_name = "FILE|FOLDER")]
    model: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print everything as JSON, with every tensor
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let report = inspect(&args.model)?;
    let mut out = Out::stdout();
    if args.json { out.json(&report) } else { out.line(render(&report, args.tensors).trim_end()) }
}
