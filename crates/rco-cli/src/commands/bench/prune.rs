//! `rco bench prune`: the search for experts against what else there is.

use std::path::{Path, PathBuf};

use rco_bench::prune::{PruneBench, PruneRow, domains, enumerate, run as measure};
use rco_quant::effort::Effort;
use rco_quant::job::Reporter;
use rco_quant::prune::effort::PruneWork;
use rco_quant::prune::{Amount, CommonSettings, JudgedText, PruneJob, PruneSettings};

use super::{create_folder, write_csv};
use crate::commands::quantize::{Stages, parse_effort};
use crate::error::CliError;
use crate::output::{Out, note};
use crate::table::Columns;

/// `rco prune` against rankings, evolution and all masks there are
///
/// All plans keep the same number of experts and see the same calibration text; all are
/// measured on texts that none has seen.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    model: PathBuf,

    /// What is measured: plans of all kinds on held-out texts, plans for single domains, or
    /// all masks on the calibration text
    #[arg(long, value_name = "PART", default_value = "plans",
          value_parser = ["plans", "domains", "enumeration"])]
    part: String,

    /// Experts to drop
    #[arg(short, long, value_name = "AMOUNT", value_delimiter = ',', default_value = "25%")]
    experts: Vec<Amount>,

    /// The same number in each layer
    #[arg(long)]
    per_layer: bool,

    /// Texts to calibrate on
    #[arg(short, long, value_name = "FILE", required = true)]
    text: Vec<PathBuf>,

    /// Texts to report on
    #[arg(long, value_name = "FILE")]
    heldout: Vec<PathBuf>,

    /// Windows of each of them
    #[arg(long, value_name = "N", default_value_t = 32)]
    windows: usize,

    /// How much work to spend: trial, quick, normal or thorough
    #[arg(long, value_name = "LEVEL", default_value = "normal", value_parser = parse_effort)]
    effort: Effort,

    /// Tokens of a window, instead of those of the effort
    #[arg(long, value_name = "TOKENS")]
    window: Option<usize>,

    /// Calibration windows, instead of those of the effort
    #[arg(long, value_name = "N")]
    calibration: Option<usize>,

    /// Evaluations of the evolutionary search at most, as a multiple of those of the full
    /// search; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 16)]
    evolution: u64,

    /// Random plans
    #[arg(long, value_name = "N", default_value_t = 3)]
    random: u64,

    /// Also RCO with other forms of gradients
    #[arg(long)]
    forms: bool,

    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Folder of the run, kept afterwards
    #[arg(long, value_name = "DIR")]
    run: PathBuf,

    /// Write the rows into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Args {
    fn job(&self, amount: Amount, texts: &[PathBuf]) -> Result<PruneJob, CliError> {
        let mut work = PruneWork::new(self.effort);
        work.window = self.window.unwrap_or(work.window);
        work.calibration = self.calibration.unwrap_or(work.calibration);
        Ok(PruneJob::open(PruneSettings {
            common: CommonSettings {
                model: self.model.clone(),
                output: None,
                text: JudgedText::alike(texts.to_vec()),
                work,
                seed: self.seed,
                threads: std::thread::available_parallelism().map_or(1, usize::from),
                force: false,
                verify: false,
            },
            amount,
            per_layer: self.per_layer,
            min_experts: None,
            max_spread: None,
        })?)
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.out.as_ref().map(|dir| dir.join(name))
    }
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    create_folder(&args.run)?;
    if let Some(dir) = &args.out {
        create_folder(dir)?;
    }
    let mut stages = Stages::new(false);
    let Some(&first) = args.experts.first() else { return Ok(()) };
    match args.part.as_str() {
        "plans" => plans(args, first, &mut stages),
        "domains" => for_domains(args, first, &mut stages),
        _ => all_masks(args, first, &mut stages),
    }
}

fn plans(args: &Args, first: Amount, stages: &mut Stages) -> Result<(), CliError> {
    let job = args.job(first, &args.text)?;
    let bench = PruneBench {
        amounts: args.experts.clone(),
        per_layer: args.per_layer,
        heldout: args.heldout.clone(),
        windows: args.windows,
        random: args.random,
        evolution: args.evolution,
        forms: args.forms,
    };
    let prepared = job.prepare(&args.run, stages)?;
    stages.finish();
    let name = if args.per_layer { "results-per-layer.csv" } else { "results.csv" };
    let path = args.file(name);
    let mut so_far: Vec<PruneRow> = Vec::new();
    let mut progress = |row: &PruneRow| {
        so_far.push(row.clone());
        if let Some(path) = &path {
            // What is there when a long run is stopped; the whole is written in the end.
            let _ = write_csv(path, &so_far);
        }
        note(&format!(
            "{} {} {}: {:.5} ± {:.5}, calibration {:.5}, {} evaluations",
            row.share, row.contender, row.text, row.kl, row.error, row.calibration, row.evaluations
        ));
    };
    let rows = measure(&job, &prepared, &bench, &mut progress)?;
    if let Some(path) = &path {
        write_csv(path, &rows)?;
    }
    let header = ["share", "plan", "text", "KL", "±", "calibration KL", "evaluations", "gradients"];
    let mut table = Columns::new(&header, 3);
    for row in rows {
        table.row([
            row.share,
            row.contender,
            row.text,
            format!("{:.5}", row.kl),
            format!("{:.5}", row.error),
            format!("{:.5}", row.calibration),
            row.evaluations.to_string(),
            row.gradients.to_string(),
        ]);
    }
    Out::stdout().line(table)
}

fn for_domains(args: &Args, first: Amount, stages: &mut Stages) -> Result<(), CliError> {
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut jobs = Vec::new();
    for text in &args.text {
        jobs.push((name(text), args.job(first, std::slice::from_ref(text))?));
    }
    jobs.push(("all".to_owned(), args.job(first, &args.text)?));
    let rows = domains(&jobs, &args.run, stages)?;
    stages.finish();
    if let Some(path) = args.file("domains.csv") {
        write_csv(&path, &rows)?;
    }
    let mut table = Columns::new(&["chosen for", "text", "KL", "±"], 2);
    for row in rows {
        let text = name(Path::new(&row.text));
        table.row([row.chosen_for, text, format!("{:.5}", row.kl), format!("{:.5}", row.error)]);
    }
    Out::stdout().line(table)
}

fn all_masks(args: &Args, first: Amount, stages: &mut Stages) -> Result<(), CliError> {
    let job = args.job(first, &args.text)?;
    let prepared = job.prepare(&args.run, stages)?;
    stages.stage("all masks", None);
    let rows = enumerate(&job, &prepared, &mut |done| stages.advance(done as u64, ""))?;
    stages.finish();
    if let Some(path) = args.file("enumeration.csv") {
        write_csv(&path, &rows)?;
    }
    let header = ["plan", "KL", "of the best", "masks better", "masks", "evaluations"];
    let mut table = Columns::new(&header, 1);
    for row in rows {
        table.row([
            row.contender,
            format!("{:.6}", row.kl),
            format!("{:.4}", row.ratio),
            row.better.to_string(),
            row.masks.to_string(),
            row.evaluations.to_string(),
        ]);
    }
    Out::stdout().line(table)
}
