//! llama.cpp's own recipes: which type `llama-quantize` gives each tensor.

mod account;
mod ffi;
mod preset;
mod quantise;

pub use preset::Preset;
pub(crate) use quantise::MOST_THREADS;
pub use quantise::{quantise_file, recipe};
