//! `rco bench quantize`: the full search against what else there is.

use std::path::PathBuf;

use rco_bench::quantize::{QuantizeSettings, Row, run as measure};
use rco_formats::gguf::TensorType;
use rco_problems::file::Quantity;
use rco_quant::effort::Effort;
use rco_quant::job::{Job, JobSettings, MeasuredIn, Order, Target};
use rco_quant::menu::TypeFilter;
use rco_quant::rules::parse_type;

use super::{create_folder, write_csv};
use crate::commands::quantize::{Stages, parse_effort};
use crate::error::CliError;
use crate::number::grouped;
use crate::output::Out;
use crate::table::Columns;

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

    /// Texts to report on
    #[arg(long, value_name = "FILE", required = true)]
    heldout: Vec<PathBuf>,

    /// Windows of each of them
    #[arg(long, value_name = "N", default_value_t = 60)]
    windows: usize,

    /// Types allowed beside that of the source
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = parse_type)]
    types: Vec<TensorType>,

    /// How much work to spend: trial, quick, normal or thorough
    #[arg(long, value_name = "LEVEL", default_value = "normal", value_parser = parse_effort)]
    effort: Effort,

    /// Evaluations of the evolutionary search, as a multiple of those of the full one; 0
    /// leaves it out
    #[arg(long, value_name = "N", default_value_t = 10)]
    evolution: u64,

    /// Steps of RCO as the paper has it; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 200)]
    plain_steps: u64,

    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Folder of the run, kept afterwards
    #[arg(long, value_name = "DIR")]
    run: PathBuf,

    /// Write results.csv into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let order = |q: &Quantity| Order { target: Target::Size(q.value), output: PathBuf::new() };
    let settings = JobSettings {
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
        effort: args.effort,
        seed: args.seed,
        memory: None,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        force: true,
        verify: false,
    };
    let bench = QuantizeSettings {
        heldout: args.heldout.clone(),
        windows: args.windows,
        evolution: args.evolution,
        plain_steps: args.plain_steps,
    };
    create_folder(&args.run)?;
    let job = Job::open(settings)?;
    let mut stages = Stages::new(false);
    if let Some(dir) = &args.out {
        create_folder(dir)?;
    }
    let mut so_far: Vec<Row> = Vec::new();
    let mut progress = |row: &Row| {
        so_far.push(row.clone());
        if let Some(dir) = &args.out {
            // What is there when a long run is stopped; the whole is written in the end.
            let _ = write_csv(&dir.join("results.csv"), &so_far);
        }
        crate::output::note(&format!(
            "{} {} {}: {:.5} ± {:.5}",
            row.budget, row.contender, row.text, row.kl, row.error
        ));
    };
    let rows = measure(&job, &bench, &args.run, &mut stages, &mut progress)?;
    stages.finish();
    if let Some(dir) = &args.out {
        write_csv(&dir.join("results.csv"), &rows)?;
    }
    Out::stdout().line(table(&rows))
}

/// A row for each plan, a column for each text.
fn table(rows: &[Row]) -> Columns {
    let mut texts: Vec<&str> = rows.iter().map(|r| r.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    let mut header = vec!["budget", "plan", "bytes", "gradients", "seconds"];
    header.extend(&texts);
    let mut table = Columns::new(&header, 2);
    for group in rows.chunk_by(|a, b| a.budget == b.budget && a.contender == b.contender) {
        let row = &group[0];
        let mut cells = vec![
            grouped(row.budget),
            row.contender.clone(),
            grouped(row.bytes),
            row.gradients.to_string(),
            format!("{:.1}", row.seconds),
        ];
        for text in &texts {
            let found = group.iter().find(|r| r.text == *text);
            cells.push(found.map_or_else(String::new, |r| format!("{:.5} ± {:.5}", r.kl, r.error)));
        }
        table.row(cells);
    }
    table
}
