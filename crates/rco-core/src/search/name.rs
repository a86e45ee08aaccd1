//! Names of the methods.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::SearchError;

/// A method of search, or a stage of one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MethodName {
    /// The cheap baselines, RCO started from the best of their scores, roundings,
    /// polish, and a held-out choice over all of their plans.
    #[default]
    Portfolio,
    /// Riemannian Constrained Optimization: [`crate::optimizer::Rco`] and its roundings.
    Rco,
    /// The largest uniform option that fits.
    Uniform,
    /// Plans of [`super::Objective::known_plans`]. A stage of the portfolio, not a method.
    Known,
    /// Random feasible plans.
    Random,
    /// Greedy by score saved per unit of cost.
    Greedy,
    /// The exact knapsack on separable scores.
    Proxy,
    /// The exact knapsack on the losses of a separable objective.
    Exact,
    /// Quadratic penalty on the budget.
    Penalty,
    /// Lagrangian with dual ascent.
    Lagrangian,
    /// Augmented Lagrangian.
    Augmented,
    /// Evolutionary search with cost-keeping level switches.
    Evolution,
    /// Score-function gradient with exact-budget sampling.
    Reinforce,
    /// Separable scores measured anew at the plan that they lead to. A stage of the portfolio,
    /// not a method.
    Rescore,
    /// Exact knapsacks on option gradients at the plan, one after the other. A stage of the
    /// portfolio, not a method.
    Descend,
    /// Separable scores corrected by measured losses. A stage of the portfolio, not a method.
    Refine,
    /// Single moves and pair swaps from the best plan so far. A stage, not a method.
    Polish,
}

impl MethodName {
    /// Every method that a user can choose.
    pub const SELECTABLE: [Self; 12] = [
        Self::Portfolio,
        Self::Rco,
        Self::Uniform,
        Self::Random,
        Self::Greedy,
        Self::Proxy,
        Self::Exact,
        Self::Penalty,
        Self::Lagrangian,
        Self::Augmented,
        Self::Evolution,
        Self::Reinforce,
    ];

    /// The name as it is written on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Portfolio => "portfolio",
            Self::Rco => "rco",
            Self::Uniform => "uniform",
            Self::Known => "known",
            Self::Random => "random",
            Self::Greedy => "greedy",
            Self::Proxy => "proxy",
            Self::Exact => "exact",
            Self::Penalty => "penalty",
            Self::Lagrangian => "lagrangian",
            Self::Augmented => "augmented",
            Self::Evolution => "evolution",
            Self::Reinforce => "reinforce",
            Self::Rescore => "rescore",
            Self::Descend => "descend",
            Self::Refine => "refine",
            Self::Polish => "polish",
        }
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MethodName {
    type Err = SearchError;

    fn from_str(name: &str) -> Result<Self, SearchError> {
        Self::SELECTABLE.into_iter().find(|m| m.as_str() == name).ok_or_else(|| {
            SearchError::UnknownMethod {
                name: name.to_owned(),
                known: Self::SELECTABLE.map(Self::as_str).join(", "),
            }
        })
    }
}
