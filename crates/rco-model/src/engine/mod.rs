//! The whole model, a block at a time.

mod gradient;
mod model;
mod options;
mod settings;
mod sweep;

pub use model::Model;
pub use options::{OptionGradients, OptionTensors};
pub use settings::{Device, Settings};
pub use sweep::{Sweep, SweepBlock, SweepState};
