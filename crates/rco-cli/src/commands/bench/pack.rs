//! `rco bench pack`: the full search over packed matrices against what else there is.

use std::path::PathBuf;

use rco_bench::pack::{Outside, run as measure};
use rco_quant::grid::FactorSettings;
use rco_quant::packed::{Limit, Order, Output, PackJob, PackSettings, Runtime, Zeros};
use rco_quant::size::BitsPerWeight;

use super::contest::ContestFlags;
use crate::error::CliError;

/// `rco quantize` of a Hugging Face folder against uniform widths, knapsacks and evolution, at
/// equal size
///
/// All plans are made of the same matrices, rounded by GPTQ on the same calibration text; all
/// are measured on texts that none has seen.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, a Hugging Face folder
    model: PathBuf,

    /// Bits per weight of the matrices, scales and zero points included
    #[arg(long, value_name = "BITS", value_delimiter = ',', required = true)]
    linear_bpw: Vec<BitsPerWeight>,

    /// Texts to calibrate on
    #[arg(short, long, value_name = "FILE", required = true)]
    text: Vec<PathBuf>,

    /// Widths of codes [default: all that the runtime unpacks]
    #[arg(long, value_name = "BITS", value_delimiter = ',')]
    widths: Vec<u8>,

    /// Columns that share a scale: 32, 64 or 128 [default: the largest that divides the rows]
    #[arg(long, value_name = "N")]
    group_size: Option<u32>,

    /// Grids with zero points: never, always or auto
    #[arg(long, value_name = "WHEN", default_value_t = Zeros::Auto)]
    zero_points: Zeros,

    /// Runtime whose rules the plans keep to: vllm, transformers or any
    #[arg(long, value_name = "NAME", default_value_t = Runtime::Any)]
    runtime: Runtime,

    /// Write options, calibration tokens and budgets into this folder for another program to
    /// search among, and do no more
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,

    /// Plans that another program has made of what was exported, JSON
    #[arg(long, value_name = "FILE", conflicts_with = "export")]
    plans: Vec<PathBuf>,

    /// Steps in which scales are tuned [default: by effort]
    #[arg(long, value_name = "N")]
    tuning_steps: Option<u64>,

    #[command(flatten)]
    contest: ContestFlags,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let order = |b: &BitsPerWeight| Order { limit: Limit::LinearBpw(*b), output: PathBuf::new() };
    let job = PackJob::open(PackSettings {
        model: args.model.clone(),
        orders: args.linear_bpw.iter().map(order).collect(),
        texts: args.text.clone(),
        widths: args.widths.clone(),
        group: args.group_size,
        zeros: args.zero_points,
        factor: FactorSettings::default(),
        nearest: false,
        options: Vec::new(),
        runtime: args.runtime,
        tuning: args.tuning_steps,
        format: Output::default(),
        shard: None,
        effort: args.contest.effort,
        seed: args.contest.seed,
        force: false,
    })?;
    let settings = args.contest.settings();
    let outside = Outside { export: args.export.clone(), plans: args.plans.clone() };
    let run = &args.contest.run;
    args.contest.show(|stages, report| measure(&job, &settings, &outside, run, stages, report))
}
