//! Gated linear units (Shazeer, arXiv 2002.05202).

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::compiled::{Loop, vectorised};
use super::exp::exp;
use super::host::{floats, rows_per_task, zeros};
use crate::config::Activation;

const ROOT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

/// `act(gate) · up`, element by element.
///
/// # Errors
/// Shapes that differ.
pub(crate) fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    same_shape(gate, up)?;
    let kernel = floats([gate, up], |[gate, up]| {
        let mut y = zeros(gate.len());
        let task = rows_per_task(1);
        let inputs = gate.par_chunks(task).zip(up.par_chunks(task));
        y.par_chunks_mut(task).zip(inputs).for_each(|(y, (gate, up))| match activation {
            Activation::Silu => vectorised(SwiGlu { gate, up, y }),
            Activation::GeluTanh => {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = gelu_tanh(*gate).0 * up;
                }
            }
        });
        y
    })?;
    match kernel {
        Some(y) => Tensor::from_vec(y, gate.shape(), gate.device()),
        None => primitive(gate, activation)?.0 * up,
    }
}

/// Gradients at gate and up from the gradient `g` at the output of [`gated`].
///
/// # Errors
/// Shapes that differ.
pub(crate) fn gated_backward(
    gate: &Tensor,
    up: &Tensor,
    activation: Activation,
    g: &Tensor,
) -> Result<(Tensor, Tensor)> {
    same_shape(gate, up)?;
    same_shape(gate, g)?;
    let kernel = floats([gate, up, g], |[gate, up, g]| {
        let (mut d_gate, mut d_up) = (zeros(gate.len()), zeros(gate.len()));
        let task = rows_per_task(1);
        let inputs = gate.par_chunks(task).zip(up.par_chunks(task)).zip(g.par_chunks(task));
        let outputs = d_gate.par_chunks_mut(task).zip(d_up.par_chunks_mut(task));
        outputs.zip(inputs).for_each(|((d_gate, d_up), ((gate, up), g))| match activation {
            Activation::Silu => vectorised(SwiGluBackward { gate, up, g, d_gate, d_up }),
            Activation::GeluTanh => {
                let inputs = gate.iter().zip(up).zip(g);
                for ((d_gate, d_up), ((gate, up), g)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
                    let (value, slope) = gelu_tanh(*gate);
                    (*d_gate, *d_up) = (g * up * slope, g * value);
                }
            }
        });
        (d_gate, d_up)
    })?;
    if let Some((d_gate, d_up)) = kernel {
        let tensor = |v| Tensor::from_vec(v, gate.shape(), gate.device());
        return Ok((tensor(d_gate)?, tensor(d_up)?));
    }
    let (value, slope) = primitive(gate, activation)?;
    Ok(((g * up)?.mul(&slope)?, (g * value)?))
}

/// `silu(gate) · up`.
struct SwiGlu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl Loop for SwiGlu<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        for ((y, gate), up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            *y = silu(*gate).0 * up;
        }
    }
}

/// Gradients of [`SwiGlu`].
struct SwiGluBackward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    g: &'a [f32],
    d_gate: &'a mut [f32],
    d_up: &'a mut [f32],
}

impl Loop for SwiGluBackward<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        let inputs = self.gate.iter().zip(self.up).zip(self.g);
        let outputs = self.d_gate.iter_mut().zip(self.d_up);
        for ((d_gate, d_up), ((gate, up), g)) in outputs.zip(inputs) {
            let (value, slope) = silu(*gate);
            (*d_gate, *d_up) = (g * up * slope, g * value);
        }
    }
}

/// Value and derivative of `x · sigmoid(x)`.
#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-x));
    (x * s, s * (1.0 + x * (1.0 - s)))
}

/// Value and derivative of the approximation of GELU by a hyperbolic tangent.
fn gelu_tanh(x: f32) -> (f32, f32) {
    let (root, cubic) = (ROOT_2_OVER_PI as f32, CUBIC as f32);
    let t = (root * (x + cubic * x * x * x)).tanh();
    let slope = root * (1.0 + 3.0 * cubic * x * x);
    (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
}

/// Value and derivative of the activation, by primitives.
fn primitive(x: &Tensor, activation: Activation) -> Result<(Tensor, Tensor)> {
    match activation {
        Activation::Silu => {
            let s = (x.neg()?.exp()? + 1.0)?.recip()?;
            let value = (x * &s)?;
            let slope = (&s * ((x * s.affine(-1.0, 1.0)?)? + 1.0)?)?;
            Ok((value, slope))
        }
        Activation::GeluTanh => {
            let inner = ((x + (x.powf(3.0)? * CUBIC)?)? * ROOT_2_OVER_PI)?;
            let t = inner.tanh()?;
            let half = t.affine(0.5, 0.5)?;
            let inner_slope = x.sqr()?.affine(3.0 * CUBIC * ROOT_2_OVER_PI, ROOT_2_OVER_PI)?;
            let curve = (t.sqr()?.affine(-0.5, 0.5)? * x)?.mul(&inner_slope)?;
            Ok(((x * &half)?, (half + curve)?))
        }
    }
}

fn same_shape(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() != b.dims() {
        candle_core::bail!("gated product of shapes {:?} and {:?}", a.shape(), b.shape());
    }
    Ok(())
}
