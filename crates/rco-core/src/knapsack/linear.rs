//! Optimum of the linear relaxation by selection on hull slopes (Dyer 1984, Zemel 1984).

use super::hull::{Step, append_steps};
use super::instance::Instance;

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
    pub(super) fn solve(
        &mut self,
        instance: &Instance,
        values: &[f64],
        capacity: i64,
        exactly: bool,
    ) {
        self.steps.clear();
        self.place.clear();
        for (decision, bounds) in instance.starts.windows(2).enumerate() {
            let (start, end) = (bounds[0], bounds[1]);
            self.place.push(append_steps(
                start,
                &instance.cost[start..end],
                &instance.flat[start..end],
                values,
                decision as u32,
                exactly,
                &mut self.steps,
            ));
        }
        self.select(capacity);
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

    fn take(&mut self, range: std::ops::Range<usize>) {
        for step in &self.steps[range] {
            let place = &mut self.place[step.decision as usize];
            *place = step.place.max(*place);
        }
    }

    /// Takes steps of equal slope as long as they fit, in the order of decisions.
    fn fill(&mut self, range: std::ops::Range<usize>) {
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
