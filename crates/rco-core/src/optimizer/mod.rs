//! Riemannian constrained optimisation: Adam on the budget manifold with Gumbel
//! straight-through samples.

mod adam;
mod error;
mod rco;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use adam::{Adam, AdamSettings};
pub use error::OptimizerError;
pub use rco::{Rco, Sample, StepReport};
pub use settings::RcoSettings;
pub use state::RcoState;
