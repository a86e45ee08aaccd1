//! Access to the values of tensors in main memory.

use candle_core::{DType, Result, Storage, Tensor};
use rayon::prelude::*;

/// Values that a task handles at a time. A constant, so that the division of work does not
/// depend on the number of threads.
const TASK: usize = 16 * 1024;

/// Rows of `width` values that a task handles at a time.
pub(super) fn rows_per_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// Zeros for a kernel to write over, laid down by all threads: on one they would take longer
/// than many a kernel.
pub(crate) fn zeros(count: usize) -> Vec<f32> {
    if count < 4 * TASK {
        return vec![0.0; count];
    }
    rayon::iter::repeat_n(0.0, count).with_min_len(TASK).collect()
}

/// Calls `f` with the values of the tensors, row after row, if all are f32 on the CPU.
pub(crate) fn floats<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> R,
) -> Result<Option<R>> {
    if !tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32) {
        return Ok(None);
    }
    let tensors = tensors.iter().map(|t| t.contiguous()).collect::<Result<Vec<_>>>()?;
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let (Storage::Cpu(storage), Some((start, end))) = (&**storage, layout.contiguous_offsets())
        else {
            return Ok(None);
        };
        *slice = &storage.as_slice::<f32>()?[start..end];
    }
    Ok(Some(f(slices)))
}

/// Inner product with sixteen partial sums, which the compiler turns into vector
/// instructions.
#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (a_chunks, a_rest) = a.as_chunks::<16>();
    let (b_chunks, b_rest) = b.as_chunks::<16>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// The largest value, with sixteen candidates side by side; what is not a number is passed over.
#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}
