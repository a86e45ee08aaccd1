//! What a search returns.

use serde::{Deserialize, Serialize};

use super::counter::Counts;
use super::name::MethodName;
use crate::assignment::Assignment;
use crate::knapsack::Certificate;

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StopReason {
    /// Every stage came to its end.
    Completed,
    /// The exact knapsack proved a plan optimal, so that nothing was left to search.
    Proven,
    /// The limit of evaluations was reached.
    Evaluations,
    /// The limit of time was reached.
    Time,
    /// The main stage went too many steps without a better plan.
    NoImprovement,
    /// An observer asked to finish early.
    Requested,
}

/// A plan that entered the final choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The method that found it first.
    pub method: MethodName,
    /// How the method made it, such as `knapsack on log p`.
    pub origin: String,
    /// The plan.
    pub assignment: Assignment,
    /// Loss on the held-out split.
    pub loss_heldout: f64,
    /// Loss on the calibration split, where the limits left room to measure it.
    pub loss_calibration: Option<f64>,
    /// Total cost for every resource.
    pub costs: Vec<u64>,
}

/// A statistic of a method whose own result breaks the budget before it is made
/// feasible: the raw argmax of a penalty method, say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawResult {
    /// The method.
    pub method: MethodName,
    /// Total cost of its raw plan for every resource.
    pub costs: Vec<u64>,
    /// Whether the raw plan satisfies every budget.
    pub feasible: bool,
}

/// The chosen plan and how it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchOutcome {
    /// The chosen plan.
    pub assignment: Assignment,
    /// The method that found it first.
    pub method: MethodName,
    /// How the method made it.
    pub origin: String,
    /// Its loss on the held-out split.
    pub loss_heldout: f64,
    /// Its loss on the calibration split, where the limits left room to measure it.
    pub loss_calibration: Option<f64>,
    /// Its total cost for every resource.
    pub costs: Vec<u64>,
    /// What it leaves of every budget.
    pub slack: Vec<u64>,
    /// All plans that entered the choice, best first. The chosen one is the first.
    pub candidates: Vec<Candidate>,
    /// Raw results of methods that do not respect the budget by themselves.
    pub raw: Vec<RawResult>,
    /// Evaluations of the objective.
    pub counts: Counts,
    /// Steps done in all stages together.
    pub steps: u64,
    /// Why the run ended.
    pub stopped: StopReason,
    /// For separable objectives: the proof of the exact knapsack. Its `value` is
    /// the negated loss of the optimal plan and its `bound` the negated lower
    /// bound of the loss.
    pub certificate: Option<Certificate>,
    /// Seconds the run took, those before a resume included.
    pub seconds: f64,
}
