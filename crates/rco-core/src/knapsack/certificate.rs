//! What is proven about a solution.

use serde::{Deserialize, Serialize};

/// How far a knapsack solution is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// No assignment within the budgets has a larger value.
    Optimal,
    /// A limit of [`Settings`](super::Settings) ended the proof; [`Certificate::gap`] is
    /// what is left.
    LimitReached,
    /// No assignment meets the `exactly` budget. The solution costs `below`, the
    /// largest total under the limit that some assignment has; whether it is the best
    /// at that total is said by [`Certificate::gap`].
    Nearest {
        /// Largest reachable total below the limit.
        below: u64,
        /// Smallest reachable total above the limit, if there is one.
        above: Option<u64>,
    },
    /// No assignment that meets the `exactly` budget was found within the limits of
    /// [`Settings`](super::Settings); whether there is one is open. The solution costs
    /// `below`, the largest total under the limit that was found.
    Missed {
        /// A reachable total below the limit.
        below: u64,
        /// A reachable total above the limit, if one was found.
        above: Option<u64>,
    },
}

/// Value of a solution and the proof that comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Sum of the values of the chosen options.
    pub value: f64,
    /// No assignment that meets the budgets has a larger value than this, up to the
    /// rounding error of the sum (see the [module](super) on rounding).
    pub bound: f64,
    /// `(bound − value) / max(|bound|, |value|)`; 0 means proven.
    pub gap: f64,
    /// Total cost of the solution in the first resource.
    pub cost: u64,
    /// What is left of the first budget.
    pub slack: u64,
    /// How far the proof got.
    pub status: Status,
}

impl Certificate {
    /// Whether the solution is proven best (at the nearest total, for
    /// [`Status::Nearest`]).
    pub fn is_proven(&self) -> bool {
        self.gap == 0.0
    }
}

/// The relative distance of a bound and a value; 0 if the bound is not above.
pub(super) fn relative_gap(value: f64, bound: f64) -> f64 {
    if bound > value { (bound - value) / bound.abs().max(value.abs()) } else { 0.0 }
}
