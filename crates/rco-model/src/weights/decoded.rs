//! A GGUF file with every tensor as plain floats, decoded as it is written.

use std::io;
use std::sync::Arc;

use rco_formats::gguf::{GgufModel, GgufWriter, TensorSpec, TensorType};
use rco_formats::source::ReadAt;

use super::gguf::{can_decode, decode, unsupported};
use crate::error::ModelError;

/// `general.file_type` of a file of F32.
const ALL_F32: u32 = 0;

/// The same model with every tensor in F32: what a runtime computes of it does not depend on
/// how it multiplies quantised weights. Nothing is decoded before it is written, and then a
/// piece at a time.
///
/// # Errors
/// [`ModelError::UnsupportedType`] for a tensor that cannot be decoded, a file that cannot
/// be put together.
pub fn decoded_copy(model: &Arc<GgufModel>) -> Result<GgufWriter, ModelError> {
    let mut metadata = model.metadata().clone();
    metadata.remove_split();
    metadata.set("general.file_type", ALL_F32).map_err(ModelError::unwritable)?;
    let mut writer = GgufWriter::new(metadata);
    for (_, tensor) in model.tensors() {
        if !can_decode(tensor.spec.ty) {
            return Err(unsupported(tensor));
        }
        let name = tensor.spec.name.clone();
        let elements = tensor.spec.elements().map_err(ModelError::unwritable)?;
        let spec = TensorSpec::new(name.clone(), tensor.spec.shape.clone(), TensorType::F32);
        let data = Decoded { model: Arc::clone(model), name, elements };
        writer.add(spec, Arc::new(data)).map_err(ModelError::unwritable)?;
    }
    Ok(writer)
}

/// A tensor of a file, read as F32.
#[derive(Debug)]
struct Decoded {
    model: Arc<GgufModel>,
    name: String,
    elements: u64,
}

impl ReadAt for Decoded {
    fn size(&self) -> u64 {
        4 * self.elements
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = offset + buf.len() as u64;
        if end > self.size() {
            return Err(gone());
        }
        let (file, tensor) = self.model.tensor(&self.name).ok_or_else(gone)?;
        let layout = tensor.spec.ty.layout().ok_or_else(gone)?;
        // The blocks that the bytes lie in.
        let (first, last) = (offset / 4 / layout.block, end.div_ceil(4).div_ceil(layout.block));
        let count = (last - first) as usize;
        let mut bytes = vec![0; count * layout.bytes as usize];
        file.read_at(tensor, first * layout.bytes, &mut bytes).map_err(io::Error::other)?;
        let mut values = vec![0.0; count * layout.block as usize];
        decode(tensor, &bytes, &mut values).map_err(io::Error::other)?;
        let values: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let start = (offset - 4 * first * layout.block) as usize;
        buf.copy_from_slice(&values[start..start + buf.len()]);
        Ok(())
    }
}
