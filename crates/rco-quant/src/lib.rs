//! Compressing a GGUF model to an exact number of bytes.
//!
//! * [`menu`]: which tensors are decided on, and the forms that each may take.
//! * [`foreign`]: files of others, whose tensors are options too.
//! * [`database`]: every tensor in every type, encoded once by ggml.
//! * [`grid`]: matrices as integers times scales, by rounding and by GPTQ.
//! * [`groups`]: the menu as a problem with costs in bytes of the file.
//! * [`size`]: budgets in the user's words.
//! * [`rules`]: ties and pins.
//! * [`teacher`], [`objective`]: the mean KL of a plan from the original, and its gradient.
//! * [`fisher`]: scores of all options from a few backward passes.
//! * [`known`]: plans that others use.
//! * [`packed`]: Hugging Face folders as packed integers, by GPTQ.
//! * [`place`]: folders that appear whole or not at all.
//! * [`prune`]: experts kept or dropped, under an exact number.
//! * [`output`], [`verify`]: the file of a plan, and what the runtime makes of it.

pub mod compare;
pub mod database;
pub mod effort;
mod error;
pub mod fisher;
pub mod foreign;
pub mod grid;
pub mod groups;
pub mod hash;
pub mod job;
pub mod known;
pub mod menu;
pub mod objective;
pub mod output;
pub mod packed;
pub mod place;
pub mod prune;
pub mod rules;
pub mod runtime_loss;
mod samples;
mod scales;
mod search_folder;
pub mod size;
pub mod states;
pub mod teacher;
mod tensor;
pub mod verify;

pub use error::QuantError;
pub use scales::TuningOutcome;
