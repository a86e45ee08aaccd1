//! Tests of whole models, in one program: linking the tensor library takes a while.

#![allow(clippy::print_stdout, reason = "measured errors are worth reading")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod config;
mod convert;
mod gguf;
mod gradients;
mod importance;
mod memory;
mod parity;
mod rounding;
mod runtime;
