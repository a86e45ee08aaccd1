//! Budgeted assignment: choose one of `K_i` options for each of `N` groups so that a
//! loss which depends on all choices jointly is as small as possible and the total
//! cost stays within the budget to the unit.
//!
//! The method is Riemannian Constrained Optimization (RCO, arXiv 2605.00649): the
//! budget is a smooth manifold in logit space, every iterate lies on it, and every
//! sampled assignment is made feasible by an exact multiple-choice knapsack solver.
//!
//! This crate is the mathematics alone: no model, no tensor, no file format.

mod assignment;
pub mod baselines;
mod budget;
mod decisions;
pub mod knapsack;
pub mod manifold;
pub mod optimizer;
pub mod problem;
pub mod relax;
pub mod rng;
pub mod search;

pub use assignment::Assignment;
pub use budget::{Budget, BudgetKind};
pub use decisions::Decisions;
pub use problem::{GroupSpec, OptionSpec, Problem, ProblemBuilder, ProblemError};
