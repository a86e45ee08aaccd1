//! Reduced-cost fixing against the Lagrangian bound.

use super::costs::Resource;
use super::dual::Point;
use crate::knapsack::Work;

/// An option that may replace the maximiser of its decision.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "highs"), expect(dead_code, reason = "the solver of the core reads it"))]
pub(super) struct Open {
    pub(super) decision: usize,
    pub(super) flat: usize,
    /// Flat index of the maximiser.
    pub(super) chosen: usize,
    /// Loss against the Lagrangian bound, not negative.
    pub(super) loss: f64,
}

/// What reduced-cost fixing leaves open, relative to the maximisers of the Lagrangian.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "highs"), expect(dead_code, reason = "the solver of the core reads it"))]
pub(super) struct Fixed<'a> {
    pub(super) resources: &'a [Resource],
    pub(super) lambda: &'a [f64],
    /// Budget left by the maximisers; negative where they exceed it.
    pub(super) room: Vec<i64>,
    /// Open options, grouped by decision, without the maximisers.
    pub(super) options: Vec<Open>,
}

impl<'a> Fixed<'a> {
    /// Leaves open what loses no more than `gap`, the distance of bound and incumbent.
    pub(super) fn new(
        resources: &'a [Resource],
        point: &'a Point,
        offsets: &[usize],
        values: &[f64],
        gap: f64,
    ) -> Self {
        let totals = resources.iter().zip(&point.totals);
        let room = totals.map(|(resource, &used)| resource.capacity - used).collect();
        let mut options = Vec::new();
        for (decision, range) in offsets.windows(2).enumerate() {
            let chosen = range[0] + point.choices[decision] as usize;
            for flat in (range[0]..range[1]).filter(|&flat| flat != chosen) {
                let mut loss = values[chosen] - values[flat];
                for (resource, lambda) in resources.iter().zip(&point.lambda) {
                    loss += lambda * (resource.cost[flat] - resource.cost[chosen]) as f64;
                }
                let loss = loss.max(0.0);
                if loss <= gap {
                    options.push(Open { decision, flat, chosen, loss });
                }
            }
        }
        Self { resources, lambda: &point.lambda, room, options }
    }

    /// Size of the core.
    pub(super) fn work(&self) -> Work {
        let decisions = self.options.chunk_by(|a, b| a.decision == b.decision).count();
        Work { core_decisions: decisions, core_options: self.options.len(), states: 0 }
    }
}
