//! What can go wrong in a search.

use std::path::PathBuf;

use super::objective::ObjectiveError;
use crate::knapsack::KnapsackError;
use crate::optimizer::OptimizerError;

/// A search could not start, continue or finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// A setting is outside of its range.
    #[error("setting `{setting}` is {found}: it must be {expected}")]
    Setting {
        /// Name of the setting, with its section.
        setting: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// The name of a method is unknown.
    #[error("there is no method `{name}`; the methods are {known}")]
    UnknownMethod {
        /// The name found.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The objective failed.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// The objective returned a loss or a derivative that is not a finite number.
    #[error("the objective returned {value} as its {what}: it must be a finite number")]
    NotFinite {
        /// `loss`, or the place of the derivative.
        what: String,
        /// `NaN`, `inf` or `-inf`.
        value: f64,
    },
    /// The objective returned fewer or more numbers than it was asked for.
    #[error("the objective returned {found} {what}, {expected} were expected")]
    Count {
        /// `losses`, `evaluations`, `derivatives` or `proxy scores`.
        what: &'static str,
        /// Number expected.
        expected: usize,
        /// Number found.
        found: usize,
    },
    /// An objective calls itself separable but has no scores to show for it.
    #[error(
        "the objective is marked separable but gives no proxy scores: \
         return the loss of every option from `proxy_scores`"
    )]
    SeparableWithoutScores,
    /// The exact method was asked for, but the objective is not separable.
    #[error("the exact method needs a separable objective: use another method")]
    NotSeparable,
    /// No assignment meets an `exactly` budget.
    #[error("no assignment costs exactly {limit} {resource}: the nearest total below is {below}{above}",
        above = above.map_or_else(String::new, |a| format!(", the nearest above is {a}")))]
    Unreachable {
        /// The resource of the first `exactly` budget that is missed.
        resource: String,
        /// The total asked for.
        limit: u64,
        /// The nearest total below that an assignment has.
        below: u64,
        /// The nearest total above, if known.
        above: Option<u64>,
    },
    /// No assignment that meets an `exactly` budget was found; whether there is one is
    /// open.
    #[error("no assignment that costs exactly {limit} {resource} was found, and none is ruled out: \
        ask for a total that exists, such as {below}{above}, or make the budget an `at most` one",
        above = above.map_or_else(String::new, |a| format!(" or {a}")))]
    Missed {
        /// The resource of the `exactly` budget.
        resource: String,
        /// The total asked for.
        limit: u64,
        /// The largest total below that was found.
        below: u64,
        /// The smallest total above that was found, if any.
        above: Option<u64>,
    },
    /// The exact discrete step failed.
    #[error(transparent)]
    Knapsack(#[from] KnapsackError),
    /// The optimiser failed.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// A plan that breaks a budget was about to enter the plan memory. This is a
    /// defect of the method named, not of the input.
    #[error(
        "method `{method}` proposed a plan that costs {cost} {resource} against a budget of \
         {limit}: please report this"
    )]
    PlanOverBudget {
        /// The method.
        method: String,
        /// The resource.
        resource: String,
        /// The budget.
        limit: u64,
        /// Cost of the plan.
        cost: u64,
    },
    /// The run ended before a single feasible plan was measured.
    #[error(
        "the search ended before it had measured a plan: \
         raise the limit of evaluations ({evaluations}) or of time"
    )]
    NoPlan {
        /// Evaluations spent.
        evaluations: u64,
    },
    /// A checkpoint could not be read or written.
    #[error("checkpoint {path}: {action} failed")]
    CheckpointIo {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// A checkpoint is damaged or not a checkpoint at all.
    #[error("checkpoint {path} is damaged: {reason}; delete it to start anew")]
    CheckpointDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint belongs to another run.
    #[error(
        "checkpoint {path} belongs to another run: {what} was {checkpoint} and is now {current}; \
         go back to the former value, or use another folder"
    )]
    CheckpointForeign {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
        /// Its value in the checkpoint.
        checkpoint: String,
        /// Its value now.
        current: String,
    },
    /// The state of a method could not be turned into JSON or back.
    #[error("the state of method `{method}` could not be saved or restored")]
    State {
        /// The method.
        method: String,
        /// The error of the serialiser.
        #[source]
        source: serde_json::Error,
    },
    /// The pool of threads could not be built.
    #[error("{threads} threads could not be started")]
    Threads {
        /// Number of threads asked for.
        threads: usize,
        /// The underlying error.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
    /// An observer failed.
    #[error("the observer of the search failed")]
    Observer(#[source] std::io::Error),
    /// An observer asked to stop at once. The checkpoint, if there is one, is up to date.
    #[error("the search was interrupted after {steps} steps")]
    Interrupted {
        /// Steps done in all stages together.
        steps: u64,
    },
}
