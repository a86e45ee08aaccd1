//! What can go wrong on the budget manifold.

/// A manifold could not be built, or a point could not be put onto it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifoldError {
    /// The budgets do not belong to the decisions.
    #[error("there are {found} budgets, but the decisions have costs in {expected} resource(s)")]
    BudgetCount {
        /// Resources of the decisions.
        expected: usize,
        /// Budgets given.
        found: usize,
    },
    /// A list does not have one entry per option, or per budget.
    #[error("{what} has {found} entries; expected {expected}")]
    Length {
        /// Name of the list.
        what: &'static str,
        /// Entries expected.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// A logit is NaN or infinite.
    #[error("logit number {index} is {value}: it must be a finite number")]
    NotFinite {
        /// Index in the flat order.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A budget lies outside of the totals that any probabilities reach.
    #[error(
        "the expected total of `{resource}` cannot be {limit}: it lies between {smallest} and {largest}"
    )]
    Unreachable {
        /// The resource.
        resource: String,
        /// Its limit.
        limit: u64,
        /// Smallest possible total.
        smallest: u64,
        /// Largest possible total.
        largest: u64,
    },
    /// No probabilities meet all budgets at once, though each alone can be met.
    #[error(
        "the budgets could not be met together: `{resource}` stays at {reached} where {limit} is \
         wanted; relax one of the budgets that must be met exactly"
    )]
    NotMet {
        /// The resource with the largest relative residual.
        resource: String,
        /// Its limit.
        limit: u64,
        /// The expected cost that was reached.
        reached: f64,
    },
}
