//! The assignment nearest to budgets that cannot be met together.

use std::num::NonZeroU32;

use highs::{HighsModelStatus, HighsSolutionStatus, RowProblem, Sense};

use super::costs::Resource;

/// Local options of an assignment that breaks the budgets by little: the sum over all
/// resources of what is missed, each relative to its largest cost, is smallest, up to
/// the tolerances of HiGHS and its limit of `nodes`. `None` if HiGHS finds nothing.
pub(super) fn closest(resources: &[Resource], offsets: &[usize], nodes: u64) -> Option<Vec<u32>> {
    let mut problem = RowProblem::default();
    let count = *offsets.last()?;
    let columns: Vec<_> = (0..count).map(|_| problem.add_integer_column(0.0, 0.0..=1.0)).collect();
    for range in offsets.windows(2) {
        problem.add_row(1.0..=1.0, columns[range[0]..range[1]].iter().map(|&c| (c, 1.0)));
    }
    for resource in resources {
        // Total in units of the largest cost, less what is over, plus what is missing.
        let mut row: Vec<_> = columns
            .iter()
            .zip(&resource.cost)
            .filter(|(_, cost)| **cost != 0)
            .map(|(&column, &cost)| (column, cost as f64 / resource.scale))
            .collect();
        row.push((problem.add_column(1.0, 0.0..), -1.0));
        let limit = resource.capacity as f64 / resource.scale;
        if resource.exactly {
            row.push((problem.add_column(1.0, 0.0..), 1.0));
            problem.add_row(limit..=limit, row);
        } else {
            problem.add_row(..=limit, row);
        }
    }
    let mut model = problem.try_optimise(Sense::Minimise).ok()?;
    model.set_threads(NonZeroU32::MIN);
    let nodes = i32::try_from(nodes.max(1)).unwrap_or(i32::MAX);
    model.try_set_option("parallel", "off").ok()?;
    model.try_set_option("mip_max_nodes", nodes).ok()?;
    let solved = model.try_solve().ok()?;
    if solved.status() != HighsModelStatus::Optimal
        && solved.primal_solution_status() != HighsSolutionStatus::Feasible
    {
        return None;
    }
    let solution = solved.get_solution();
    let taken = solution.columns();
    let choose = |range: &[usize]| {
        let best = (range[0]..range[1]).max_by(|&a, &b| taken[a].total_cmp(&taken[b]));
        best.map(|flat| (flat - range[0]) as u32)
    };
    offsets.windows(2).map(choose).collect()
}
