//! Ready-made losses: a sum over options, and a sum over options and pairs of options.

mod fingerprint;
mod magnitude;
mod quadratic;
mod separable;

pub use quadratic::{Pair, Quadratic, QuadraticError};
pub use separable::Separable;
