//! Hugging Face folders as packed integers: matrices in widths and groups of their own, chosen
//! together within an exact budget, for transformers and vLLM.

mod candidates;
mod database;
mod error;
mod folder;
mod foreign;
mod job;
mod journal;
mod known;
mod menu;
mod moments;
mod outlook;
mod price;
mod rules;
mod scales;
mod settings;
mod sizes;
mod source;
mod texts;

pub use candidates::FolderModels;
pub use database::{OptionDatabase, Record};
pub use error::PackedError;
pub use folder::written_plan;
pub use foreign::ForeignFolder;
pub use job::{FolderOutcome, PackJob, PackOutcome, PackPrepared};
pub use menu::{Form, Linear, Menu, Method};
pub use outlook::{ForeignOutlook, OrderOutlook, PackOutlook};
pub use price::RulePrice;
pub use rules::Rule;
pub use scales::TunedScales;
pub use settings::{Limit, Order, Output, PackSettings, Runtime, Zeros};
pub use sizes::Sizes;
pub use source::Source;
