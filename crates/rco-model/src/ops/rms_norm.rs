//! Root-mean-square norm (Zhang and Sennrich, arXiv 1910.07467).

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::compiled::{Loop, vectorised};
use super::host::{dot, floats, rows_per_task, zeros};

/// `x / √(mean(x²) + eps) · (weight + offset)` over the last dimension, which has the
/// width of `weight [width]`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, offset: f64) -> Result<Tensor> {
    let width = checked_width(x, weight)?;
    let kernel = floats([x, weight], |[x, weight]| {
        let mut y = zeros(x.len());
        let task = rows_per_task(width) * width;
        y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| {
            vectorised(Normalise { x, weight, offset: offset as f32, eps, y });
        });
        y
    })?;
    match kernel {
        Some(y) => Tensor::from_vec(y, x.shape(), x.device()),
        None => normalised(x, eps)?.0.broadcast_mul(&(weight + offset)?),
    }
}

/// Gradients of [`rms_norm`].
#[derive(Debug)]
pub(crate) struct RmsNormGradients {
    /// At the input, of its shape.
    pub(crate) input: Tensor,
    /// At the weight; `None` if it was not asked for.
    pub(crate) weight: Option<Tensor>,
}

/// Gradients of [`rms_norm`] from the gradient `g` at its output.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    offset: f64,
    g: &Tensor,
    with_weight: bool,
) -> Result<RmsNormGradients> {
    let width = checked_width(x, weight)?;
    let kernel = floats([x, weight, g], |[x, weight, g]| {
        let weight: Vec<f32> = weight.iter().map(|w| w + offset as f32).collect();
        let mut dx = zeros(x.len());
        let task = rows_per_task(width) * width;
        let parts: Vec<Vec<f32>> = dx
            .par_chunks_mut(task)
            .zip(x.par_chunks(task).zip(g.par_chunks(task)))
            .map(|(dx, (x, g))| {
                let mut dw = vec![0.0; if with_weight { width } else { 0 }];
                vectorised(Backward { x, weight: &weight, eps, g, dx, dw: &mut dw });
                dw
            })
            .collect();
        let mut dw = vec![0.0; width];
        for part in parts {
            dw.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        (dx, dw)
    })?;
    if let Some((dx, dw)) = kernel {
        let weight = with_weight.then(|| Tensor::from_vec(dw, width, x.device())).transpose()?;
        return Ok(RmsNormGradients {
            input: Tensor::from_vec(dx, x.shape(), x.device())?,
            weight,
        });
    }

    let (n, r) = normalised(x, eps)?;
    let gw = g.broadcast_mul(&(weight + offset)?)?;
    let mean = (&gw * &n)?.mean_keepdim(D::Minus1)?;
    let input = (gw - n.broadcast_mul(&mean)?)?.broadcast_mul(&r)?;
    let weight = if with_weight { Some((g * n)?.reshape(((), width))?.sum(0)?) } else { None };
    Ok(RmsNormGradients { input, weight })
}

/// Rows as wide as the weight.
struct Normalise<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    offset: f32,
    eps: f64,
    y: &'a mut [f32],
}

impl Loop for Normalise<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        let width = self.weight.len();
        for (y, x) in self.y.chunks_mut(width).zip(self.x.chunks(width)) {
            let r = inverse_rms(x, self.eps);
            for ((y, x), w) in y.iter_mut().zip(x).zip(self.weight) {
                *y = x * r * (w + self.offset);
            }
        }
    }
}

/// Gradients of rows; `weight` has the offset added.
struct Backward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f64,
    g: &'a [f32],
    dx: &'a mut [f32],
    dw: &'a mut [f32],
}

impl Loop for Backward<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        let width = self.weight.len();
        let rows = self.x.chunks(width).zip(self.g.chunks(width));
        for (dx, (x, g)) in self.dx.chunks_mut(width).zip(rows) {
            backward_row(x, self.weight, self.eps, g, dx, self.dw);
        }
    }
}

#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
fn backward_row(x: &[f32], weight: &[f32], eps: f64, g: &[f32], dx: &mut [f32], dw: &mut [f32]) {
    let r = inverse_rms(x, eps);
    for ((dx, g), w) in dx.iter_mut().zip(g).zip(weight) {
        *dx = g * w;
    }
    let mean = dot(dx, x) * r * r / x.len() as f32;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = r * (*dx - x * mean);
    }
    for ((dw, x), g) in dw.iter_mut().zip(x).zip(g) {
        *dw += g * x * r;
    }
}

#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
fn inverse_rms(x: &[f32], eps: f64) -> f32 {
    let mean = f64::from(dot(x, x)) / x.len() as f64;
    (mean + eps).sqrt().recip() as f32
}

/// `x / rms` and `1 / rms`, by primitives.
fn normalised(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let r = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    Ok((x.broadcast_mul(&r)?, r))
}

fn checked_width(x: &Tensor, weight: &Tensor) -> Result<usize> {
    let width = weight.dims1()?;
    if width == 0 || x.dim(D::Minus1)? != width {
        candle_core::bail!("norm of {:?} with a weight of {width}", x.shape());
    }
    Ok(width)
}
