//! `rco bench engine`: the gradient of the model engine against PyTorch.

use std::path::{Path, PathBuf};

use rco_bench::engine::write_gradients;
use rco_bench::engine::{
    Agreement, Report, Row, Shape, Side, ask, contest, measure, measure_large, write, write_random,
};
use rco_model::Settings;
use rco_problems::file::Quantity;

use super::{create_folder, write_csv};
use crate::error::CliError;
use crate::number::grouped;
use crate::output::{self, Out};
use crate::table::Columns;

/// One forward and backward pass with option gradients, against PyTorch
///
/// Both sides have the same weights, tokens and loss (KL from the original, over the whole
/// vocabulary). PyTorch computes the gradients of the same matrices without options, and with
/// weights interpolated between all options, as the reference implementation of RCO does. Its
/// Python is made by benchmarks/engine/setup.sh; without it only our side runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, a dense GGUF file of the llama architecture
    #[arg(required_unless_present_any = ["shape", "side"])]
    model: Option<PathBuf>,

    /// Text that the tokens are taken from
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["shape", "side"])]
    text: Option<PathBuf>,

    /// Sequences and tokens of each
    #[arg(long, value_name = "NxLENGTH", default_value = "4x512", value_parser = super::parse_size)]
    batch: (usize, usize),

    /// Options of each matrix
    #[arg(long, value_name = "K", default_value_t = 6,
          value_parser = clap::value_parser!(u32).range(1..=6))]
    options: u32,

    /// Rounds, in each of which every side runs once
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,

    /// Passes of a side in each round
    #[arg(long, value_name = "N", default_value_t = 2)]
    repeats: usize,

    /// Threads of every side
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,

    /// Bytes that our forward pass may keep for the backward pass
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().keep_bytes)]
    keep: usize,

    /// Python with PyTorch
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,

    /// The script of the other side
    #[arg(long, value_name = "FILE", default_value = "benchmarks/engine/torch_side.py")]
    script: PathBuf,

    /// Folder for the files that both sides read: about 4 GB for a model of 135 M weights.
    /// They stay there
    #[arg(long, value_name = "DIR")]
    work: PathBuf,

    /// Compare the gradients, too
    #[arg(long)]
    compare: bool,

    /// Write results.csv, parts.csv and agreement.json into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Instead: one gradient of a random model of this shape (8b), written into the work
    /// folder (16 GB) and read from there
    #[arg(long, value_name = "NAME", value_parser = ["8b"])]
    shape: Option<String>,

    /// Blocks of that shape
    #[arg(long, value_name = "N", default_value_t = Shape::LLAMA_8B.layers)]
    layers: u32,

    /// Memory that it may take
    #[arg(long, value_name = "SIZE", default_value = "8GB")]
    memory: Quantity,

    /// Tokens of its one sequence
    #[arg(long, value_name = "N", default_value_t = 64)]
    tokens: usize,

    /// Run our side only and print what it measures, as JSON
    #[arg(long, hide = true)]
    side: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    crate::commands::start_threads(args.threads)?;
    if args.side {
        return Out::stdout().json(&measure(&args.work, args.repeats, args.keep)?);
    }
    create_folder(&args.work)?;
    if args.shape.is_some() {
        return large(args);
    }
    if !args.work.join("index.json").exists()
        && let (Some(text), Some(model)) = (&args.text, &args.model)
    {
        output::note("writing the files of both sides");
        let (sequences, length) = args.batch;
        write(&args.work, model, text, (sequences, length, args.options as usize))?;
    }
    let sides = sides(args)?;
    let mut progress = |row: &Row| {
        output::note(&format!("{} {}: {:.3} s", row.side, row.repeat, row.seconds));
    };
    let report = contest(&args.work, &sides, args.rounds, &mut progress)?;
    let agreement = if args.compare { agreement(args)? } else { None };
    if let Some(dir) = &args.out {
        create_folder(dir)?;
        write_csv(&dir.join("results.csv"), &report.rows)?;
        write_csv(&dir.join("parts.csv"), &report.parts)?;
        if let Some(agreement) = &agreement {
            let text = serde_json::to_vec_pretty(agreement).unwrap_or_default();
            output::write(&dir.join("agreement.json"), &text)?;
        }
    }
    print(&report, agreement.as_ref())
}

/// One gradient of a model that is larger than the memory allowed.
fn large(args: &Args) -> Result<(), CliError> {
    let path = args.work.join("random.gguf");
    if !path.exists() {
        let shape = Shape { layers: args.layers, ..Shape::LLAMA_8B };
        output::note("writing a random model");
        write_random(&path, &shape)?;
    }
    let report = measure_large(&path, args.tokens, args.memory.value)?;
    if let Some(dir) = &args.out {
        create_folder(dir)?;
        let text = serde_json::to_vec_pretty(&report).unwrap_or_default();
        output::write(&dir.join("large.json"), &text)?;
    }
    Out::stdout().json(&report)
}

fn script(args: &Args, python: &Path, mode: &str, name: &str) -> Side {
    let mut arguments = vec![args.script.display().to_string(), mode.to_owned()];
    arguments.push(args.work.display().to_string());
    arguments.push(args.repeats.to_string());
    arguments.push(args.threads.to_string());
    Side { name: name.to_owned(), program: python.to_owned(), arguments }
}

fn sides(args: &Args) -> Result<Vec<Side>, CliError> {
    let program = std::env::current_exe()?;
    let number = |n: usize| n.to_string();
    let mut arguments = vec!["bench".to_owned(), "engine".to_owned(), "--side".to_owned()];
    for (flag, value) in [
        ("--work", args.work.display().to_string()),
        ("--repeats", number(args.repeats)),
        ("--threads", number(args.threads)),
        ("--keep", number(args.keep)),
    ] {
        arguments.extend([flag.to_owned(), value]);
    }
    let mut sides = vec![Side { name: "rco".to_owned(), program, arguments }];
    if let Some(python) = &args.python {
        for (mode, name) in [
            ("plain", "torch, weight gradients"),
            ("interpolated", "torch, interpolated"),
            ("interpolated-bf16", "torch, interpolated, bf16 copies"),
        ] {
            sides.push(script(args, python, mode, name));
        }
    }
    Ok(sides)
}

/// Writes our gradients and lets the other side compare them with its own.
fn agreement(args: &Args) -> Result<Option<Agreement>, CliError> {
    let Some(python) = &args.python else { return Ok(None) };
    write_gradients(&args.work)?;
    Ok(Some(ask(&script(args, python, "compare", "torch, comparison"))?))
}

fn print(report: &Report, agreement: Option<&Agreement>) -> Result<(), CliError> {
    let mut names: Vec<&str> = Vec::new();
    for row in &report.rows {
        if !names.contains(&row.side.as_str()) {
            names.push(&row.side);
        }
    }
    let header =
        ["side", "fastest s", "median s", "processor s", "peak RSS", "sgemm GF/s", "share", "loss"];
    let mut table = Columns::new(&header, 1);
    let peak = report.rows.iter().map(|r| r.sgemm).fold(0.0, f64::max);
    for name in names {
        let rows: Vec<&Row> = report.rows.iter().filter(|r| r.side == name).collect();
        let mut seconds: Vec<f64> = rows.iter().map(|r| r.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let sgemm = rows.iter().map(|r| r.sgemm).fold(0.0, f64::max);
        let cpu = rows.iter().map(|r| r.cpu_seconds).fold(f64::INFINITY, f64::min);
        let threads = rows[0].threads as f64;
        let share = report.work.necessary() * threads / cpu / sgemm;
        let rss = rows.iter().map(|r| r.peak_rss).max().unwrap_or(0);
        table.row([
            name.to_owned(),
            format!("{:.3}", seconds[0]),
            format!("{:.3}", seconds[seconds.len() / 2]),
            format!("{cpu:.3}"),
            grouped(rss),
            format!("{:.1}", sgemm / 1e9),
            format!("{:.1} %", 100.0 * share),
            format!("{:.6}", rows[0].loss),
        ]);
    }
    let mut out = Out::stdout();
    out.line(table)?;
    let work = report.work;
    out.line(format!(
        "operations: {:.1} G in matrices forward, {:.1} G in attention, {:.1} G in logits; \
         necessary {:.1} G; largest sgemm rate {:.1} GF/s",
        work.matrices / 1e9,
        work.attention / 1e9,
        work.logits / 1e9,
        work.necessary() / 1e9,
        peak / 1e9,
    ))?;
    for (part, seconds) in &report.parts {
        out.line(format!("  {part:<18} {seconds:.3} s"))?;
    }
    if let Some(a) = agreement {
        out.line(format!(
            "gradients of {} matrices: smallest cosine {:.8} ({}); options: {:.8} ({}), all \
             together {:.8}",
            a.matrices, a.weights, a.worst_matrix, a.options, a.worst_options, a.all_options
        ))?;
    }
    Ok(())
}
