//! Dropping experts of a mixture: which ones to keep, when exactly so many may remain.
//!
//! * [`experts`], [`amount`], [`budget`]: experts as groups, exact numbers in all or in each
//!   block.
//! * [`objective`]: the KL of a plan, routed as it will be, and what single changes do to it.
//! * [`fisher`]: what each expert costs by itself.
//! * [`rankings`]: plans that others use.
//! * [`layers`]: whole blocks instead of experts.
//! * [`job`]: from a model and a number to a model that has been read again and scored.

pub mod amount;
pub mod budget;
pub mod effort;
mod error;
pub mod experts;
pub mod fisher;
mod folder;
mod gather;
mod gguf;
pub mod job;
pub mod layers;
pub mod objective;
mod outlook;
pub mod rankings;
pub mod source;
mod texts;

pub use amount::Amount;
pub use budget::{ExpertBudget, Kept};
pub use error::PruneError;
pub use experts::{ExpertMap, LayerExperts};
pub(crate) use gguf::{model_with, tensors_with};
pub use job::{PruneJob, PruneOutcome, PrunePrepared, PruneSettings};
pub use objective::PruneLoss;
pub use outlook::PruneOutlook;
pub use texts::{HELD_OUT, PruneTexts};
