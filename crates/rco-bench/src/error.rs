//! What can go wrong while a benchmark runs.

use rco_core::ProblemError;
use rco_core::knapsack::KnapsackError;
use rco_core::search::{ObjectiveError, SearchError};
use rco_problems::objectives::QuadraticError;
use rco_quant::QuantError;

/// A benchmark could not be run or reported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// An instance could not be built.
    #[error("an instance could not be built: {0}")]
    Problem(#[from] ProblemError),
    /// A quadratic instance could not be built.
    #[error("an instance could not be built: {0}")]
    Quadratic(#[from] QuadraticError),
    /// The exact solver failed.
    #[error("the exact solver failed: {0}")]
    Knapsack(#[from] KnapsackError),
    /// A loss could not be computed.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// A search failed.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// A model could not be compressed.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A model could not be pruned.
    #[error(transparent)]
    Prune(Box<rco_quant::prune::PruneError>),
    /// There is no contender of that name.
    #[error("there is no method called `{name}` in this benchmark; see its table for the names")]
    UnknownContender {
        /// The name asked for.
        name: String,
    },
    /// A contender has no settings.
    #[error("the method `{name}` has no settings to run")]
    NoSettings {
        /// Its name.
        name: &'static str,
    },
    /// A plot could not be drawn.
    #[error("the plot could not be drawn: {message}")]
    Plot {
        /// What the plotting library says.
        message: String,
    },
}
