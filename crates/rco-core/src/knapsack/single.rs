//! One budget: linear relaxation, reduced-cost fixing, exact core.

use super::certificate::relative_gap;
use super::core::{Candidate, Core, Outcome, Task};
use super::instance::Instance;
use super::linear::Linear;
use super::meet;
use super::reach::{Reach, reach, witness};
use super::{Certificate, Effort, KnapsackError, Settings, Status, Work};
use crate::budget::{Budget, BudgetKind};
use crate::decisions::Decisions;

/// Widths of the runs that look for a good solution before the run that proves.
const NARROW: usize = 32;
/// Factor by which the width grows while no solution has been found.
const WIDEN: usize = 16;
/// Partial solutions that the core may look at where two halves of the decisions can be
/// listed completely.
const HALVES_NODES: u64 = 1 << 18;

/// A knapsack with one budget and its workspace.
#[derive(Debug, Clone)]
pub(super) struct Single {
    instance: Instance,
    budget: Budget,
    settings: Settings,
    exactly: bool,
    reach: Reach,
    /// Whether both halves of the decisions can be listed completely.
    halves: bool,
    /// Where reach is open and the last solution misses the capacity: its total and the
    /// smallest one above that was seen, in reduced units.
    missed: Option<(i64, Option<i64>)>,
    linear: Linear,
    core: Core,
    /// Place of every decision in the best solution.
    place: Vec<u32>,
}

impl Single {
    pub(super) fn new(
        decisions: &Decisions,
        resource: usize,
        budget: &Budget,
        settings: Settings,
    ) -> Result<Self, KnapsackError> {
        let exactly = budget.kind == BudgetKind::Exactly;
        let mut instance = Instance::new(decisions, resource, budget, false)?;
        let mut found = Reach::Met;
        let mut halves = false;
        if exactly {
            let all = Instance::new(decisions, resource, budget, true)?;
            found = reach(&all, all.aligned, &settings);
            if found == Reach::Open
                && let Some(settled) = meet::reach(&all, &settings)
            {
                (found, halves) = (settled, true);
            }
            if let Reach::Between { below, .. } = found {
                instance.capacity = below;
            }
        }
        Ok(Self {
            linear: Linear::new(&instance),
            core: Core::new(instance.len(), instance.flat.len()),
            place: Vec::with_capacity(instance.len()),
            budget: budget.clone(),
            instance,
            settings,
            exactly,
            reach: found,
            halves,
            missed: None,
        })
    }

    /// See [`Solver::solve`](super::Solver::solve).
    pub(super) fn solve(
        &mut self,
        offsets: &[usize],
        values: &[f64],
        choices: &mut [u32],
    ) -> Certificate {
        self.linear.solve(&self.instance, values, self.instance.capacity, self.exactly);
        let task = Task {
            lambda: self.linear.lambda,
            room: self.linear.room,
            exactly: self.exactly,
            grain: grain(values),
        };
        let start = self.collect(task, values);
        let outcome = self.search(task, values, start);

        let mut cost = 0;
        for (decision, choice) in choices.iter_mut().enumerate() {
            let place = self.place[decision] as usize;
            *choice = self.instance.flat[place] - offsets[decision] as u32;
            cost += self.instance.cost[place];
        }
        let value = total_value(&self.place, &self.instance.flat, values);
        let bound = value + (outcome.shortfall - outcome.proven).max(0.0);
        let gap = relative_gap(value, bound);
        let cost = self.instance.total(cost);
        let whole = |reduced| self.instance.total(reduced);
        let status = match (self.reach, self.missed) {
            (Reach::Between { below, above }, _) => {
                Status::Nearest { below: whole(below), above: above.map(whole) }
            }
            (_, Some((below, above))) => {
                Status::Missed { below: whole(below), above: above.map(whole) }
            }
            _ if gap > 0.0 => Status::LimitReached,
            _ => Status::Optimal,
        };
        Certificate { value, bound, gap, cost, slack: self.budget.limit - cost, status }
    }

    /// Collects the options that could improve on the break solution or on the best
    /// change of one decision; returns the shortfall of the better of these.
    fn collect(&mut self, task: Task, values: &[f64]) -> f64 {
        let Self { instance, linear, core, .. } = self;
        core.clear();
        let mut shortfall = task.shortfall(0, 0.0);
        let mut best = None;
        for (decision, bounds) in instance.starts.windows(2).enumerate() {
            let chosen = linear.place[decision] as usize;
            let (value, cost) = (values[instance.flat[chosen] as usize], instance.cost[chosen]);
            for place in bounds[0]..bounds[1] {
                let delta = instance.cost[place] - cost;
                let lost = value - values[instance.flat[place] as usize];
                // Not negative but for rounding: the break option is on the hull.
                let loss = (lost + task.lambda * delta as f64).max(0.0);
                if loss >= shortfall || place == chosen {
                    continue;
                }
                let candidate =
                    Candidate { loss, delta, decision: decision as u32, place: place as u32 };
                let total = task.shortfall(delta, loss);
                if total < shortfall {
                    shortfall = total;
                    best = Some(candidate);
                }
                core.candidates.push(candidate);
            }
        }
        core.start_from(best);
        shortfall
    }

    /// Searches the core and leaves the best solution in `place`.
    fn search(&mut self, task: Task, values: &[f64], start: f64) -> Outcome {
        let Settings { max_states, max_nodes, effort } = self.settings;
        // The upper end keeps indices of partial solutions within 32 bits.
        let max_states = max_states.clamp(16, 1 << 28);
        // Two halves prove what a short search of the core does not.
        let max_nodes = if self.halves { max_nodes.min(HALVES_NODES) } else { max_nodes };
        let mut best = Outcome { shortfall: start, proven: 0.0 };
        let mut width = NARROW;
        loop {
            self.core.arrange(task, best.shortfall);
            let nodes = max_nodes.saturating_sub(self.core.looked_at);
            let found = self.core.run(task, best.shortfall, width.min(max_states), nodes);
            best = Outcome { proven: best.proven.max(found.proven), ..found };
            let proven = best.proven >= best.shortfall;
            if proven || width >= max_states || self.core.looked_at >= max_nodes {
                break;
            }
            if best.shortfall.is_finite() {
                if effort == Effort::Incumbent {
                    break;
                }
                width = max_states;
            } else {
                width *= WIDEN;
            }
        }
        self.place.clear();
        self.place.extend_from_slice(&self.linear.place);
        for change in self.core.best_changes() {
            self.place[change.decision as usize] = change.place;
        }
        // Between the multiples of the unit there is no total: the next multiple below is
        // as near as can be had.
        let open = self.reach == Reach::Open && !self.instance.aligned;
        self.missed = open.then_some((self.instance.capacity, None));
        if self.halves && best.proven < best.shortfall {
            let losses = self.losses(task, values);
            let capacity = self.instance.capacity;
            if let Some((places, loss)) =
                meet::best(&self.instance, &losses, capacity, &self.settings)
            {
                self.place = places;
                best = Outcome { shortfall: loss, proven: loss };
            }
        }
        if best.shortfall.is_infinite() {
            best.shortfall = self.fall_back(task, values);
        }
        best
    }

    /// Leaves a solution of the capacity in `place` that need not be a good one, or the
    /// nearest below that is found; returns its shortfall.
    fn fall_back(&mut self, task: Task, values: &[f64]) -> f64 {
        let losses = self.losses(task, values);
        let capacity = self.instance.capacity;
        if let Some(places) = witness(&self.instance, capacity, &self.settings) {
            self.place = places;
        } else {
            let start = &self.linear.place;
            let found = meet::search(&self.instance, start, &losses, capacity, &self.settings);
            self.place = found.places;
            if found.total < capacity {
                self.missed = Some((found.total, found.above));
            }
        }
        let cost: i64 = self.place.iter().map(|&place| self.instance.cost[place as usize]).sum();
        let lost: f64 = self.place.iter().map(|&place| losses[place as usize]).sum();
        lost + task.lambda * (capacity - cost) as f64
    }

    /// Loss of every place against the relaxation.
    fn losses(&self, task: Task, values: &[f64]) -> Vec<f64> {
        let Instance { flat, cost, starts, .. } = &self.instance;
        let mut losses = Vec::with_capacity(flat.len());
        for (bounds, &chosen) in starts.windows(2).zip(&self.linear.place) {
            let chosen = chosen as usize;
            for place in bounds[0]..bounds[1] {
                let lost = values[flat[chosen] as usize] - values[flat[place] as usize];
                losses.push((lost + task.lambda * (cost[place] - cost[chosen]) as f64).max(0.0));
            }
        }
        losses
    }

    /// See [`Solver::work`](super::Solver::work).
    pub(super) fn work(&self) -> Work {
        Work {
            core_decisions: self.core.decisions(),
            core_options: self.core.candidates.len(),
            states: self.core.looked_at,
        }
    }
}

/// What sums of these values differ by at least, if they differ, less a margin for
/// rounding: 0 unless all are integers of moderate size.
fn grain(values: &[f64]) -> f64 {
    const LARGEST: f64 = (1_u64 << 40) as f64;
    let largest = LARGEST / values.len() as f64;
    let integers = values.iter().all(|value| value.fract() == 0.0 && value.abs() <= largest);
    if integers { 1.0 - 1e-3 } else { 0.0 }
}

/// Sum of the values of the chosen places.
fn total_value(places: &[u32], flat: &[u32], values: &[f64]) -> f64 {
    places.iter().map(|&place| values[flat[place as usize] as usize]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{GroupSpec, OptionSpec, Problem};
    use crate::rng::{Purpose, stream};

    #[test]
    fn a_used_workspace_allocates_nothing_more() {
        let mut random = stream(1, Purpose::Instance, 0);
        let specs = (0..252).map(|i| {
            let size = [65_536, 16_384, 16_384, 65_536, 229_376, 229_376, 229_376][i % 7];
            let options = [66, 84, 110, 144, 176, 210, 272]
                .map(|bytes| OptionSpec::new(format!("{bytes}"), [bytes * size]));
            GroupSpec::new(format!("{i}"), options)
        });
        let problem = Problem::builder()
            .groups(specs)
            .budget(Budget::at_most("bytes", 4_400_000_000))
            .build()
            .unwrap();
        let decisions = problem.decisions();
        let mut single =
            Single::new(decisions, 0, &problem.budgets()[0], Settings::default()).unwrap();
        let mut choices = vec![0; decisions.len()];
        let mut rounds = |count: usize| {
            for _ in 0..count {
                let values: Vec<f64> = (0..decisions.option_count())
                    .map(|j| (j % 7) as f64 + random.normal())
                    .collect();
                let certificate = single.solve(decisions.offsets(), &values, &mut choices);
                assert_eq!(certificate.status, Status::Optimal);
            }
            (single.linear.capacity(), single.core.capacity(), single.place.capacity())
        };
        let warm = rounds(100);
        assert_eq!(rounds(200), warm);
    }
}
