//! The fixed part of a knapsack with one budget: reduced costs in order.

use super::KnapsackError;
use crate::budget::Budget;
use crate::decisions::Decisions;

/// Options that can fit, ordered by cost within each decision.
///
/// Costs are reduced: the cheapest option of each decision costs 0 and the unit is
/// the greatest common divisor of all differences. A `place` is an index into this
/// order.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    /// Boundaries of the decisions in the order; one more than decisions.
    pub(super) starts: Vec<usize>,
    /// Index of the option in the flat order of the decisions.
    pub(super) flat: Vec<u32>,
    /// Reduced cost.
    pub(super) cost: Vec<i64>,
    /// Sum of the smallest costs.
    pub(super) base: u64,
    /// Greatest common divisor of all cost differences, at least 1.
    pub(super) unit: u64,
    /// The budget in reduced units, rounded down.
    pub(super) capacity: i64,
    /// Whether the capacity is a multiple of the unit above the base.
    pub(super) aligned: bool,
}

/// Greatest common divisor; `gcd(0, x) = x`.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Smallest and largest total cost in one resource.
///
/// # Errors
/// [`KnapsackError::NoOptions`] and [`KnapsackError::CostOverflow`].
pub(super) fn cost_range(
    decisions: &Decisions,
    resource: usize,
    name: &str,
) -> Result<(u64, u64), KnapsackError> {
    let costs = decisions.costs(resource);
    let (mut smallest, mut largest) = (0_u64, 0_u64);
    for decision in 0..decisions.len() {
        let own = &costs[decisions.options_of(decision)];
        let (Some(&low), Some(&high)) = (own.iter().min(), own.iter().max()) else {
            return Err(KnapsackError::NoOptions { decision });
        };
        largest = largest
            .checked_add(high)
            .filter(|&sum| i64::try_from(sum).is_ok())
            .ok_or_else(|| KnapsackError::CostOverflow { resource: name.to_owned() })?;
        smallest += low;
    }
    Ok((smallest, largest))
}

impl Instance {
    /// Reduces the costs of `resource` and orders the options.
    ///
    /// Options that exceed the budget even beside all cheapest ones are left out,
    /// unless `keep_all`.
    ///
    /// # Errors
    /// As [`cost_range`], and [`KnapsackError::Infeasible`].
    pub(super) fn new(
        decisions: &Decisions,
        resource: usize,
        budget: &Budget,
        keep_all: bool,
    ) -> Result<Self, KnapsackError> {
        let (base, largest) = cost_range(decisions, resource, &budget.resource)?;
        if base > budget.limit {
            return Err(KnapsackError::Infeasible {
                resource: budget.resource.clone(),
                limit: budget.limit,
                smallest: base,
            });
        }
        let costs = decisions.costs(resource);
        let mut unit = 0;
        for decision in 0..decisions.len() {
            let own = &costs[decisions.options_of(decision)];
            let low = own.iter().min().copied().unwrap_or(0);
            unit = own.iter().fold(unit, |unit, &cost| gcd(unit, cost - low));
            if unit == 1 {
                break;
            }
        }
        let unit = unit.max(1);
        let room = budget.limit - base;
        // More room than the largest total uses is the same as exactly that much,
        // except that an `exactly` budget there cannot be met.
        let usable = room.min(largest - base);
        let capacity = (usable / unit).cast_signed();
        let mut out = Self {
            starts: vec![0],
            flat: Vec::with_capacity(decisions.option_count()),
            cost: Vec::with_capacity(decisions.option_count()),
            base,
            unit,
            capacity,
            aligned: room == usable && room.is_multiple_of(unit),
        };
        let mut order: Vec<(i64, u32)> = Vec::new();
        for decision in 0..decisions.len() {
            let range = decisions.options_of(decision);
            let low = costs[range.clone()].iter().min().copied().unwrap_or(0);
            order.clear();
            order.extend(
                range.map(|flat| (((costs[flat] - low) / unit).cast_signed(), flat as u32)),
            );
            order.sort_unstable();
            for &(cost, flat) in order.iter().take_while(|o| keep_all || o.0 <= capacity) {
                out.cost.push(cost);
                out.flat.push(flat);
            }
            out.starts.push(out.flat.len());
        }
        Ok(out)
    }

    /// Number of decisions.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// A total in the unit of the budget.
    pub(super) fn total(&self, reduced: i64) -> u64 {
        self.base + self.unit * reduced as u64
    }
}
