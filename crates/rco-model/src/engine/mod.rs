//! The whole model, a block at a time.

mod gradient;
mod model;
mod options;
mod settings;

pub use model::Model;
pub use options::{OptionGradients, OptionTensors};
pub use settings::{Device, Settings};
