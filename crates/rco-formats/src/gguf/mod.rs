//! GGUF, versions 2 and 3, little-endian.
//!
//! The reader is strict: it accepts a file only if every byte of it is accounted for, and
//! allocates nothing that the file is too short to fill. It keeps every key, value and
//! tensor, known or not; [`GgufWriter::copy_of`] writes them back byte for byte.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod encode;
mod error;
mod extents;
mod header;
mod layout;
mod limits;
mod metadata;
mod reader;
mod split;
mod split_writer;
mod tensor;
mod tensor_type;
mod unwritten;
mod value;
mod writer;

pub use error::{GgufError, GgufFault};
pub use header::Header;
pub use layout::Layout;
pub use metadata::Metadata;
pub use reader::Gguf;
pub use split::GgufModel;
pub use tensor::{TensorInfo, TensorSpec};
pub use tensor_type::{TensorType, TypeClass, TypeLayout};
pub use value::{Array, Text, Value, ValueType};
pub use writer::GgufWriter;
