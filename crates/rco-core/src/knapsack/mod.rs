//! The multiple-choice knapsack, solved with a proof.
//!
//! Choose one option `k(i)` for every decision `i` so that `Σ v_{i,k(i)}` is largest
//! while `Σ c_{i,k(i)} ≤ B` (or `= B`), with integer costs and any finite values.

mod certificate;
mod core;
mod error;
mod hull;
mod instance;
mod linear;
mod reach;
mod settings;
mod several;
mod single;
mod solver;

pub use certificate::{Certificate, Status};
pub use error::KnapsackError;
pub use settings::{Effort, Settings};
pub use solver::{Solver, Work};
