//! How far the tensors of an options file are from the source.

use std::collections::BTreeMap;

use rco_formats::gguf::GgufModel;
use rco_formats::imatrix::Imatrix;

use super::Distortion;
use super::encode::{Sum, importance_of, matrix_size};
use crate::error::QuantError;
use crate::foreign::Foreign;
use crate::menu::Choice;
use crate::tensor::decode_tensor;

/// Adds the distortions of the tensors of `choices` that `known` lacks; whether there were
/// any.
///
/// # Errors
/// [`QuantError::ForeignOptions`] for values that are not finite, and for a file that is as
/// far from the source as zeros would be: it belongs to another model.
pub(super) fn measure(
    source: &GgufModel,
    file: &Foreign,
    choices: &[&Choice],
    importance: Option<&Imatrix>,
    known: &mut BTreeMap<String, Distortion>,
    report: &mut dyn FnMut(u64),
) -> Result<bool, QuantError> {
    let (before, mut done) = (known.len(), 0);
    for choice in choices {
        let name = &choice.tensor.name;
        if !known.contains_key(name) {
            known.insert(name.clone(), distortion(source, file, name, importance)?);
        }
        done += choice.weights;
        report(done);
    }
    let relative = known.values().map(|d| d.relative).sum::<f64>() / known.len().max(1) as f64;
    if relative >= 1.0 {
        let problem = format!(
            "its tensors differ from the model's by {relative:.2} times their own squares: it \
             was made from another model"
        );
        return Err(file.unfit(problem));
    }
    Ok(known.len() > before)
}

fn distortion(
    source: &GgufModel,
    file: &Foreign,
    name: &str,
    importance: Option<&Imatrix>,
) -> Result<Distortion, QuantError> {
    let (spec, values) = decode_tensor(source, name)?;
    let (_, theirs) = decode_tensor(&file.model, name)?;
    let row = spec.row_length() as usize;
    if let Some(at) = theirs.iter().position(|v| !v.is_finite()) {
        let problem = format!("{name} has the value {} in row {}", theirs[at], at / row.max(1));
        return Err(file.unfit(problem));
    }
    let importance = importance_of(importance, &spec)?;
    let size = matrix_size(&spec, values.len());
    let mut sum = Sum::default();
    for (m, (values, theirs)) in values.chunks(size).zip(theirs.chunks(size)).enumerate() {
        let columns = importance.as_ref().map(|i| &i[m * row..(m + 1) * row]);
        sum.add(values, theirs, row, columns);
    }
    Ok(sum.distortion())
}
