//! Files of language models: GGUF (also split), Hugging Face folders of safetensors, and
//! importance matrices.
//!
//! Readers are strict and bounded: sizes and offsets are checked before anything is
//! allocated, and what a file only claims is never believed. Writers are atomic, and the
//! size of what they write is known beforehand to the byte.

pub mod atomic;
pub mod compressed_tensors;
pub mod disk;
pub mod gguf;
pub mod imatrix;
pub mod inspect;
mod json;
pub mod safetensors;
pub mod source;
