//! Safetensors files and the Hugging Face folders that hold them.
//!
//! Format: <https://huggingface.co/docs/safetensors>. Own code with the rules of the
//! reference implementation; [`Header`] says why.

mod dtype;
mod error;
mod file;
mod folder;
mod header;
mod index;
mod sharded;
mod writer;

pub use dtype::Dtype;
pub use error::{SafetensorsError, SafetensorsFault};
pub use file::Safetensors;
pub use folder::HfFolder;
pub use header::{Header, TensorEntry};
pub use writer::SafetensorsWriter;
