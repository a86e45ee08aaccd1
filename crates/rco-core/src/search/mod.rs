//! The search: objectives, the driver and what it keeps.

mod objective;

pub use objective::{Draw, Evaluation, Objective, ObjectiveError, Split};
