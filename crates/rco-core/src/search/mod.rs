//! The search: objectives, methods, the driver and what it keeps.
//!
//! [`search`] runs a method, or the portfolio of all that is sensible, on a
//! [`Problem`](crate::Problem) and an [`Objective`]. Every method is a resumable
//! step machine ([`Method`]) that asks for losses and gradients through one
//! [`Oracle`], which counts, limits, checks and remembers.

mod checkpoint;
mod counter;
mod curvature;
mod descend;
mod driver;
mod error;
pub(crate) mod fill;
mod fingerprint;
mod history;
mod leap;
mod memo;
mod memory;
mod method;
mod moves;
mod name;
mod objective;
mod observer;
mod oracle;
mod outcome;
mod patience;
mod polish;
mod posterior;
mod rco;
mod refine;
mod rescore;
pub(crate) mod rounding;
mod select;
pub(crate) mod settings;
mod stages;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod warm;

pub use checkpoint::CHECKPOINT_FILE;
pub use counter::Counts;
pub use driver::search;
pub use error::SearchError;
pub use history::JsonlHistory;
pub use method::{Method, Progress};
pub(crate) use method::{from_json, to_json};
pub use name::MethodName;
pub use objective::{Draw, Evaluation, Objective, ObjectiveError, Split, Strain};
pub use observer::{
    CheckpointEvent, Control, Fanout, Observer, Recorder, Silent, StageEvent, StartEvent, StepEvent,
};
pub use oracle::{Measured, Oracle, Sample};
pub use outcome::{Candidate, RawResult, SearchOutcome, StopReason};
pub use settings::{
    BaselineSettings, CheckpointSettings, DescendSettings, PolishSettings, PolishWhen,
    RefineSettings, RescoreSettings, SearchSettings, WarmStartSettings,
};
