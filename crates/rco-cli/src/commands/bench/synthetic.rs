//! `rco bench synthetic`: search methods on problems with known optima.

use std::path::{Path, PathBuf};

use rco_bench::synthetic::{
    Family, Row, Summary, SyntheticSettings, effort_plot, gap_plot, run as measure, summarise,
};

use super::{create_folder, progress_bar, write_csv};
use crate::error::CliError;
use crate::output::{self, Out};
use crate::table::Columns;

/// RCO against the baselines on problems with known optima
///
/// Every method gets the same number of evaluations. The score is 100 for the optimum
/// and 0 for the mean of random feasible plans.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Families, by name; all if left out
    #[arg(long, value_name = "NAME", value_delimiter = ';')]
    families: Vec<String>,

    /// Numbers of groups
    #[arg(long, value_name = "N", value_delimiter = ',')]
    groups: Option<Vec<usize>>,

    /// Numbers of options of a group
    #[arg(long, value_name = "K", value_delimiter = ',')]
    options: Option<Vec<usize>>,

    /// Budgets, from 0 (all cheapest) to 1 (all dearest)
    #[arg(long, value_name = "SHARE", value_delimiter = ',')]
    tightness: Option<Vec<f64>>,

    /// Seeds of each shape
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,

    /// Limits of evaluations; with more than one the growth is plotted
    #[arg(long, value_name = "N", value_delimiter = ',')]
    limits: Option<Vec<u64>>,

    /// Methods, by the names of the table; all if left out
    #[arg(long, value_name = "NAME", value_delimiter = ';')]
    methods: Vec<String>,

    /// Write results.csv, summary.csv and plots into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let mut settings = SyntheticSettings::default();
    settings.families = families(&args.families, settings.families)?;
    settings.groups = args.groups.clone().unwrap_or(settings.groups);
    settings.options = args.options.clone().unwrap_or(settings.options);
    settings.tightness = args.tightness.clone().unwrap_or(settings.tightness);
    settings.seeds = args.seeds.unwrap_or(settings.seeds);
    settings.limits = args.limits.clone().unwrap_or(settings.limits);
    settings.methods.clone_from(&args.methods);

    let bar = progress_bar();
    let rows = measure(&settings, &|done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let mut limits = settings.limits.clone();
    limits.sort_unstable();
    limits.dedup();
    let largest: Vec<Row> =
        rows.iter().filter(|row| Some(&row.limit) == limits.last()).cloned().collect();
    let summaries = summarise(&largest);

    let mut out = Out::stdout();
    let header =
        ["family", "method", "score", "±", "worst", "solved", "raw over budget", "over budget"];
    let mut table = Columns::new(&header, 2);
    for summary in &summaries {
        table.row(cells(summary));
    }
    out.line(table)?;
    if let Some(dir) = &args.out {
        write(dir, &rows, &summaries, limits.len() > 1)?;
        out.line(format!("\nresults and plots in {}", dir.display()))?;
    }
    Ok(())
}

fn families(names: &[String], all: Vec<Family>) -> Result<Vec<Family>, CliError> {
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        all.iter().find(|family| family.name() == *name).copied().ok_or_else(|| {
            let known = all.iter().map(|family| family.name()).collect::<Vec<_>>().join("; ");
            CliError::UnknownFamily { name: name.clone(), known }
        })
    };
    names.iter().map(find).collect()
}

fn cells(summary: &Summary) -> [String; 8] {
    [
        summary.family.clone(),
        summary.method.clone(),
        format!("{:.3}", summary.score),
        format!("{:.3}", summary.standard_error),
        format!("{:.3}", summary.worst),
        format!("{}/{}", summary.solved, summary.instances),
        format!("{}", summary.raw_over_budget),
        format!("{}", summary.over_budget),
    ]
}

fn write(dir: &Path, rows: &[Row], summaries: &[Summary], growth: bool) -> Result<(), CliError> {
    create_folder(dir)?;
    write_csv(&dir.join("results.csv"), rows)?;
    write_csv(&dir.join("summary.csv"), summaries)?;
    let gaps = gap_plot("Distance to the optimum (score points, mean)", summaries)?;
    output::write(&dir.join("gap.svg"), gaps.as_bytes())?;
    if growth {
        let effort = effort_plot("Distance to the optimum over evaluations", rows)?;
        output::write(&dir.join("effort.svg"), effort.as_bytes())?;
    }
    Ok(())
}
