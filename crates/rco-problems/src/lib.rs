//! Problem files, ready-made objectives and benchmark instances for `rco-core`.
//!
//! - [`mod@file`]: problems as JSON (with a published schema) and, if separable, as CSV.
//! - [`generators`]: separable benchmark instances.
//! - [`objectives`]: the separable and the quadratic loss.
//! - [`planted`]: non-separable problems with a known optimum, for benchmarks.

pub mod file;
pub mod generators;
mod hash;
pub mod objectives;
pub mod planted;

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
