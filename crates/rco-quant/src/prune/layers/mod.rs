//! Dropping whole blocks of a model: depth instead of width.
//!
//! * [`cut`]: a GGUF model without some blocks, the others numbered anew, read where it lies;
//!   `folder`: the same for a Hugging Face folder.
//! * [`objective`]: the KL of a plan from the original. The model that is measured is read from
//!   what would be written, so whatever depends on a block's number does as it will.
//! * [`job`]: from a model and a number to a file that has been read again and scored.

pub mod cut;
mod folder;
pub mod job;
pub mod objective;

pub use job::{LayersJob, LayersOutcome, LayersOutlook, LayersSettings};
