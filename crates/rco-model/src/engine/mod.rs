//! The whole model, a block at a time.

mod clock;
mod footprint;
mod gradient;
mod model;
mod options;
mod rate;
mod settings;
mod sweep;
mod together;
mod walk;

pub(crate) use clock::Clock;
pub use clock::Part;
pub use footprint::{Footprint, Load};
pub use model::Model;
pub use options::{OptionGradients, OptionSquares, OptionTensors};
pub use rate::product_rate;
pub use settings::{Device, Settings};
pub use sweep::{Sweep, SweepBlock, SweepState};
pub use walk::Walk;
