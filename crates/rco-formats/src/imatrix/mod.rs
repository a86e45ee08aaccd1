//! Importance matrices of llama.cpp: both forms are read, the GGUF form is written.

mod entry;
mod error;
mod file;
mod gguf_form;
mod old_form;

pub use entry::ImatrixEntry;
pub use error::{ImatrixError, ImatrixFault};
pub use file::{Imatrix, ImatrixForm};
