//! Activations as a runtime rounds them.
//!
//! llama.cpp multiplies weights of a block type with activations that it has rounded to 8
//! bits before, in blocks with a scale of their own; weights of 16 bits with activations of
//! 16 bits. The products themselves are exact to the last digits, so rounding the
//! activations and multiplying in f32 gives what it computes.

use candle_core::{Device, Result, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::host::rows_per_task;

/// How the activations that meet a weight are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ActivationRounding {
    /// Not at all.
    #[default]
    Exact,
    /// To `f16`.
    Half,
    /// To `bf16`.
    BFloat,
    /// To 8 bits in blocks of 32, the scale in `f16` (ggml's `Q8_0`; `Q8_1` but for the sum
    /// of a block, which it keeps in `f16`).
    Blocks32,
    /// To 8 bits in blocks of 256, the scale in `f32` (ggml's `Q8_K`).
    Blocks256,
}

/// `x`, rounded row by row.
///
/// # Errors
/// Failure of the tensor library.
pub(crate) fn round_activations(x: &Tensor, rounding: ActivationRounding) -> Result<Tensor> {
    if rounding == ActivationRounding::Exact {
        return Ok(x.clone());
    }
    let host = x.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?;
    let mut values: Vec<f32> = host.flatten_all()?.to_vec1()?;
    let width = x.dims().last().copied().unwrap_or(1).max(1);
    values.par_chunks_mut(rows_per_task(width) * width).for_each(|rows| {
        rows.chunks_mut(width).for_each(|row| round_row(row, rounding));
    });
    Tensor::from_vec(values, x.shape(), &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())
}

fn round_row(row: &mut [f32], rounding: ActivationRounding) {
    match rounding {
        ActivationRounding::Exact => {}
        ActivationRounding::Half => {
            for v in row {
                *v = f16::from_f32(*v).to_f32();
            }
        }
        ActivationRounding::BFloat => {
            for v in row {
                *v = bf16::from_f32(*v).to_f32();
            }
        }
        ActivationRounding::Blocks32 => row.chunks_mut(32).for_each(|block| {
            let scale = largest(block).abs() / 127.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let scale = f16::from_f32(scale).to_f32();
            for v in block {
                *v = (*v * inverse).round() * scale;
            }
        }),
        ActivationRounding::Blocks256 => row.chunks_mut(256).for_each(|block| {
            let largest = largest(block);
            if largest != 0.0 {
                // The sign goes with the scale, as ggml has it: it decides about ties.
                let inverse = -127.0 / largest;
                let scale = 1.0 / inverse;
                let code = |v: f32| (v * inverse).round_ties_even().min(127.0);
                for v in block {
                    *v = code(*v) * scale;
                }
            }
        }),
    }
}

/// The value furthest from 0, the first of equal ones.
fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |top: f32, &v| if v.abs() > top.abs() { v } else { top })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{ActivationRounding, round_activations};

    fn rounded(values: &[f32], rounding: ActivationRounding) -> Vec<f32> {
        let x = Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
        round_activations(&x, rounding).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn errors_are_at_most_half_a_step_of_the_block() {
        let values: Vec<f32> = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.013).collect();
        for (rounding, width) in
            [(ActivationRounding::Blocks32, 32), (ActivationRounding::Blocks256, 256)]
        {
            let found = rounded(&values, rounding);
            assert_ne!(found, values);
            for (block, found) in values.chunks(width).zip(found.chunks(width)) {
                let top = block.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
                // Half a step, and what the scale loses in f16.
                let allowed = top * (0.5 / 127.0 + 0.0006);
                for (v, f) in block.iter().zip(found) {
                    assert!((v - f).abs() <= allowed, "{rounding:?}: {v} became {f}");
                }
            }
        }
    }

    #[test]
    fn blocks_of_zeros_and_rows_of_one_block_stay_what_they_are() {
        for rounding in [ActivationRounding::Blocks32, ActivationRounding::Blocks256] {
            assert_eq!(rounded(&[0.0; 64], rounding), [0.0; 64]);
        }
        let exact: Vec<f32> = (0..32).map(|i| i as f32 - 16.0).collect();
        assert_eq!(rounded(&exact, ActivationRounding::Half), exact);
        assert_eq!(rounded(&exact, ActivationRounding::BFloat), exact);
        assert_eq!(rounded(&[1.0 + 1.0 / 512.0], ActivationRounding::BFloat), [1.0]);
    }
}
