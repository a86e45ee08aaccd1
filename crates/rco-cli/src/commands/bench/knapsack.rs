//! `rco bench knapsack`: the exact knapsack against the clock and HiGHS.

use std::path::PathBuf;

use rco_bench::knapsack::{Row, Settings, run as measure};

use super::{create_folder, parse_size, progress_bar, write_csv};
use crate::error::CliError;
use crate::number::grouped;
use crate::output::{self, Out};
use crate::table::Columns;

/// The exact knapsack against the clock and HiGHS
///
/// Times the proof of optimality on instances shaped like language models and on the
/// classical hard families, on one thread.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sizes of the LLM-shaped instances: groups x options
    #[arg(long, value_name = "NxK", value_delimiter = ',', value_parser = parse_size)]
    sizes: Option<Vec<(usize, usize)>>,

    /// Instances of each kind
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,

    /// Timed solutions of each instance; the fastest and the median are shown
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,

    /// Seconds that HiGHS may take for an instance; 0 leaves it out
    #[arg(long, value_name = "SECONDS")]
    highs_seconds: Option<f64>,

    /// Write results.csv and settings.json into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let mut settings = Settings::default();
    settings.sizes = args.sizes.clone().unwrap_or(settings.sizes);
    settings.seeds = args.seeds.unwrap_or(settings.seeds);
    settings.repeats = args.repeats.unwrap_or(settings.repeats).max(1);
    if let Some(seconds) = args.highs_seconds {
        settings.highs_seconds = (seconds > 0.0).then_some(seconds);
    }
    let bar = progress_bar();
    let report = measure(&settings, |_, done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();

    let mut out = Out::stdout();
    let header = [
        "family",
        "size",
        "budget at",
        "noise",
        "min ms",
        "median ms",
        "gap",
        "core",
        "HiGHS ms",
        "HiGHS proves",
    ];
    let mut table = Columns::new(&header, 1);
    for row in &report.rows {
        table.row(cells(row));
    }
    out.line(table)?;
    if let Some(dir) = &args.out {
        create_folder(dir)?;
        write_csv(&dir.join("results.csv"), &report.rows)?;
        output::write_json(&dir.join("settings.json"), &report.settings)?;
        out.line(format!("\nresults in {}", dir.display()))?;
    }
    Ok(())
}

fn cells(row: &Row) -> [String; 10] {
    let highs = match (row.highs_ms, row.highs_proven) {
        (None, _) => "-",
        (_, Some(true)) => "yes",
        _ => "no",
    };
    [
        row.family.to_owned(),
        format!("{}x{}", grouped(row.groups as u64), row.options),
        format!("{}", row.tightness),
        format!("{}", row.temperature),
        format!("{:.3}", row.min_ms),
        format!("{:.3}", row.median_ms),
        if row.gap == 0.0 { "0".to_owned() } else { format!("{:.1e}", row.gap) },
        format!("{}/{}", grouped(row.core_groups as u64), grouped(row.core_options as u64)),
        row.highs_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}")),
        highs.to_owned(),
    ]
}
