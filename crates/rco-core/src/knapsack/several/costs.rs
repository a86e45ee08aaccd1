//! Reduced costs of several resources.

use crate::budget::{Budget, BudgetKind};
use crate::decisions::Decisions;
use crate::knapsack::KnapsackError;
use crate::knapsack::instance::Instance;

/// One resource: the cheapest option of each decision costs 0, in units of the
/// greatest common divisor of all differences.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    /// Reduced cost of every option, flat order.
    pub(super) cost: Vec<i64>,
    /// Budget left above the cheapest options, in reduced units.
    pub(super) capacity: i64,
    /// Whether the capacity has to be used up.
    pub(super) exactly: bool,
    /// Largest reduced cost, at least 1: the scale of the resource.
    pub(super) scale: f64,
}

impl Resource {
    /// Reduces the costs of one resource.
    ///
    /// # Errors
    /// See [`Instance::new`]; [`KnapsackError::JointlyInfeasible`] if an `exactly` budget
    /// lies between the multiples of the unit or above the largest total.
    pub(super) fn new(
        decisions: &Decisions,
        resource: usize,
        budget: &Budget,
    ) -> Result<Self, KnapsackError> {
        let instance = Instance::new(decisions, resource, budget, true)?;
        let exactly = budget.kind == BudgetKind::Exactly;
        if exactly && !instance.aligned {
            // The multiple of the unit below; above the largest total, that total.
            let below = instance.total(instance.capacity);
            return Err(KnapsackError::JointlyInfeasible {
                resources: format!("`{}`", budget.resource),
                nearest: vec![(budget.resource.clone(), below)],
            });
        }
        let mut cost = vec![0; decisions.option_count()];
        for (&flat, &reduced) in instance.flat.iter().zip(&instance.cost) {
            cost[flat as usize] = reduced;
        }
        let largest = cost.iter().max().copied().unwrap_or(0).max(1);
        Ok(Self { cost, capacity: instance.capacity, exactly, scale: largest as f64 })
    }

    /// How far a total is from meeting the budget, in reduced units.
    pub(super) fn violation(&self, used: i64) -> i64 {
        if self.exactly { (used - self.capacity).abs() } else { (used - self.capacity).max(0) }
    }
}

/// Total of the choices in every resource.
pub(super) fn totals(
    resources: &[Resource],
    offsets: &[usize],
    choices: &[u32],
    out: &mut Vec<i64>,
) {
    out.clear();
    out.extend(resources.iter().map(|resource| {
        let pairs = offsets.iter().zip(choices);
        pairs.map(|(&start, &choice)| resource.cost[start + choice as usize]).sum::<i64>()
    }));
}

/// Whether totals meet every budget.
pub(super) fn feasible(resources: &[Resource], totals: &[i64]) -> bool {
    resources.iter().zip(totals).all(|(resource, &used)| resource.violation(used) == 0)
}
