//! Single weights set to zero: how much of each matrix, when so much of all has to go.
//!
//! * [`levels`]: the shares of a matrix that may go, and what they leave, as a problem.
//! * [`mask`]: which weights of a row go, by weight times activation norm (Wanda, arXiv
//!   2306.11695), worked out where the weights are read.
//! * [`models`]: the model of a plan and its options.
//! * [`job`]: from a folder and a share to a folder that has been read again and scored.

mod folder;
pub mod job;
pub mod levels;
pub mod mask;
pub mod models;

pub use job::{SparsityJob, SparsityOutcome, SparsityOutlook, SparsityPrepared, SparsitySettings};
