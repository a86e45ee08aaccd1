//! Optimum of the linear relaxation by selection on hull slopes (Dyer 1984, Zemel 1984).

use std::ops::Range;

use super::hull::{Step, append_steps};
use super::instance::Instance;

/// Decisions from which on a sample is drawn first.
const SAMPLE_FROM: usize = 2048;
/// Every how many decisions one is in the sample.
const SAMPLE_EVERY: usize = 16;
/// Half the width of the range, in standard errors of a sample whose members' costs
/// are as spread as they can be.
const SAMPLE_MARGIN: f64 = 1.0;

/// Slope that stands for no upper end: only the cheapest options are best there, and
/// no product with a cost overflows.
const STEEPEST: f64 = 1e280;

/// The linear relaxation's multiplier and break solution, with workspace.
#[derive(Debug, Clone, Default)]
pub(super) struct Linear {
    /// Value per unit of reduced cost at the optimum, `λ`. Not negative under an
    /// `at most` budget.
    pub(super) lambda: f64,
    /// Place of every decision in the break solution: steps steeper than `λ` are
    /// taken, and those of slope `λ` in order as long as they fit.
    pub(super) place: Vec<u32>,
    /// Capacity that the break solution leaves.
    pub(super) room: i64,
    steps: Vec<Step>,
}

impl Linear {
    /// Space for the steps of an instance.
    pub(super) fn new(instance: &Instance) -> Self {
        Self {
            place: Vec::with_capacity(instance.len()),
            steps: Vec::with_capacity(instance.flat.len()),
            ..Self::default()
        }
    }

    /// Solves the relaxation for `values` (flat order) with the given capacity.
    /// With `exactly`, the whole capacity has to be used.
    ///
    /// A sample of the decisions tells where `λ` must lie; hulls are then built only
    /// between the best options at the two ends of that range, which for nearly all
    /// decisions are the same. If the range turns out not to hold `λ`, all hulls are.
    pub(super) fn solve(
        &mut self,
        instance: &Instance,
        values: &[f64],
        capacity: i64,
        exactly: bool,
    ) {
        if instance.len() >= SAMPLE_FROM {
            let range = self.sample(instance, values, capacity, exactly);
            if self.solve_within(range, instance, values, capacity, exactly) {
                return;
            }
        }
        self.steps.clear();
        self.place.clear();
        for (decision, bounds) in instance.starts.windows(2).enumerate() {
            let place = self.append(instance, values, decision, bounds[0]..bounds[1], exactly);
            self.place.push(place);
        }
        self.select(capacity);
    }

    fn append(
        &mut self,
        instance: &Instance,
        values: &[f64],
        decision: usize,
        places: Range<usize>,
        exactly: bool,
    ) -> u32 {
        append_steps(
            places.start,
            &instance.cost[places.clone()],
            &instance.flat[places],
            values,
            decision as u32,
            exactly,
            &mut self.steps,
        )
    }

    /// A range `(low, high)` that holds `λ` unless the sample misleads.
    fn sample(
        &mut self,
        instance: &Instance,
        values: &[f64],
        capacity: i64,
        exactly: bool,
    ) -> (f64, f64) {
        self.steps.clear();
        let count = instance.len().div_ceil(SAMPLE_EVERY);
        for decision in (0..instance.len()).step_by(SAMPLE_EVERY) {
            let places = instance.starts[decision]..instance.starts[decision + 1];
            self.append(instance, values, decision, places, exactly);
        }
        self.steps.sort_unstable_by(|a, b| b.slope.total_cmp(&a.slope));
        let share = capacity as f64 * count as f64 / instance.len() as f64;
        let total: f64 = self.steps.iter().map(|step| step.cost as f64).sum();
        let margin = SAMPLE_MARGIN * total / (count as f64).sqrt();
        let (mut used, mut low, mut high) = (0.0, None, None);
        for step in &self.steps {
            used += step.cost as f64;
            if used >= share - margin {
                high.get_or_insert(step.slope);
            }
            if used >= share + margin {
                low = Some(step.slope);
                break;
            }
        }
        if share <= margin {
            high = None;
        } else if let Some(last) = self.steps.last() {
            // The budget is slack in the sample: the flattest step bounds `λ`.
            high.get_or_insert(last.slope);
        }
        let least = if exactly { f64::NEG_INFINITY } else { 0.0 };
        (low.unwrap_or(least), high.unwrap_or(STEEPEST))
    }

    /// Solves the relaxation if `λ` lies in the range; returns whether it does.
    fn solve_within(
        &mut self,
        (low, high): (f64, f64),
        instance: &Instance,
        values: &[f64],
        capacity: i64,
        exactly: bool,
    ) -> bool {
        if low.is_infinite() {
            return false;
        }
        self.steps.clear();
        self.place.clear();
        let (mut least, mut most) = (0_i64, 0_i64);
        for (decision, bounds) in instance.starts.windows(2).enumerate() {
            let places = bounds[0]..bounds[1];
            let cost = &instance.cost[places.clone()];
            let flat = &instance.flat[places.clone()];
            let mut best = (f64::NEG_INFINITY, f64::NEG_INFINITY);
            let (mut first, mut last) = (0, 0);
            for (k, (&cost, &flat)) in cost.iter().zip(flat).enumerate() {
                let (value, cost) = (values[flat as usize], cost as f64);
                let (at_high, at_low) = (value - high * cost, value - low * cost);
                if at_high > best.0 {
                    best.0 = at_high;
                    first = k;
                }
                if at_low > best.1 {
                    best.1 = at_low;
                    last = k;
                }
            }
            // Rounding may turn the two around where they tie.
            let last = last.max(first);
            least += cost[first];
            most += cost[last];
            let start = places.start;
            let place = if first == last {
                (start + first) as u32
            } else {
                self.append(instance, values, decision, start + first..start + last + 1, exactly)
            };
            self.place.push(place);
        }
        // With nothing below the range to take, the budget may be slack.
        let slack = !exactly && low == 0.0;
        if least > capacity || most <= capacity && !slack {
            return false;
        }
        self.select(capacity - least);
        true
    }

    /// Finds the step at which the capacity runs out, by repeated three-way partition.
    fn select(&mut self, capacity: i64) {
        let (mut low, mut high) = (0, self.steps.len());
        self.room = capacity;
        // Everything before `low` is steeper than `λ` and taken, everything from `high`
        // on is flatter and not taken.
        self.lambda = 0.0;
        while low < high {
            let pivot = median(&self.steps[low..high]);
            let (steeper, flatter) = partition(&mut self.steps[low..high], pivot);
            let (steeper, flatter) = (low + steeper, low + flatter);
            let before: i64 = self.steps[low..steeper].iter().map(|s| s.cost).sum();
            if before > self.room {
                high = steeper;
                continue;
            }
            self.take(low..steeper);
            self.room -= before;
            let equal: i64 = self.steps[steeper..flatter].iter().map(|s| s.cost).sum();
            low = flatter;
            if equal > self.room {
                self.lambda = pivot;
                self.fill(steeper..flatter);
                return;
            }
            self.take(steeper..flatter);
            self.room -= equal;
            if self.room == 0 {
                self.lambda = pivot;
                return;
            }
        }
    }

    fn take(&mut self, range: Range<usize>) {
        for step in &self.steps[range] {
            let place = &mut self.place[step.decision as usize];
            *place = step.place.max(*place);
        }
    }

    /// Takes steps of equal slope as long as they fit, in the order of decisions.
    fn fill(&mut self, range: Range<usize>) {
        self.steps[range.clone()].sort_unstable_by_key(|step| step.decision);
        for index in range {
            let step = self.steps[index];
            if step.cost <= self.room {
                self.room -= step.cost;
                self.take(index..index + 1);
            }
        }
    }
}

/// The median slope of the first, middle and last step.
fn median(steps: &[Step]) -> f64 {
    let (a, b, c) = (steps[0].slope, steps[steps.len() / 2].slope, steps[steps.len() - 1].slope);
    a.min(b).max(a.max(b).min(c))
}

/// Orders into steeper than `pivot`, equal, flatter; returns where the last two begin.
fn partition(steps: &mut [Step], pivot: f64) -> (usize, usize) {
    let (mut steeper, mut next, mut flatter) = (0, 0, steps.len());
    while next < flatter {
        let slope = steps[next].slope;
        if slope > pivot {
            steps.swap(steeper, next);
            steeper += 1;
            next += 1;
        } else if slope < pivot {
            flatter -= 1;
            steps.swap(next, flatter);
        } else {
            next += 1;
        }
    }
    (steeper, flatter)
}

#[cfg(test)]
impl Linear {
    /// Elements that the workspace has room for.
    pub(super) fn capacity(&self) -> usize {
        self.place.capacity() + self.steps.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::problem::{GroupSpec, OptionSpec, Problem};
    use crate::rng::{Purpose, stream};

    #[test]
    fn the_sampled_range_gives_the_same_multiplier_as_all_hulls() {
        let mut random = stream(2, Purpose::Instance, 0);
        let specs = (0..4096).map(|i| {
            let options: Vec<_> = (0..6)
                .map(|k| OptionSpec::new(format!("{k}"), [1 + random.below(1000) as u64]))
                .collect();
            GroupSpec::new(format!("{i}"), options)
        });
        let specs: Vec<_> = specs.collect();
        for limit in [700_000, 1_500_000, 2_500_000] {
            let budget = Budget::at_most("bytes", limit);
            let problem =
                Problem::builder().budget(budget.clone()).groups(specs.clone()).build().unwrap();
            let instance = Instance::new(problem.decisions(), 0, &budget, false).unwrap();
            let values: Vec<f64> = (0..problem.option_count()).map(|_| random.normal()).collect();
            for exactly in [false, true] {
                let mut sampled = Linear::new(&instance);
                let range = sampled.sample(&instance, &values, instance.capacity, exactly);
                let capacity = instance.capacity;
                let inside = sampled.solve_within(range, &instance, &values, capacity, exactly);
                let mut full = Linear::new(&instance);
                for (decision, b) in instance.starts.windows(2).enumerate() {
                    let place = full.append(&instance, &values, decision, b[0]..b[1], exactly);
                    full.place.push(place);
                }
                full.select(capacity);
                assert!(inside, "{range:?} misses {}", full.lambda);
                let found = (sampled.lambda, sampled.room, &sampled.place);
                assert_eq!(found, (full.lambda, full.room, &full.place));
            }
        }
    }
}
