//! llama.cpp and ggml behind safe calls: the quantisers of every type, the tokenizer, the
//! runtime that scores and writes text, and llama.cpp's own recipes.
//!
//! ggml ends the process when one of its assertions fails, and a C++ exception that reaches
//! Rust does so too. So everything is checked before it is handed over: lengths, types,
//! values, importance matrices, and of model files what the strict reader of `rco-formats`
//! and this crate can know. Calls into C are in the modules named `ffi` only.
//!
//! llama.cpp's log is silenced; its warnings and errors end up in [`GgmlError::Refused`].

mod backend;
mod decode;
mod encode;
mod error;
mod ffi;
mod importance;
mod log;
mod presets;
pub mod runtime;
mod scales;
mod source;

pub use decode::{can_decode, decode, decode_to};
pub use encode::{can_encode, encode, needs_importance, prepare};
pub use error::GgmlError;
pub use presets::{Preset, quantise_file, recipe};
pub use runtime::{Runtime, RuntimeSettings, Sampling, Vocabulary};
pub use scales::{ScaledBlocks, scale_floats};

/// A count for C. Those that come here are checked to be far below the limit.
fn c_int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
