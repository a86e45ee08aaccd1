//! The best plans seen.

use serde::{Deserialize, Serialize};

use super::name::MethodName;

/// A feasible plan and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// One local option index for each decision.
    pub(crate) choices: Vec<u32>,
    /// The method that found it first.
    pub(crate) method: MethodName,
    /// How it was made.
    pub(crate) origin: String,
    /// Sum of the losses measured on single draws.
    pub(crate) draw_sum: f64,
    /// Number of those draws.
    pub(crate) draw_count: u64,
    /// Loss on the calibration split.
    pub(crate) calibration: Option<f64>,
    /// Whether a method returned it as its result.
    pub(crate) result: bool,
    /// Number of plans seen before it.
    pub(crate) order: u64,
}

impl Plan {
    /// The loss it is ranked by.
    pub(crate) fn loss(&self) -> Option<f64> {
        self.calibration
            .or_else(|| (self.draw_count > 0).then(|| self.draw_sum / self.draw_count as f64))
    }
}

/// Results of methods, and beside them a bounded number of the best other plans.
/// No two plans are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanMemory {
    capacity: usize,
    seen: u64,
    plans: Vec<Plan>,
}

/// What was measured of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Measurement {
    /// The sum of the losses on so many single draws.
    Draws { sum: f64, count: u64 },
    /// The loss on the calibration split.
    Calibration(f64),
}

impl PlanMemory {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, seen: 0, plans: Vec::new() }
    }

    /// All plans, in the order in which they were first seen.
    pub(crate) fn plans(&self) -> &[Plan] {
        &self.plans
    }

    pub(crate) fn find(&self, choices: &[u32]) -> Option<usize> {
        self.plans.iter().position(|p| p.choices == choices)
    }

    /// Adds a measurement, and the plan if it is new and good enough.
    pub(crate) fn record(
        &mut self,
        choices: &[u32],
        method: MethodName,
        origin: &str,
        measured: Measurement,
    ) {
        let index = self.find(choices);
        let plan = match index {
            Some(index) => &mut self.plans[index],
            None => self.insert(choices, method, origin),
        };
        match measured {
            Measurement::Draws { sum, count } => {
                plan.draw_sum += sum;
                plan.draw_count += count;
            }
            Measurement::Calibration(loss) => plan.calibration = Some(loss),
        }
        self.shrink();
    }

    /// Marks a plan as the result of a method, adding it if it is new.
    pub(crate) fn keep(&mut self, choices: &[u32], method: MethodName, origin: &str) {
        if let Some(index) = self.find(choices) {
            let plan = &mut self.plans[index];
            if !plan.result {
                plan.result = true;
                // The plan was a mere sample so far: name the method that chose it.
                if plan.method == method {
                    origin.clone_into(&mut plan.origin);
                }
            }
        } else {
            self.insert(choices, method, origin).result = true;
        }
    }

    fn insert(&mut self, choices: &[u32], method: MethodName, origin: &str) -> &mut Plan {
        let order = self.seen;
        self.seen += 1;
        self.plans.push(Plan {
            choices: choices.to_vec(),
            method,
            origin: origin.to_owned(),
            draw_sum: 0.0,
            draw_count: 0,
            calibration: None,
            result: false,
            order,
        });
        let last = self.plans.len() - 1;
        &mut self.plans[last]
    }

    /// Drops the worst plan if there are too many that are no results; of equally
    /// good ones the latest.
    fn shrink(&mut self) {
        while self.plans.iter().filter(|p| !p.result).count() > self.capacity {
            let worst = self
                .plans
                .iter()
                .enumerate()
                .filter(|(_, p)| !p.result)
                .max_by(|(_, a), (_, b)| rank(a, b))
                .map(|(index, _)| index);
            match worst {
                Some(index) => drop(self.plans.remove(index)),
                None => return,
            }
        }
    }

    /// Indices of all plans, best first: plans measured on the calibration split
    /// before the others.
    pub(crate) fn ranked(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.plans.len()).collect();
        order.sort_by(|&a, &b| {
            let (a, b) = (&self.plans[a], &self.plans[b]);
            a.calibration.is_none().cmp(&b.calibration.is_none()).then_with(|| rank(a, b))
        });
        order
    }

    /// The best plan that has been measured.
    pub(crate) fn best(&self) -> Option<&Plan> {
        let better = |a: &&Plan, b: &&Plan| {
            a.calibration.is_none().cmp(&b.calibration.is_none()).then_with(|| rank(a, b))
        };
        self.plans.iter().filter(|p| p.loss().is_some()).min_by(better)
    }
}

/// Orders plans by loss, unmeasured ones last, then by age.
fn rank(a: &Plan, b: &Plan) -> std::cmp::Ordering {
    let loss = |p: &Plan| p.loss().unwrap_or(f64::INFINITY);
    loss(a).total_cmp(&loss(b)).then(a.order.cmp(&b.order))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(memory: &mut PlanMemory, choice: u32, loss: f64) {
        let measured = Measurement::Calibration(loss);
        memory.record(&[choice], MethodName::Random, "sample", measured);
    }

    #[test]
    fn equal_plans_are_kept_once_and_their_draws_averaged() {
        let mut memory = PlanMemory::new(4);
        for sum in [1.0, 3.0] {
            let measured = Measurement::Draws { sum, count: 1 };
            memory.record(&[1, 2], MethodName::Rco, "sample", measured);
        }
        assert_eq!(memory.plans().len(), 1);
        assert_eq!(memory.plans()[0].loss(), Some(2.0));
    }

    #[test]
    fn the_worst_plan_makes_room_but_a_result_stays() {
        let mut memory = PlanMemory::new(2);
        memory.keep(&[9], MethodName::Uniform, "level");
        record(&mut memory, 9, 100.0);
        for (choice, loss) in [(0, 3.0), (1, 1.0), (2, 2.0), (3, 4.0)] {
            record(&mut memory, choice, loss);
        }
        let mut kept: Vec<u32> = memory.plans().iter().map(|p| p.choices[0]).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1, 2, 9]);
        assert_eq!(memory.best().unwrap().choices, [1]);
    }

    #[test]
    fn a_calibrated_plan_ranks_before_a_lucky_draw() {
        let mut memory = PlanMemory::new(4);
        memory.record(&[0], MethodName::Rco, "sample", Measurement::Draws { sum: 0.1, count: 1 });
        record(&mut memory, 1, 0.5);
        assert_eq!(memory.best().unwrap().choices, [1]);
        assert_eq!(memory.plans()[memory.ranked()[1]].choices, [0]);
    }
}
