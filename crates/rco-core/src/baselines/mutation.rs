//! Level switches: one decision up, another down, within the budgets.

use crate::budget::BudgetKind;
use crate::problem::Problem;
use crate::rng::Stream;

/// Partners looked at for one switch.
const TRIES: usize = 64;

/// Decisions tried for one switch: next to a budget, some have no partner.
const DECISIONS: usize = 32;

/// Mutates feasible plans into feasible plans.
pub(crate) struct Mutator<'a> {
    problem: &'a Problem,
    switches: usize,
    /// For every decision its local options in the order of relative cost.
    ladders: Vec<Vec<u32>>,
    /// Decisions with more than one option.
    free: Vec<usize>,
    total: Vec<u64>,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(problem: &'a Problem, switches: usize) -> Self {
        let decisions = problem.decisions();
        let weight = |j: usize| -> f64 {
            let budgets = problem.budgets().iter().enumerate();
            budgets.map(|(r, b)| decisions.costs(r)[j] as f64 / b.limit.max(1) as f64).sum()
        };
        let ladders: Vec<Vec<u32>> = (0..decisions.len())
            .map(|d| {
                let range = decisions.options_of(d);
                let mut ladder: Vec<u32> = (0..range.len() as u32).collect();
                let cost = |k: u32| weight(range.start + k as usize);
                ladder.sort_by(|&a, &b| cost(a).total_cmp(&cost(b)).then(a.cmp(&b)));
                ladder
            })
            .collect();
        let free = (0..ladders.len()).filter(|&d| ladders[d].len() > 1).collect();
        Self { problem, switches, ladders, free, total: Vec::new() }
    }

    /// The plan after at least one switch, or as it was where none was found.
    pub(crate) fn mutate(&mut self, plan: &[u32], stream: &mut Stream) -> Vec<u32> {
        let mut child = plan.to_vec();
        if self.free.is_empty() {
            return child;
        }
        let decisions = self.problem.decisions();
        self.total = (0..decisions.resource_count()).map(|r| decisions.cost_of(plan, r)).collect();
        let count = 1 + stream.below(self.switches).min(stream.below(self.switches));
        for _ in 0..count {
            for _ in 0..DECISIONS {
                if self.switch(&mut child, stream) {
                    break;
                }
            }
        }
        child
    }

    /// Moves one random decision a level up, and if that does not fit, one of the
    /// partners tried a level down: the one after which least of the budget is left.
    /// Returns whether it found such a move.
    fn switch(&mut self, plan: &mut [u32], stream: &mut Stream) -> bool {
        let higher = |&d: &usize| self.ladders[d].get(self.rank(d, plan[d]) + 1).copied();
        let rising: Vec<usize> =
            self.free.iter().copied().filter(|d| higher(d).is_some()).collect();
        if rising.is_empty() {
            return false;
        }
        let up = rising[stream.below(rising.len())];
        let Some(higher) = higher(&up) else { return false };
        let rise = self.change(up, plan[up], higher);
        if self.slack_after(&[&rise]).is_some() {
            self.apply(plan, up, higher, &rise);
            return true;
        }
        let mut best: Option<(f64, usize, u32, Vec<i64>)> = None;
        for _ in 0..TRIES {
            let down = self.free[stream.below(self.free.len())];
            let rank = self.rank(down, plan[down]);
            if down == up || rank == 0 {
                continue;
            }
            let lower = self.ladders[down][rank - 1];
            let fall = self.change(down, plan[down], lower);
            let Some(slack) = self.slack_after(&[&rise, &fall]) else { continue };
            if best.as_ref().is_none_or(|(least, ..)| slack < *least) {
                best = Some((slack, down, lower, fall));
            }
        }
        let Some((_, down, lower, fall)) = best else { return false };
        self.apply(plan, up, higher, &rise);
        self.apply(plan, down, lower, &fall);
        true
    }

    fn rank(&self, d: usize, option: u32) -> usize {
        self.ladders[d].iter().position(|&k| k == option).unwrap_or(0)
    }

    /// Difference of the costs for every resource.
    fn change(&self, d: usize, from: u32, to: u32) -> Vec<i64> {
        let decisions = self.problem.decisions();
        let start = decisions.offsets()[d];
        (0..decisions.resource_count())
            .map(|r| {
                let costs = decisions.costs(r);
                costs[start + to as usize].cast_signed()
                    - costs[start + from as usize].cast_signed()
            })
            .collect()
    }

    /// Shares of the budgets that are left after `changes`, summed; `None` if a
    /// budget is broken.
    fn slack_after(&self, changes: &[&Vec<i64>]) -> Option<f64> {
        let mut slack = 0.0;
        for (r, budget) in self.problem.budgets().iter().enumerate() {
            let change: i64 = changes.iter().map(|c| c[r]).sum();
            // Totals fit into 63 bits (checked when the problem was built).
            let total = (self.total[r].cast_signed() + change).cast_unsigned();
            if !budget.admits(total) {
                return None;
            }
            if budget.kind == BudgetKind::AtMost {
                slack += (budget.limit - total) as f64 / budget.limit.max(1) as f64;
            }
        }
        Some(slack)
    }

    fn apply(&mut self, plan: &mut [u32], d: usize, option: u32, change: &[i64]) {
        plan[d] = option;
        for (total, change) in self.total.iter_mut().zip(change) {
            *total = (total.cast_signed() + change).cast_unsigned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::{Budget, GroupSpec, OptionSpec};

    /// Only one of 21 groups can move up, and only if another moves down.
    #[test]
    fn a_child_differs_where_any_switch_is_possible() {
        let mut builder = Problem::builder().budget(Budget::at_most("bytes", 20 * 10 + 1));
        for g in 0..20 {
            let options = ["small", "large"]
                .map(|name| OptionSpec::new(name, [if name == "large" { 10 } else { 5 }]));
            builder = builder.group(GroupSpec::new(format!("g{g}"), options));
        }
        let only = [OptionSpec::new("small", [1]), OptionSpec::new("large", [6])];
        let problem = builder.group(GroupSpec::new("last", only)).build().unwrap();
        // All at their costliest but the last, which can move up if another moves down.
        let mut plan = vec![1; 20];
        plan.push(0);
        let mut mutator = Mutator::new(&problem, 1);
        for index in 0..50 {
            let child = mutator.mutate(&plan, &mut stream(0, Purpose::Mutation, index));
            assert_eq!(child[20], 1);
            assert_eq!(child.iter().filter(|&&k| k == 0).count(), 1);
        }
    }
}
