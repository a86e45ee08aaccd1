//! Why a knapsack could not be solved.

use std::fmt;

/// A knapsack could not be set up or solved.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KnapsackError {
    /// There is no decision.
    #[error("there is nothing to decide on: give at least one decision")]
    NoDecisions,
    /// A decision has no option.
    #[error("decision {decision} has no option: give it at least one")]
    NoOptions {
        /// Index of the decision.
        decision: usize,
    },
    /// The number of budgets is not the number of resources, or there is none.
    #[error(
        "{found} budgets for {expected} resources: give one budget for each resource, at least one"
    )]
    BudgetCount {
        /// Resources of the decisions.
        expected: usize,
        /// Budgets given.
        found: usize,
    },
    /// The sum of the largest costs exceeds 63 bits.
    #[error("the costs in `{resource}` add up to more than 2^63 - 1: use a larger unit")]
    CostOverflow {
        /// The resource.
        resource: String,
    },
    /// A budget is below the smallest possible total.
    #[error(
        "budget of {limit} {resource} is infeasible: the smallest possible total is {smallest}"
    )]
    Infeasible {
        /// The resource.
        resource: String,
        /// Its limit.
        limit: u64,
        /// The smallest total that any assignment has.
        smallest: u64,
    },
    /// No assignment meets all budgets.
    #[error(
        "the budgets on {resources} cannot be met together: no assignment satisfies all of them{}",
        Nearest(nearest)
    )]
    JointlyInfeasible {
        /// The resources, for the message.
        resources: String,
        /// Resources and totals of an assignment that misses the budgets by little,
        /// where one is known. If a single `exactly` budget is at fault by itself: no
        /// total lies between this one and its limit.
        nearest: Vec<(String, u64)>,
    },
    /// No assignment that meets the budgets was found within the limits; whether there
    /// is one is open.
    #[error(
        "no assignment that meets the budgets on {resources} was found within {max_states} states \
         and {max_nodes} nodes: raise the limits, or make an `exactly` budget an `at most` one"
    )]
    Undecided {
        /// The resources, for the message.
        resources: String,
        /// The limit of states.
        max_states: usize,
        /// The limit of nodes.
        max_nodes: u64,
    },
    /// A value is NaN, infinite or beyond ±1e300.
    #[error(
        "value of option {option} of decision {decision} is {value}: it must be a number \
         between -1e300 and 1e300"
    )]
    BadValue {
        /// Index of the decision.
        decision: usize,
        /// Index of the option within the decision.
        option: usize,
        /// The value found.
        value: f64,
    },
    /// A slice has the wrong length.
    #[error("{what} has {found} entries, expected {expected}")]
    Length {
        /// `values` or `choices`.
        what: &'static str,
        /// Entries needed.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// HiGHS reported an error.
    #[error("HiGHS failed on the core: {message}")]
    Highs {
        /// What it reported.
        message: String,
    },
}

/// What can be had instead, as the end of a message.
struct Nearest<'a>(&'a [(String, u64)]);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (resource, total)) in self.0.iter().enumerate() {
            let lead = if index == 0 { "; the nearest that can be had is" } else { " with" };
            write!(f, "{lead} {total} {resource}")?;
        }
        Ok(())
    }
}
