//! The `pack-quantized` form of compressed-tensors: integers of 1 to 8 bits in 32-bit words,
//! a scale for each group of a row, zero points, and what `config.json` says of them.
//!
//! Format: <https://github.com/vllm-project/compressed-tensors>, as of version 0.20: codes
//! lie densely, also where their width does not divide 32.

mod bits;
mod config;
mod scheme;
mod targets;

pub use bits::{pack, unpack, words};
pub use config::{ConfigFault, ModuleSchemes, quantization_config};
pub use scheme::{PackedPart, Scheme};
pub use targets::patterns;

/// Key of `config.json`.
pub const CONFIG_KEY: &str = "quantization_config";
