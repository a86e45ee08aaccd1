//! Problem files and ready-made objectives for `rco-core`.
//!
//! - [`file`]: problems as JSON (with a published schema) and, if separable, as CSV.
//! - [`objectives`]: the separable and the quadratic loss.
//! - [`planted`]: non-separable problems with a known optimum, for benchmarks.

pub mod file;
mod hash;
pub mod objectives;
pub mod planted;
