//! What the benchmarks of `rco quantize` have in common on the command line.

use std::path::PathBuf;

use rco_bench::BenchError;
use rco_bench::contest::{ContestSettings, Row};
use rco_quant::effort::Effort;

use super::{create_folder, write_csv};
use crate::commands::quantize::{Stages, parse_effort};
use crate::error::CliError;
use crate::number::grouped;
use crate::output::{Out, note};
use crate::table::Columns;

// A doc comment would become the help of the commands.
#[derive(Debug, clap::Args)]
pub(super) struct ContestFlags {
    /// Texts to report on
    #[arg(long, value_name = "FILE", required = true)]
    heldout: Vec<PathBuf>,

    /// Windows of each of them
    #[arg(long, value_name = "N", default_value_t = 60)]
    windows: usize,

    /// How much work to spend: trial, quick, normal or thorough
    #[arg(long, value_name = "LEVEL", default_value = "normal", value_parser = parse_effort)]
    pub(super) effort: Effort,

    /// Evaluations of the evolutionary search, as a multiple of those of the full one; 0
    /// leaves it out
    #[arg(long, value_name = "N", default_value_t = 10)]
    evolution: u64,

    /// Steps of RCO as the paper has it; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 200)]
    plain_steps: u64,

    /// Only contenders whose name holds this text, to add them to rows of an earlier run
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,

    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,

    /// Folder of the run, kept afterwards
    #[arg(long, value_name = "DIR")]
    pub(super) run: PathBuf,

    /// Write results.csv into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl ContestFlags {
    /// What is measured.
    pub(super) fn settings(&self) -> ContestSettings {
        ContestSettings {
            heldout: self.heldout.clone(),
            windows: self.windows,
            evolution: self.evolution,
            plain_steps: self.plain_steps,
            only: self.only.clone(),
        }
    }

    /// Runs a contest: rows are told and written as they come, and shown as a table.
    pub(super) fn show(
        &self,
        measure: impl FnOnce(&mut Stages, &mut dyn FnMut(&Row)) -> Result<Vec<Row>, BenchError>,
    ) -> Result<(), CliError> {
        create_folder(&self.run)?;
        if let Some(dir) = &self.out {
            create_folder(dir)?;
        }
        let mut stages = Stages::new(false);
        let mut so_far: Vec<Row> = Vec::new();
        let mut progress = |row: &Row| {
            so_far.push(row.clone());
            if let Some(dir) = &self.out {
                // What is there when a long run is stopped; the whole is written in the end.
                let _ = write_csv(&dir.join("results.csv"), &so_far);
            }
            note(&format!(
                "{} {} {}: {:.5} ± {:.5}",
                row.budget, row.contender, row.text, row.kl, row.error
            ));
        };
        let rows = measure(&mut stages, &mut progress)?;
        stages.finish();
        if rows.is_empty() && self.only.is_empty() {
            return Ok(());
        }
        if rows.is_empty() {
            return Err(BenchError::UnknownContender { name: self.only.join("`, `") }.into());
        }
        if let Some(dir) = &self.out {
            write_csv(&dir.join("results.csv"), &rows)?;
        }
        Out::stdout().line(table(&rows))
    }
}

/// A row for each plan, a column for each text.
fn table(rows: &[Row]) -> Columns {
    let mut texts: Vec<&str> = rows.iter().map(|r| r.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    let mut header = vec!["budget", "plan", "bytes", "bits", "over"];
    header.extend(["gradients", "draws", "measured", "seconds"]);
    header.extend(&texts);
    let mut table = Columns::new(&header, 2);
    for group in rows.chunk_by(|a, b| a.budget == b.budget && a.contender == b.contender) {
        let row = &group[0];
        let mut cells = vec![
            grouped(row.budget),
            row.contender.clone(),
            grouped(row.bytes),
            format!("{:.3}", row.bits),
            grouped(row.over),
            row.gradients.to_string(),
            row.draws.to_string(),
            row.measured.to_string(),
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
