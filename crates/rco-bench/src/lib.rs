//! Benchmarks: what is claimed about `rco-core`, measured against others in one run.

pub mod contest;
pub mod engine;
mod error;
pub mod knapsack;
mod outside;
pub mod pack;
pub mod prune;
pub mod quantize;
pub mod sparsity;
pub mod synthetic;

pub use error::BenchError;
