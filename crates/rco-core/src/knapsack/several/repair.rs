//! From a solution of the relaxation to a feasible one.

use super::costs::{Resource, feasible, totals};

/// Changes options until every budget is met, then fills what is left; returns whether
/// it succeeded. At most `passes` passes over all options are made.
///
/// While a budget is violated, the change that loses the least value per unit of
/// violation removed (each resource relative to its scale) is made; afterwards the
/// change that gains the most value within the budgets.
pub(super) fn repair(
    resources: &[Resource],
    offsets: &[usize],
    values: &[f64],
    passes: usize,
    choices: &mut [u32],
) -> bool {
    let mut used = Vec::with_capacity(resources.len());
    totals(resources, offsets, choices, &mut used);
    for _ in 0..passes {
        let repaired = feasible(resources, &used);
        let before = distance(resources, &used, 0, 0);
        let mut best: Option<(f64, usize, usize)> = None;
        for (decision, range) in offsets.windows(2).enumerate() {
            let current = range[0] + choices[decision] as usize;
            for flat in (range[0]..range[1]).filter(|&flat| flat != current) {
                let gained = values[flat] - values[current];
                let after = distance(resources, &used, current, flat);
                let score = if repaired {
                    if after > 0.0 || gained <= 0.0 {
                        continue;
                    }
                    gained
                } else {
                    if after >= before {
                        continue;
                    }
                    gained.min(0.0) / (before - after)
                };
                if best.is_none_or(|(other, ..)| score > other) {
                    best = Some((score, decision, flat));
                }
            }
        }
        let Some((_, decision, flat)) = best else { return repaired };
        let current = offsets[decision] + choices[decision] as usize;
        for (total, resource) in used.iter_mut().zip(resources) {
            *total += resource.cost[flat] - resource.cost[current];
        }
        choices[decision] = (flat - offsets[decision]) as u32;
    }
    feasible(resources, &used)
}

/// Scaled distance from meeting the budgets once option `from` gave way to `to`.
fn distance(resources: &[Resource], used: &[i64], from: usize, to: usize) -> f64 {
    let pairs = resources.iter().zip(used);
    pairs
        .map(|(resource, &total)| {
            let total = total + resource.cost[to] - resource.cost[from];
            resource.violation(total) as f64 / resource.scale
        })
        .sum()
}
