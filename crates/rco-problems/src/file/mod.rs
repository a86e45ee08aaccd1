//! Problem files: JSON for every problem, CSV for separable ones.
//!
//! A file is read in two steps. The document ([`ProblemFile`]) mirrors the text and
//! is lenient about numbers, so that a negative cost or a number in quotes can be
//! reported by the name of its group and option. [`ProblemFile::into_instance`]
//! then checks every value and builds the [`Problem`](rco_core::Problem) and its objective.
//!
//! ```
//! use rco_problems::file::{ReadOptions, parse_json};
//!
//! let text = r#"{
//!   "format": "rco-problem", "version": 1,
//!   "budgets": [{"resource": "bytes", "limit": "1KB"}],
//!   "groups": [{"name": "a", "options": [
//!     {"name": "small", "cost": 400, "loss": 0.5},
//!     {"name": "large", "cost": 900, "loss": 0.1}]}]
//! }"#;
//! let instance = parse_json(text.as_bytes(), "a.json", &ReadOptions::default())?;
//! assert_eq!(instance.problem.budgets()[0].limit, 1000);
//! # Ok::<(), rco_problems::file::FileError>(())
//! ```

mod build;
mod csv;
mod document;
mod error;
mod json;
mod quantity;
mod read;
mod scalar;
#[cfg(test)]
mod tests;

pub use build::Instance;
pub use csv::parse_csv;
pub use document::{
    BudgetEntry, BudgetEntryKind, Entries, FORMAT, GroupEntry, OptionEntry, PairEntry, ProblemFile,
    VERSION, schema,
};
pub use error::{FileError, FileErrorKind};
pub use json::parse_json;
pub use quantity::{BudgetOverride, Quantity, QuantityError};
pub use read::{Format, ReadOptions, read};
pub use scalar::{Integer, Limit, Real, Scalar};
