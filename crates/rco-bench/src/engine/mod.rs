//! The gradient of the model engine against PyTorch, on the same weights and tokens.
//!
//! Each side runs in a process of its own, one after the other, several rounds. PyTorch runs
//! through a script that is given the folder of the exchanged files and prints one JSON
//! object.

mod exchange;
mod large;
mod ours;
mod work;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use exchange::{Index, index, write};
pub use large::{LargeReport, Shape, measure_large, write_random};
pub use ours::{Measured, measure, peak_rss, write_gradients};
use serde::{Deserialize, Serialize};
pub use work::Work;

use crate::error::BenchError;

/// A side of the contest: a command that prints [`Measured`] as JSON.
#[derive(Debug, Clone)]
pub struct Side {
    /// What it is called.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// One repeat of one side.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Round.
    pub round: usize,
    /// The side.
    pub side: String,
    /// Repeat within the process; the first pays for first-time allocations.
    pub repeat: usize,
    /// Seconds, forward and backward.
    pub seconds: f64,
    /// Processor seconds, over all threads.
    pub cpu_seconds: f64,
    /// Largest resident memory of the process in bytes.
    pub peak_rss: u64,
    /// Operations a second of a product of two large matrices, in this process.
    pub sgemm: f64,
    /// Share of it that the necessary operations reach, by processor time.
    pub share: f64,
    /// Mean KL.
    pub loss: f64,
    /// Threads.
    pub threads: usize,
}

/// The rows of all rounds, and the parts of our fastest repeat.
#[derive(Debug, Clone)]
pub struct Report {
    /// All rows.
    pub rows: Vec<Row>,
    /// Name and seconds of each part.
    pub parts: Vec<(String, f64)>,
    /// Operations counted from the shapes.
    pub work: Work,
}

/// How the gradients of both sides compare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agreement {
    /// Smallest cosine between the gradients of a matrix, over all.
    pub weights: f64,
    /// The matrix.
    pub worst_matrix: String,
    /// Smallest cosine between the option gradients of a matrix, over all.
    pub options: f64,
    /// The matrix.
    pub worst_options: String,
    /// Cosine between all option gradients, theirs from their weight gradients in f64.
    pub all_options: f64,
    /// The same, theirs by automatic differentiation through the probabilities in f32.
    pub autograd_options: f64,
    /// Number of matrices.
    pub matrices: usize,
}

/// Runs a command and parses what it prints.
///
/// # Errors
/// A program that does not start, fails, or prints something else.
pub fn ask<T: for<'a> Deserialize<'a>>(side: &Side) -> Result<T, BenchError> {
    let mut command = Command::new(&side.program);
    // Threads that wait do not spin: processor time is then time of work.
    let output = command.args(&side.arguments).env("OMP_WAIT_POLICY", "passive").output();
    let output = output.map_err(BenchError::io(&side.program))?;
    let failed = |message: String| BenchError::Side { side: side.name.clone(), message };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let from = text.char_indices().rev().nth(500).map_or(0, |(i, _)| i);
        return Err(failed(text[from..].to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))
}

/// Lets all sides run in turn, `rounds` times; `progress` sees each row.
///
/// # Errors
/// A side that fails.
pub fn contest(
    folder: &Path,
    sides: &[Side],
    rounds: usize,
    progress: &mut dyn FnMut(&Row),
) -> Result<Report, BenchError> {
    let index = index(folder)?;
    let (config, _) = exchange::open(&folder.join("option-0.gguf"))?;
    let work = Work::of(&config, index.sequences, index.length);
    let (mut rows, mut parts): (Vec<Row>, Vec<(String, f64)>) = (Vec::new(), Vec::new());
    let mut fastest = f64::INFINITY;
    for round in 0..rounds {
        for side in sides {
            let measured: Measured = ask(side)?;
            let best = measured.seconds.iter().copied().fold(f64::INFINITY, f64::min);
            if !measured.parts.is_empty() && best < fastest {
                (fastest, parts) = (best, measured.parts);
            }
            for (repeat, &seconds) in measured.seconds.iter().enumerate() {
                let cpu_seconds = measured.cpu_seconds.get(repeat).copied().unwrap_or(seconds);
                let row = Row {
                    round,
                    side: side.name.clone(),
                    repeat,
                    seconds,
                    cpu_seconds,
                    peak_rss: measured.peak_rss,
                    sgemm: measured.sgemm,
                    share: work.necessary() * measured.threads as f64
                        / cpu_seconds
                        / measured.sgemm,
                    loss: measured.loss,
                    threads: measured.threads,
                };
                progress(&row);
                rows.push(row);
            }
        }
    }
    Ok(Report { rows, parts, work })
}
