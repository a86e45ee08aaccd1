//! `rco eval`: how far a model is from another.

use std::fs;
use std::path::{Path, PathBuf};

use rco_model::engine::Footprint;
use rco_model::eval::Estimate;
use rco_problems::file::Quantity;
use rco_quant::compare::{NamedWindows, OnText, Opened, in_engine, in_runtime};
use rco_quant::job::Reporter;
use serde_json::json;

use crate::commands::quantize::Stages;
use crate::error::CliError;
use crate::number::grouped;
use crate::output::Out;
use crate::table::Columns;

/// Measure how far a model is from another on texts
///
/// MODEL and REFERENCE are GGUF files or Hugging Face folders with the same vocabulary. For
/// every text: the Kullback-Leibler divergence of each token's distribution from the
/// reference's (mean, median and the value that 99 % stay below, in nats), how often both
/// find the same token most likely, and the perplexity of both. Every number has its
/// standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rco eval small.gguf --against model.gguf --text wiki.txt --text code.txt
  rco eval small.gguf --against model.gguf --text wiki.txt --runtime llama.cpp
  rco eval small.gguf --against model.gguf --text wiki.txt --runtime engine-rounded
  rco eval small.gguf --against Qwen3-8B/ --text wiki.txt --json

A command that was interrupted or killed goes on when it is started again.")]
pub(crate) struct Args {
    /// The model
    model: PathBuf,

    /// What it is compared with
    #[arg(short, long, value_name = "REFERENCE")]
    against: PathBuf,

    /// Text to compare on; may be given several times
    #[arg(short, long, value_name = "FILE", required = true)]
    text: Vec<PathBuf>,

    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    window: u32,

    /// Windows of each text at most, from its beginning
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..))]
    windows: u32,

    /// What computes: our engine with activations in 32 bits, our engine with activations
    /// rounded as llama.cpp does on a CPU, or llama.cpp itself (the last two for GGUF files)
    #[arg(long, value_name = "NAME", default_value = "engine",
          value_parser = ["engine", "engine-rounded", "llama.cpp"])]
    runtime: String,

    /// Memory that our engine may take, such as 8GB: refused before it starts if it cannot do
    /// with that
    #[arg(long, value_name = "SIZE")]
    memory: Option<Quantity>,

    /// Say how much memory it would take, and compute nothing
    #[arg(long)]
    dry_run: bool,

    /// Threads; 0 takes all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Folder for what the reference computes, kept for the next comparison. Without it a
    /// folder beside MODEL is used and deleted in the end
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Print one JSON object instead of a table
    #[arg(long, conflicts_with = "quiet")]
    json: bool,

    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    super::start_threads(args.threads)?;
    let reference = Opened::new(&args.against)?;
    let mut texts: Vec<NamedWindows> = Vec::new();
    for path in &args.text {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(CliError::io(path, "reading"))?;
        let text = String::from_utf8(bytes).map_err(|e| CliError::NotText {
            path: path.clone(),
            offset: e.utf8_error().valid_up_to(),
        })?;
        let (window, count) = (args.window as usize, args.windows as usize);
        let windows = reference.windows(&name, &text, window, count)?;
        texts.push((name, windows));
    }
    let memory = args.memory.as_ref().map(|q| q.value);
    let (mut settings, footprint) = reference.settings(&texts, memory)?;
    settings.runtime_activations = args.runtime == "engine-rounded";
    if args.dry_run {
        return dry_run(args, &footprint, &texts);
    }
    let total: usize = texts.iter().map(|(_, windows)| 2 * windows.len()).sum();
    let mut stages = Stages::new(args.quiet || args.json);
    stages.stage("comparing", Some(total as u64));
    let mut progress = |done: usize| stages.advance(done as u64, "");
    let rows = if args.runtime == "llama.cpp" {
        let threads = rayon::current_num_threads();
        in_runtime(&args.model, &args.against, &texts, threads, &mut progress)?
    } else {
        let model = Opened::new(&args.model)?;
        let (cache, kept) = cache(args);
        let rows = in_engine(&model, &reference, &texts, settings, &cache, &mut progress)?;
        if !kept {
            fs::remove_dir_all(&cache).map_err(CliError::io(&cache, "deleting the cache"))?;
        }
        rows
    };
    stages.finish();
    let mut out = Out::stdout();
    if args.json {
        let names = (args.model.display().to_string(), args.against.display().to_string());
        return out.json(&json!({
            "model": names.0, "against": names.1, "runtime": args.runtime, "texts": rows,
        }));
    }
    out.line(table(&rows))
}

fn dry_run(args: &Args, footprint: &Footprint, texts: &[NamedWindows]) -> Result<(), CliError> {
    let windows: usize = texts.iter().map(|(_, windows)| windows.len()).sum();
    let mut out = Out::stdout();
    if args.json {
        return out.json(&json!({
            "windows": windows, "memory": footprint.peak(), "memory_by_part": footprint,
        }));
    }
    out.field("windows", windows)?;
    out.field("memory", format!("about {} bytes", grouped(footprint.peak())))?;
    out.line("\nDry run: nothing was computed or written.")
}

fn cache(args: &Args) -> (PathBuf, bool) {
    if let Some(dir) = &args.cache {
        return (dir.clone(), true);
    }
    let mut name = args.model.file_name().unwrap_or_default().to_owned();
    name.push(".rco-eval");
    (args.model.parent().unwrap_or(Path::new("")).join(name), false)
}

fn table(rows: &[OnText]) -> Columns {
    let header = [
        "text",
        "tokens",
        "mean KL",
        "median KL",
        "99 % KL",
        "same top",
        "perplexity",
        "reference's",
    ];
    let mut table = Columns::new(&header, 1);
    let number = |e: Estimate| format!("{:.6} ± {:.6}", e.value, e.error);
    let share = |e: Estimate| format!("{:.2} % ± {:.2}", 100.0 * e.value, 100.0 * e.error);
    let ppl = |e: Option<Estimate>| {
        e.map_or_else(String::new, |e| format!("{:.3} ± {:.3}", e.value, e.error))
    };
    for OnText { text, summary: s, .. } in rows {
        table.row([
            text.clone(),
            s.tokens.to_string(),
            number(s.kl_mean),
            number(s.kl_median),
            number(s.kl_99),
            share(s.same_top),
            ppl(s.perplexity),
            ppl(s.teacher_perplexity),
        ]);
    }
    table
}
