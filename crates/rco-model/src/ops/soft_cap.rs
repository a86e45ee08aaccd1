//! Soft cap `c · tanh(x / c)`.

use candle_core::{Result, Tensor};

/// `cap · tanh(x / cap)`.
///
/// # Errors
/// Failure of the tensor library.
pub(crate) fn soft_cap(x: &Tensor, cap: f64) -> Result<Tensor> {
    (x / cap)?.tanh()? * cap
}

/// Gradient at the input, from the output `y`: `g · (1 − (y / cap)²)`.
///
/// # Errors
/// Failure of the tensor library.
pub(crate) fn soft_cap_backward(y: &Tensor, cap: f64, g: &Tensor) -> Result<Tensor> {
    g * (y / cap)?.sqr()?.affine(-1.0, 1.0)?
}
