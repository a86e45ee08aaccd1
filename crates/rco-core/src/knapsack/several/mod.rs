//! Several budgets: Lagrangian bound, repair, and HiGHS on what reduced-cost fixing leaves.

#[cfg(feature = "highs")]
mod closest;
mod costs;
mod dual;
#[cfg(feature = "highs")]
mod exact;
mod fixed;
mod repair;

use costs::{Resource, feasible, totals};
use dual::Point;
use fixed::Fixed;

use super::certificate::relative_gap;
use super::instance::Instance;
use super::linear::Linear;
use super::{Certificate, Effort, KnapsackError, Settings, Status, Work};
use crate::budget::Budget;
use crate::decisions::Decisions;

/// Points of the dual that are repaired into feasible solutions.
const REPAIRS: usize = 24;
/// Passes over the options that all repairs together may take, at the least.
const PASSES: usize = 64;

/// What one node of HiGHS counts for in [`Settings::max_nodes`].
#[cfg(feature = "highs")]
const NODES_PER_HIGHS_NODE: u64 = 10_000;

/// A knapsack with several budgets.
#[derive(Debug, Clone)]
pub(super) struct Several {
    budgets: Vec<Budget>,
    settings: Settings,
    resources: Vec<Resource>,
    /// The relaxation with one resource at a time gives the scale of its multiplier.
    alone: Vec<(Instance, Linear)>,
    work: Work,
}

/// The best feasible solution so far.
#[derive(Debug, Clone)]
struct Incumbent {
    choices: Vec<u32>,
    value: f64,
}

impl Several {
    pub(super) fn new(
        decisions: &Decisions,
        budgets: &[Budget],
        settings: Settings,
    ) -> Result<Self, KnapsackError> {
        let mut resources = Vec::with_capacity(budgets.len());
        let mut alone = Vec::with_capacity(budgets.len());
        for (r, budget) in budgets.iter().enumerate() {
            resources.push(Resource::new(decisions, r, budget)?);
            let instance = Instance::new(decisions, r, budget, false)?;
            let linear = Linear::new(&instance);
            alone.push((instance, linear));
        }
        let budgets = budgets.to_vec();
        Ok(Self { budgets, settings, resources, alone, work: Work::default() })
    }

    /// See [`Solver::solve`](super::Solver::solve).
    pub(super) fn solve(
        &mut self,
        offsets: &[usize],
        values: &[f64],
        choices: &mut [u32],
    ) -> Result<Certificate, KnapsackError> {
        let units = self.units(offsets, values);
        let passes = (self.settings.max_nodes / values.len() as u64 / 4) as usize;
        let passes = passes.min(4 * offsets.len()).max(PASSES) / REPAIRS + 1;
        let mut incumbent: Option<Incumbent> = None;
        let mut tried: Vec<Vec<u32>> = Vec::new();
        let mut least = f64::INFINITY;
        let this = &*self;
        let point = dual::minimise(&this.resources, offsets, values, &units, |point: &Point| {
            let fresh = point.bound < least || incumbent.is_none();
            least = least.min(point.bound);
            if !fresh || tried.len() >= REPAIRS || tried.contains(&point.choices) {
                return;
            }
            tried.push(point.choices.clone());
            let mut choices = point.choices.clone();
            if repair::repair(&this.resources, offsets, values, passes, &mut choices) {
                this.offer(offsets, values, choices, &mut incumbent);
            }
        });
        let mut last = point.choices.clone();
        if repair::repair(&self.resources, offsets, values, 4 * passes, &mut last) {
            self.offer(offsets, values, last, &mut incumbent);
        }

        let bound = self.prove(offsets, values, &point, &mut incumbent)?;
        let Some(Incumbent { choices: found, value }) = incumbent else {
            return Err(KnapsackError::Undecided {
                resources: self.names(),
                max_states: self.settings.max_states,
                max_nodes: self.settings.max_nodes,
            });
        };
        choices.copy_from_slice(&found);
        let bound = bound.max(value);
        let gap = relative_gap(value, bound);
        let status = if gap > 0.0 { Status::LimitReached } else { Status::Optimal };
        let mut used = Vec::new();
        totals(&self.resources, offsets, &found, &mut used);
        let cost = self.alone[0].0.total(used[0]);
        Ok(Certificate { value, bound, gap, cost, slack: self.budgets[0].limit - cost, status })
    }

    /// See [`Solver::work`](super::Solver::work).
    pub(super) fn work(&self) -> Work {
        self.work
    }

    /// A positive guess of every multiplier: that of the relaxation with this budget
    /// alone, in reduced units, or the mean value of a unit where the budget is slack.
    fn units(&mut self, offsets: &[usize], values: &[f64]) -> Vec<f64> {
        let spread = |slice: &[f64]| {
            let high = slice.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            high - slice.iter().copied().fold(f64::INFINITY, f64::min)
        };
        let worth: f64 = offsets.windows(2).map(|range| spread(&values[range[0]..range[1]])).sum();
        let mut units = Vec::with_capacity(self.resources.len());
        for (resource, (instance, linear)) in self.resources.iter().zip(&mut self.alone) {
            linear.solve(instance, values, instance.capacity, resource.exactly);
            let mean = worth / resource.scale / offsets.len() as f64;
            let unit = if linear.lambda == 0.0 { mean } else { linear.lambda.abs() };
            units.push(if unit.is_normal() { unit } else { 1.0 });
        }
        units
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.budgets.iter().map(|b| format!("`{}`", b.resource)).collect();
        names.join(", ")
    }

    /// The error that says which totals can be had instead.
    #[cfg(feature = "highs")]
    fn infeasible(&self, offsets: &[usize], nodes: u64) -> KnapsackError {
        let mut nearest = Vec::new();
        if let Some(choices) = closest::closest(&self.resources, offsets, nodes) {
            let mut used = Vec::new();
            totals(&self.resources, offsets, &choices, &mut used);
            let named = self.budgets.iter().zip(&self.alone).zip(used);
            nearest.extend(named.map(|((budget, (instance, _)), reduced)| {
                (budget.resource.clone(), instance.total(reduced))
            }));
        }
        KnapsackError::JointlyInfeasible { resources: self.names(), nearest }
    }

    /// Keeps `choices` if they are feasible and better than the incumbent.
    fn offer(
        &self,
        offsets: &[usize],
        values: &[f64],
        choices: Vec<u32>,
        incumbent: &mut Option<Incumbent>,
    ) -> bool {
        let mut used = Vec::new();
        totals(&self.resources, offsets, &choices, &mut used);
        if !feasible(&self.resources, &used) {
            return false;
        }
        let pairs = offsets.iter().zip(&choices);
        let value = pairs.map(|(&start, &choice)| values[start + choice as usize]).sum();
        if incumbent.as_ref().is_none_or(|old| value > old.value) {
            *incumbent = Some(Incumbent { choices, value });
        }
        true
    }

    /// An upper bound of the optimum, and a better incumbent where one is found.
    #[cfg_attr(
        not(feature = "highs"),
        expect(clippy::unnecessary_wraps, reason = "only the solver of the core fails")
    )]
    fn prove(
        &mut self,
        offsets: &[usize],
        values: &[f64],
        point: &Point,
        incumbent: &mut Option<Incumbent>,
    ) -> Result<f64, KnapsackError> {
        let gap = incumbent.as_ref().map_or(f64::INFINITY, |i| point.bound - i.value);
        let fixed = Fixed::new(&self.resources, point, offsets, values, gap);
        self.work = fixed.work();
        let enough = self.settings.effort == Effort::Incumbent && incumbent.is_some();
        if enough || gap <= 0.0 {
            return Ok(point.bound);
        }
        #[cfg(feature = "highs")]
        {
            let nodes = self.settings.max_nodes / NODES_PER_HIGHS_NODE;
            let found = exact::solve(&fixed, gap, nodes)?;
            let mut verified = false;
            if let Some(changes) = found.changes {
                let mut choices = point.choices.clone();
                for (decision, flat) in changes {
                    choices[decision] = (flat - offsets[decision]) as u32;
                }
                verified = self.offer(offsets, values, choices, incumbent);
            }
            match (found.end, incumbent.as_ref()) {
                (exact::End::Infeasible, None) => {
                    return Err(self.infeasible(offsets, nodes));
                }
                (exact::End::Optimal, Some(best)) if verified => return Ok(best.value),
                (exact::End::Limit, _) => return Ok(point.bound - found.bound.max(0.0)),
                _ => {}
            }
        }
        Ok(point.bound)
    }
}
