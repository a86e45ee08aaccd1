//! The core as a mixed-integer program for HiGHS.
//!
//! The program minimises the distance from the Lagrangian bound,
//! `Σ loss_j x_j + Σ_r λ_r s_r` with slacks `s_r ≥ 0`, scaled so that the interesting
//! range is about 0 to 1000. HiGHS works in floating point: its solution is checked in
//! integers by the caller, and its proof holds within its tolerances (1e-9 of that
//! range).

use std::num::NonZeroU32;

use highs::{Col, HighsModelStatus, HighsSolutionStatus, RowProblem, Sense};

use super::fixed::Fixed;
use crate::knapsack::KnapsackError;

/// Scaled value of the distance of bound and incumbent.
const RANGE: f64 = 1000.0;

/// How a run of HiGHS ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its solution is optimal.
    Optimal,
    /// There is no solution.
    Infeasible,
    /// A limit was reached.
    Limit,
}

/// What HiGHS found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// How it ended.
    pub(super) end: End,
    /// Decisions and flat options that replace maximisers, if it has a solution.
    pub(super) changes: Option<Vec<(usize, usize)>>,
    /// Lower bound of the distance from the Lagrangian bound.
    pub(super) bound: f64,
}

/// Solves the core within a number of branch-and-bound nodes.
///
/// # Errors
/// [`KnapsackError::Highs`].
pub(super) fn solve(fixed: &Fixed, gap: f64, nodes: u64) -> Result<Found, KnapsackError> {
    let failed = |message: String| KnapsackError::Highs { message };
    let largest = fixed.options.iter().map(|o| o.loss).fold(0.0, f64::max);
    let range = if gap.is_finite() { gap } else { largest };
    let unit = if range > 0.0 { RANGE / range } else { 1.0 };

    let mut problem = RowProblem::default();
    let columns: Vec<Col> = fixed
        .options
        .iter()
        .map(|open| problem.add_integer_column(open.loss * unit, 0.0..=1.0))
        .collect();
    let mut start = 0;
    for group in fixed.options.chunk_by(|a, b| a.decision == b.decision) {
        let end = start + group.len();
        problem.add_row(..=1.0, columns[start..end].iter().map(|&column| (column, 1.0)));
        start = end;
    }
    for (r, resource) in fixed.resources.iter().enumerate() {
        let deltas: Vec<i64> = fixed
            .options
            .iter()
            .map(|open| resource.cost[open.flat] - resource.cost[open.chosen])
            .collect();
        let scale = RANGE / deltas.iter().map(|d| d.abs()).max().unwrap_or(0).max(1) as f64;
        let mut row: Vec<(Col, f64)> = Vec::with_capacity(columns.len() + 1);
        let terms = columns.iter().zip(&deltas).filter(|(_, delta)| **delta != 0);
        row.extend(terms.map(|(&column, &delta)| (column, delta as f64 * scale)));
        if !resource.exactly {
            row.push((problem.add_column(fixed.lambda[r] * unit / scale, 0.0..), 1.0));
        }
        let room = fixed.room[r] as f64 * scale;
        problem.add_row(room..=room, row);
    }
    let mut model = problem
        .try_optimise(Sense::Minimise)
        .map_err(|status| failed(format!("the core was refused ({status:?})")))?;
    model.set_threads(NonZeroU32::MIN);
    let nodes = i32::try_from(nodes.max(1)).unwrap_or(i32::MAX);
    let options = [
        model.try_set_option("parallel", "off"),
        model.try_set_option("mip_max_nodes", nodes),
        model.try_set_option("mip_rel_gap", 0.0),
        model.try_set_option("mip_abs_gap", 0.0),
        model.try_set_option("mip_feasibility_tolerance", 1e-9),
        model.try_set_option("primal_feasibility_tolerance", 1e-9),
        model.try_set_option("dual_feasibility_tolerance", 1e-9),
    ];
    if options.iter().any(Result::is_err) {
        return Err(failed("an option was refused".to_owned()));
    }
    let solved = model.try_solve().map_err(|status| failed(format!("{status:?}")))?;
    let end = match solved.status() {
        HighsModelStatus::Optimal | HighsModelStatus::ModelEmpty => End::Optimal,
        HighsModelStatus::Infeasible => End::Infeasible,
        _ => End::Limit,
    };
    let bound = solved.double_info_value(c"mip_dual_bound").unwrap_or(0.0) / unit;
    let bound = if bound.is_finite() { bound } else { 0.0 };
    let has_solution = end == End::Optimal
        || end == End::Limit && solved.primal_solution_status() == HighsSolutionStatus::Feasible;
    let changes = has_solution.then(|| {
        let solution = solved.get_solution();
        let taken = fixed.options.iter().zip(solution.columns()).filter(|(_, x)| **x > 0.5);
        taken.map(|(open, _)| (open.decision, open.flat)).collect()
    });
    Ok(Found { end, changes, bound })
}
