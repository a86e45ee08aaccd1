//! `rco bench quantize`: the full search against what else there is.

use std::path::PathBuf;

use rco_bench::quantize::run as measure;
use rco_formats::gguf::TensorType;
use rco_problems::file::Quantity;
use rco_quant::job::{Job, JobSettings, MeasuredIn, Order, Target};
use rco_quant::menu::TypeFilter;
use rco_quant::rules::parse_type;

use super::contest::ContestFlags;
use crate::error::CliError;

/// `rco quantize` against llama.cpp's recipes, knapsacks and evolution, at equal size
///
/// All plans are made of the same tensors and see the same calibration text; all are
/// measured on texts that none has seen.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, a GGUF file
    model: PathBuf,

    /// Sizes of the whole file
    #[arg(short, long, value_name = "SIZE", value_delimiter = ',', required = true)]
    sizes: Vec<Quantity>,

    /// Texts to calibrate on; without any the model writes its own
    #[arg(short, long, value_name = "FILE")]
    text: Vec<PathBuf>,

    /// Types allowed beside that of the source
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = parse_type)]
    types: Vec<TensorType>,

    /// Steps in which scales are tuned [default: by effort]
    #[arg(long, value_name = "N")]
    tuning_steps: Option<u64>,

    #[command(flatten)]
    contest: ContestFlags,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let order = |q: &Quantity| Order { target: Target::Size(q.value), output: PathBuf::new() };
    let job = Job::open(JobSettings {
        model: args.model.clone(),
        orders: args.sizes.iter().map(order).collect(),
        texts: args.text.clone(),
        imatrix: None,
        options: Vec::new(),
        filter: TypeFilter { only: args.types.clone(), ..TypeFilter::default() },
        pins: Vec::new(),
        ties: Vec::new(),
        fuse_friendly: false,
        drop_experts: false,
        measured_in: MeasuredIn::Engine,
        split: None,
        effort: args.contest.effort,
        seed: args.contest.seed,
        memory: None,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        force: true,
        verify: false,
        tuning: args.tuning_steps,
    })?;
    let settings = args.contest.settings();
    args.contest.show(|stages, report| measure(&job, &settings, &args.contest.run, stages, report))
}
