//! Quantising rows of floats with ggml's encoders.

use rayon::prelude::*;
use rco_formats::gguf::TensorType;

use crate::{GgmlError, ffi, importance};

/// Values that one task encodes, about.
const PIECE: usize = 32_768;
/// The largest number that a 16-bit float holds.
const LARGEST_HALF: f32 = 65_504.0;

/// Whether ggml can quantise to the type; F32, F16 and BF16 count too.
pub fn can_encode(ty: TensorType) -> bool {
    ffi::ENCODERS.contains(&ty) && ffi::traits(ty).is_some()
}

/// Whether ggml refuses to quantise to the type without an importance matrix. Others of
/// low width take it as well, and should have it.
pub fn needs_importance(ty: TensorType) -> bool {
    ffi::requires_importance(ty)
}

/// Builds the search tables of a type, once in a process: 2 to 20 seconds for `IQ1_*` and
/// `IQ2_*`, nothing for most. [`encode`] does it by itself; this lets another thread do it
/// early. Encoders of all types wait while it runs, decoders do not.
pub fn prepare(ty: TensorType) {
    if can_encode(ty) {
        ffi::prepare(ty);
    }
}

/// Quantises rows of `row_length` values each. `importance` is one weight for each column,
/// the same for all rows; types that do not use it ignore it.
///
/// Pieces of rows run in the current pool of rayon. The bytes are those of llama.cpp,
/// whatever the number of threads, with one exception: where 16 neighbouring columns have
/// no importance, llama.cpp stops or writes zeros, and here they are encoded with a small
/// weight.
///
/// # Errors
/// A type without an encoder; rows that are no whole number of blocks; values that are not
/// finite or larger than the type can hold; an importance that is missing, has the wrong
/// length, or is negative or not finite.
pub fn encode(
    ty: TensorType,
    values: &[f32],
    row_length: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, GgmlError> {
    let traits = ffi::traits(ty).ok_or(GgmlError::UnknownType { ty })?;
    if !can_encode(ty) {
        return Err(GgmlError::CannotEncode { ty });
    }
    if row_length == 0 || !row_length.is_multiple_of(traits.block) {
        return Err(GgmlError::BrokenRow { ty, row_length, block: traits.block });
    }
    if !values.len().is_multiple_of(row_length) {
        return Err(GgmlError::BrokenShape { found: values.len(), row_length });
    }
    let importance = match importance {
        Some(weights) if weights.len() != row_length => {
            let (expected, found) = (row_length, weights.len());
            return Err(GgmlError::WrongImportance { expected, found });
        }
        Some(weights) => Some(importance::safe(weights)?),
        None if needs_importance(ty) => return Err(GgmlError::MissingImportance { ty }),
        None => None,
    };
    check_values(ty, values, row_length)?;

    let rows = (PIECE / row_length).max(1);
    let row_bytes = row_length / traits.block * traits.bytes;
    let mut out = vec![0; values.len() / row_length * row_bytes];
    let bad = values
        .par_chunks(rows * row_length)
        .zip(out.par_chunks_mut(rows * row_bytes))
        .enumerate()
        .find_map_first(|(piece, (values, out))| {
            let done = encode_piece(ty, values, row_length, importance.as_deref(), out);
            (!done).then_some((piece * rows, piece * rows + values.len() / row_length))
        });
    match bad {
        Some((first, end)) => Err(GgmlError::BadBlocks { ty, first, end }),
        None => Ok(out),
    }
}

/// Encodes into `out`, by way of an aligned buffer where it has to be.
fn encode_piece(
    ty: TensorType,
    values: &[f32],
    row_length: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> bool {
    if ffi::is_aligned(out.as_ptr()) {
        return ffi::encode(ty, values, row_length, importance, out);
    }
    let mut buffer = vec![0; out.len() + 3];
    let start = aligned_start(&buffer);
    let aligned = &mut buffer[start..start + out.len()];
    let done = ffi::encode(ty, values, row_length, importance, aligned);
    out.copy_from_slice(aligned);
    done
}

/// First index of `buffer` that is aligned to 4.
pub(crate) fn aligned_start(buffer: &[u8]) -> usize {
    (0..4).find(|&i| ffi::is_aligned(buffer[i..].as_ptr())).unwrap_or(0)
}

/// The largest magnitude of a value that the encoder of a type is given.
pub(crate) fn limit(ty: TensorType) -> f32 {
    match ty {
        TensorType::F32 | TensorType::BF16 => f32::MAX,
        _ => LARGEST_HALF,
    }
}

/// Finds the first value that is not finite or too large for the type.
pub(crate) fn check_values(
    ty: TensorType,
    values: &[f32],
    row_length: usize,
) -> Result<(), GgmlError> {
    let limit = limit(ty);
    let bad = values.par_chunks(PIECE).enumerate().find_map_first(|(piece, values)| {
        // Without a branch for each value, so that it runs as fast as memory.
        let holds = |v: &f32| v.abs() <= limit;
        let all = values.iter().fold(true, |all, v| all & holds(v));
        let at = if all { None } else { values.iter().position(|v| !holds(v)) };
        at.map(|i| (piece * PIECE + i, values[i]))
    });
    let Some((at, value)) = bad else { return Ok(()) };
    let (row, column) = (at / row_length, at % row_length);
    Err(if value.is_finite() {
        GgmlError::TooLarge { ty, row, column, value, limit }
    } else {
        GgmlError::NotFinite { row, column, value }
    })
}
