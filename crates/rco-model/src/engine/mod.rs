//! The whole model, a block at a time.

mod clock;
mod gradient;
mod model;
mod options;
mod settings;

pub(crate) use clock::Clock;
pub use clock::Part;
pub use model::Model;
pub use options::{OptionGradients, OptionTensors};
pub use settings::{Device, Settings};
