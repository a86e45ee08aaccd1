//! Decoding blocks to floats with ggml's decoders.

use rayon::prelude::*;
use rco_formats::gguf::TensorType;

use crate::encode::aligned_start;
use crate::{GgmlError, ffi};

/// Values that one task decodes: a multiple of every block.
const PIECE: usize = 65_536;

/// Whether ggml can decode the type to floats.
pub fn can_decode(ty: TensorType) -> bool {
    ffi::traits(ty).is_some_and(|traits| ty == TensorType::F32 || traits.decodes())
}

/// Decodes `bytes` into `out`, as ggml does it. Rows do not matter: a block stands for
/// itself. Pieces run in the current pool of rayon.
///
/// # Errors
/// A type without a decoder, or lengths that do not fit each other to the byte.
pub fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<(), GgmlError> {
    let traits = ffi::traits(ty).ok_or(GgmlError::UnknownType { ty })?;
    if !can_decode(ty) {
        return Err(GgmlError::CannotDecode { ty });
    }
    let values = out.len();
    if !values.is_multiple_of(traits.block) {
        return Err(GgmlError::BrokenRow { ty, row_length: values, block: traits.block });
    }
    // At most four bytes for each value, so this cannot overflow.
    let expected = values / traits.block * traits.bytes;
    if bytes.len() != expected {
        return Err(GgmlError::WrongLength { ty, values, expected, found: bytes.len() });
    }
    let piece_bytes = PIECE / traits.block * traits.bytes;
    let whole = out
        .par_chunks_mut(PIECE)
        .zip(bytes.par_chunks(piece_bytes))
        .map(|(out, bytes)| decode_piece(ty, &traits, bytes, out))
        .reduce(|| true, |a, b| a & b);
    if whole { Ok(()) } else { Err(GgmlError::CannotDecode { ty }) }
}

/// Decodes `bytes`, which are rows of `row_length` values, into a new vector.
///
/// # Errors
/// As [`decode`]; also rows that are no whole number of blocks, and bytes that are no whole
/// number of rows.
pub fn decode_to(ty: TensorType, bytes: &[u8], row_length: usize) -> Result<Vec<f32>, GgmlError> {
    let traits = ffi::traits(ty).ok_or(GgmlError::UnknownType { ty })?;
    let broken = GgmlError::BrokenRow { ty, row_length, block: traits.block };
    if row_length == 0 || !row_length.is_multiple_of(traits.block) {
        return Err(broken);
    }
    let row_bytes = (row_length / traits.block).checked_mul(traits.bytes).ok_or(broken)?;
    if !bytes.len().is_multiple_of(row_bytes) {
        let expected = bytes.len().div_ceil(row_bytes).saturating_mul(row_bytes);
        let values = bytes.len().div_ceil(row_bytes).saturating_mul(row_length);
        return Err(GgmlError::WrongLength { ty, values, expected, found: bytes.len() });
    }
    let mut out = vec![0.0; bytes.len() / row_bytes * row_length];
    decode(ty, bytes, &mut out)?;
    Ok(out)
}

/// Decodes one piece, by way of an aligned buffer where it has to be.
fn decode_piece(ty: TensorType, traits: &ffi::Traits, bytes: &[u8], out: &mut [f32]) -> bool {
    match ty {
        TensorType::F32 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
            true
        }
        TensorType::BF16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
            true
        }
        _ if ffi::is_aligned(bytes.as_ptr()) => traits.decode(bytes, out),
        _ => {
            let mut buffer = vec![0; bytes.len() + 3];
            let start = aligned_start(&buffer);
            let aligned = &mut buffer[start..start + bytes.len()];
            aligned.copy_from_slice(bytes);
            traits.decode(aligned, out)
        }
    }
}
