//! Search methods against each other at equal numbers of evaluations, on problems
//! whose optimum is known.

mod contender;
mod family;
mod plot;
mod run;
mod summary;

use serde::Serialize;

pub use contender::{Contender, contenders};
pub use family::{Family, Instance, draw};
pub use plot::{effort_plot, gap_plot};
pub use run::{SyntheticSettings, run};
pub use summary::{Summary, summarise};

/// One run of one contender on one instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the family.
    pub family: String,
    /// Groups `N`.
    pub groups: usize,
    /// Options of each group `K`.
    pub options: usize,
    /// How generous the budget is, from 0 to 1.
    pub tightness: f64,
    /// Seed of the instance and of the search.
    pub seed: u64,
    /// Limit of evaluations.
    pub limit: u64,
    /// Name of the contender.
    pub method: String,
    /// Which of its settings gave the best result.
    pub setting: usize,
    /// Settings tried.
    pub settings: usize,
    /// Loss of the plan.
    pub loss: f64,
    /// Loss of the optimum.
    pub optimum: f64,
    /// Score in per cent: 100 is the optimum, 0 the mean of random feasible plans.
    pub score: f64,
    /// Value of the plan over the optimal value, in per cent (separable families).
    pub value_ratio: Option<f64>,
    /// Cost of the plan.
    pub cost: u64,
    /// The budget.
    pub budget: u64,
    /// Whether the plan exceeds the budget.
    pub over_budget: bool,
    /// Whether the method's own plan, before it was made feasible, exceeds it.
    pub raw_over_budget: Option<bool>,
    /// Cost of that plan relative to the budget, in per cent.
    pub raw_cost: Option<f64>,
    /// Evaluations used by the best setting: gradients and losses.
    pub evaluations: u64,
    /// Seconds of the best setting.
    pub seconds: f64,
}
