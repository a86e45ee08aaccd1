//! ggml's quantisers. Every function here is safe: it checks all that its C counterpart
//! would answer with undefined behaviour or the end of the process.

use std::ptr;

use llama_cpp_sys_2 as sys;
use rco_formats::gguf::TensorType;

/// What decodes blocks to floats: blocks, floats, number of floats.
type ToFloat = unsafe extern "C" fn(*const std::ffi::c_void, *mut f32, i64);

/// Layout and decoder of a type, as ggml has them.
#[derive(Clone, Copy)]
pub(crate) struct Traits {
    /// Values in a block.
    pub(crate) block: usize,
    /// Bytes of a block.
    pub(crate) bytes: usize,
    to_float: Option<ToFloat>,
}

/// What ggml knows of a type; `None` for numbers that `rco-formats` does not know or that
/// the two lay out differently.
pub(crate) fn traits(ty: TensorType) -> Option<Traits> {
    let layout = ty.layout()?;
    if ty.0 >= sys::GGML_TYPE_COUNT {
        return None;
    }
    // SAFETY: the number is below GGML_TYPE_COUNT, so the pointer is to an entry of a table
    // that is constant for the life of the process.
    let entry = unsafe { *sys::ggml_get_type_traits(ty.0) };
    let block = usize::try_from(entry.blck_size).ok()?;
    (block as u64 == layout.block && entry.type_size as u64 == layout.bytes).then_some(Traits {
        block,
        bytes: entry.type_size,
        to_float: entry.to_float,
    })
}

impl Traits {
    /// Whether ggml has a decoder.
    pub(crate) fn decodes(&self) -> bool {
        self.to_float.is_some()
    }

    /// Decodes whole blocks. Returns false, and writes nothing, if the lengths do not fit,
    /// the bytes are not aligned to 4, or there is no decoder.
    pub(crate) fn decode(&self, bytes: &[u8], out: &mut [f32]) -> bool {
        let Some(to_float) = self.to_float else { return false };
        let blocks = out.len() / self.block;
        let Ok(values) = i64::try_from(out.len()) else { return false };
        if !out.len().is_multiple_of(self.block)
            || blocks.checked_mul(self.bytes) != Some(bytes.len())
            || !is_aligned(bytes.as_ptr())
        {
            return false;
        }
        // SAFETY: `bytes` holds exactly the blocks of `out.len()` values and is aligned for
        // any block structure; the decoders read only those blocks, index their tables by
        // as many bits as the tables are long, and write `out.len()` floats.
        unsafe { to_float(bytes.as_ptr().cast(), out.as_mut_ptr(), values) };
        true
    }
}

/// Whether a pointer is aligned for every block structure (the strictest holds a float).
pub(crate) fn is_aligned(pointer: *const u8) -> bool {
    pointer.addr().is_multiple_of(align_of::<f32>())
}

/// Whether ggml aborts when it has no importance for the type.
pub(crate) fn requires_importance(ty: TensorType) -> bool {
    // SAFETY: a comparison of numbers.
    unsafe { sys::ggml_quantize_requires_imatrix(ty.0) }
}

/// Builds the tables of a type, once in a process; other encoders wait meanwhile.
pub(crate) fn prepare(ty: TensorType) {
    // SAFETY: any number is allowed, unknown ones do nothing; a lock guards the tables, and
    // nothing in this crate frees them.
    unsafe { sys::ggml_quantize_init(ty.0) }
}

/// The types that `ggml_quantize_chunk` has a case for.
pub(crate) const ENCODERS: [TensorType; 28] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q1_0,
    TensorType::Q2_0,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::MXFP4,
    TensorType::NVFP4,
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
    TensorType::TQ1_0,
    TensorType::TQ2_0,
    TensorType::IQ2_XXS,
    TensorType::IQ2_XS,
    TensorType::IQ2_S,
    TensorType::IQ3_XXS,
    TensorType::IQ3_S,
    TensorType::IQ1_S,
    TensorType::IQ1_M,
    TensorType::IQ4_NL,
    TensorType::IQ4_XS,
];

/// Encodes whole rows. Returns false if a length does not fit, `out` is not aligned to 4,
/// the type has no encoder or lacks its importance, or the blocks came out with scales that
/// are not finite. Values must be finite and of a size the type can hold.
pub(crate) fn encode(
    ty: TensorType,
    values: &[f32],
    row_length: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> bool {
    let Some(traits) = traits(ty).filter(|_| ENCODERS.contains(&ty)) else { return false };
    let rows = values.len().checked_div(row_length).unwrap_or(0);
    let bytes = (values.len() / traits.block).checked_mul(traits.bytes);
    if rows == 0
        || rows * row_length != values.len()
        || !row_length.is_multiple_of(traits.block)
        || bytes != Some(out.len())
        || !is_aligned(out.as_ptr())
        || importance.is_some_and(|weights| weights.len() != row_length)
        || (importance.is_none() && requires_importance(ty))
    {
        return false;
    }
    let (Ok(row_count), Ok(columns)) = (i64::try_from(rows), i64::try_from(row_length)) else {
        return false;
    };
    let weights = importance.map_or(ptr::null(), <[f32]>::as_ptr);
    // SAFETY: the type has an encoder; `values` holds `rows` rows of whole blocks, `out`
    // exactly their bytes, aligned for any block structure; the importance is one weight
    // for each column, or absent where the type allows it. No slice overlaps another.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            ty.0,
            values.as_ptr(),
            out.as_mut_ptr().cast(),
            0,
            row_count,
            columns,
            weights,
        )
    };
    // SAFETY: the bytes are whole blocks of the type, written and aligned as above.
    written == out.len()
        && unsafe { sys::ggml_validate_row_data(ty.0, out.as_ptr().cast(), out.len()) }
}
