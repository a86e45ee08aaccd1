//! How fast the machine multiplies matrices.

use std::time::Instant;

use candle_core::Tensor;

use super::Device;
use crate::error::ModelError;

/// Floating-point operations a second of products of two square matrices in f32, by the
/// library that the engine uses: the fastest of some repeats.
///
/// # Errors
/// A device that cannot be opened.
pub fn product_rate(device: Device, size: usize, repeats: usize) -> Result<f64, ModelError> {
    let device = device.open()?;
    let values: Vec<f32> = (0..size * size).map(|i| (i % 17) as f32 - 8.0).collect();
    let a = Tensor::from_vec(values, (size, size), &device)?;
    let b = a.t()?.contiguous()?;
    let mut best = 0.0_f64;
    for _ in 0..repeats {
        let start = Instant::now();
        let c = a.matmul(&b)?;
        device.synchronize()?;
        best = best.max(2.0 * (size as f64).powi(3) / start.elapsed().as_secs_f64());
        drop(c);
    }
    Ok(best)
}
