//! Dropping experts of a mixture: which ones to keep, when exactly so many may remain.
//!
//! * [`experts`], [`amount`], [`budget`]: experts as groups, exact numbers in all or in each
//!   block.
//! * [`aim`]: what the texts count, and what protected ones may lose.
//! * [`mod@reference`]: the original model and the texts; [`made`]: the smaller one, written, read
//!   again and scored.
//! * [`objective`]: the KL of a plan, routed as it will be, and what single changes do to it.
//! * [`fisher`]: what each expert costs by itself.
//! * [`rankings`]: plans that others use.
//! * [`layers`]: whole blocks instead of experts; [`sparsity`]: single weights.
//! * [`job`]: from a model and a number to a model that has been read again and scored.

pub mod aim;
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
pub mod made;
pub mod objective;
mod outlook;
pub mod rankings;
pub mod reference;
mod settings;
pub mod source;
pub mod sparsity;
mod texts;

pub use amount::Amount;
pub use budget::{ExpertBudget, Kept};
pub use error::PruneError;
pub use experts::{ExpertMap, LayerExperts};
pub(crate) use gguf::{model_with, tensors_with};
pub use job::{PruneJob, PruneOutcome, PrunePrepared, PruneSettings};
pub use objective::PruneLoss;
pub use outlook::PruneOutlook;
pub use settings::{CommonSettings, JudgedText};
pub use texts::{HELD_OUT, PruneTexts};
