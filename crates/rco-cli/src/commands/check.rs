//! `rco check`: numerical checks of the mathematics on this machine.

use rco_core::manifold::{GeometryRow, Quantity, check_geometry};

use crate::error::CliError;
use crate::output::Out;
use crate::table::Columns;

/// Numerical checks of the mathematics on this machine
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Check {
    Geometry(Args),
    Logits(super::logits::Args),
}

/// Check the geometry of the budget manifold
///
/// Compares normal, projection, retraction and transport with finite differences on
/// random problems: the error of an approximation of order q falls as the q-th power of
/// the step, which is the slope that is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seed of the random problems
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(check: &Check) -> Result<(), CliError> {
    let args = match check {
        Check::Geometry(args) => args,
        Check::Logits(args) => return super::logits::run(args),
    };
    let report = check_geometry(args.seed)?;
    let mut table = Columns::new(&["check", "measured", "expected", ""], 1);
    for row in &report.rows {
        let verdict = if row.pass { "ok" } else { "FAILED" };
        let (measured, expected) = numbers(row);
        table.row([row.name.clone(), measured, expected, verdict.to_owned()]);
    }
    let mut out = Out::stdout();
    out.line(table)?;
    if report.pass() {
        return Ok(());
    }
    let failed = report.rows.iter().filter(|row| !row.pass).count();
    Err(CliError::Geometry { failed, checks: report.rows.len(), seed: args.seed })
}

fn numbers(row: &GeometryRow) -> (String, String) {
    match row.quantity {
        Quantity::Slope => {
            (format!("slope {:.2}", row.measured), format!("about {}", row.expected))
        }
        Quantity::Error => {
            (format!("error {:.1e}", row.measured), format!("at most {:.0e}", row.expected))
        }
    }
}
