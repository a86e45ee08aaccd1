//! From a model and a number of bytes to a file that fits.

mod experts;
mod finish;
mod open;
mod outlook;
mod scales;
mod settings;
mod stages;
mod texts;

pub use experts::VersionTried;
pub use finish::{FileOutcome, JobOutcome, Planned, written_plan};
pub use open::{Job, budget_of};
pub use outlook::{Outlook, OutlookOrder};
pub use scales::TunedBlocks;
pub use settings::{JobSettings, MeasuredIn, Order, Target};
pub use stages::{EngineMeasure, Measure, OptionsFile, Prepared};
pub(crate) use texts::write_windows;

use rco_core::search::Observer;

/// Told what a job is doing.
pub trait Reporter {
    /// A stage begins; `total` units of work, where it is known.
    fn stage(&mut self, name: &str, total: Option<u64>);
    /// The stage at work has done so many units.
    fn advance(&mut self, done: u64, message: &str);
    /// Something that the user should know.
    fn note(&mut self, text: &str);
    /// What watches the search.
    fn observer(&mut self) -> Box<dyn Observer + '_>;
}
