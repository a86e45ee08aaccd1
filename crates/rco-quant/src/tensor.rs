//! Reading a tensor of a GGUF file as numbers.

use rayon::prelude::*;
use rco_formats::gguf::{GgufModel, TensorSpec};
use rco_ggml::GgmlError;

use crate::error::QuantError;

/// A tensor's description and its values, row after row.
///
/// # Errors
/// A missing tensor, a type that cannot be decoded, or a failed read.
pub(crate) fn decode_tensor(
    model: &GgufModel,
    name: &str,
) -> Result<(TensorSpec, Vec<f32>), QuantError> {
    let bytes = model.read(name)?;
    // The read has found it.
    let Some((_, info)) = model.tensor(name) else {
        return Err(QuantError::Overflow { what: "the number of tensors" });
    };
    let row = info.spec.row_length() as usize;
    let values = rco_ggml::decode_to(info.spec.ty, &bytes, row).map_err(in_tensor(name))?;
    Ok((info.spec.clone(), values))
}

/// Refuses a model with a weight that is not finite.
///
/// # Errors
/// [`QuantError::NotFinite`] names the first such weight.
pub(crate) fn check_finite(model: &GgufModel) -> Result<(), QuantError> {
    for (_, info) in model.tensors() {
        if !rco_ggml::can_decode(info.spec.ty) {
            continue;
        }
        let (spec, values) = decode_tensor(model, &info.spec.name)?;
        let wrong = values.par_iter().enumerate().find_first(|(_, v)| !v.is_finite());
        if let Some((at, &value)) = wrong {
            let width = (spec.row_length() as usize).max(1);
            let (row, column) = (at / width, at % width);
            return Err(QuantError::NotFinite { tensor: spec.name, row, column, value });
        }
    }
    Ok(())
}

/// Names the tensor that an error is about.
pub(crate) fn in_tensor(name: &str) -> impl FnOnce(GgmlError) -> GgmlError {
    let name = name.to_owned();
    move |fault| GgmlError::Tensor { name, fault: Box::new(fault) }
}
