//! What is in a model: `rco inspect` as data ([`inspect()`]) and as text ([`render`]).

mod open;
mod render;
mod report;
mod role;

pub use open::{InspectError, inspect};
pub use render::render;
pub use report::{KindSummary, Report, RowRule, StorageType, TensorReport, TypeSummary};
pub use role::{Kind, Role, role};
