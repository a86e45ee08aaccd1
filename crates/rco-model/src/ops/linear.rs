//! Linear maps.

use candle_core::{Result, Tensor};

/// `x Wᵀ (+ bias)` for `x [rows, in]`, `weight [out, in]`, `bias [out]`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Gradient at the input: `g W`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn linear_backward(weight: &Tensor, g: &Tensor) -> Result<Tensor> {
    g.matmul(weight)
}

/// Gradient at the weight: `gᵀ x`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn weight_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    g.t()?.matmul(x)
}

/// Gradient at the bias: the sum of the rows of `g`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn bias_gradient(g: &Tensor) -> Result<Tensor> {
    g.sum(0)
}
