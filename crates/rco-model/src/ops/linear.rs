//! Linear maps.

use candle_core::{Device, Error, Result, Tensor};
use rco_gemm::{Matrix, Threads, add_product, product};

use super::host::floats;

/// `x Wᵀ (+ bias)` for `x [rows, in]`, `weight [out, in]`, `bias [out]`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((rows, from), (to, _)) = (x.dims2()?, weight.dims2()?);
    let kernel = floats([x, weight], |[x, weight]| {
        product(Matrix::new(x, rows, from)?, Matrix::new(weight, to, from)?.transposed())
    })?;
    let y = match kernel {
        Some(y) => Tensor::from_vec(y.map_err(Error::wrap)?, (rows, to), x.device())?,
        None => x.matmul(&weight.t()?)?,
    };
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Gradient at the input: `g W` for `weight [out, in]` and the gradient `g [rows, out]` at the
/// output.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn linear_backward(weight: &Tensor, g: &Tensor) -> Result<Tensor> {
    InputGradient::of(weight, g)?.finish()
}

/// Gradient at an input that several linear maps share.
#[derive(Debug)]
pub(crate) enum InputGradient {
    /// Values in main memory, row after row, and their shape.
    Host(Vec<f32>, (usize, usize)),
    /// Any other type or device.
    Other(Tensor),
}

impl InputGradient {
    /// That of one map, as [`linear_backward`].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub(crate) fn of(weight: &Tensor, g: &Tensor) -> Result<Self> {
        let ((rows, to), (_, from)) = (g.dims2()?, weight.dims2()?);
        let kernel = floats([weight, g], |[weight, g]| {
            product(Matrix::new(g, rows, to)?, Matrix::new(weight, to, from)?)
        })?;
        match kernel {
            Some(values) => Ok(Self::Host(values.map_err(Error::wrap)?, (rows, from))),
            None => Ok(Self::Other(g.matmul(weight)?)),
        }
    }

    /// Adds that of another map.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub(crate) fn add(self, weight: &Tensor, g: &Tensor) -> Result<Self> {
        match self {
            Self::Host(mut sum, shape) => {
                let ((rows, to), (_, from)) = (g.dims2()?, weight.dims2()?);
                let added = floats([weight, g], |[weight, g]| {
                    let (g, weight) = (Matrix::new(g, rows, to)?, Matrix::new(weight, to, from)?);
                    add_product(&mut sum, g, weight, Threads::All)
                })?;
                match added {
                    Some(added) => added.map_err(Error::wrap)?,
                    None => candle_core::bail!("linear maps of one input on several devices"),
                }
                Ok(Self::Host(sum, shape))
            }
            Self::Other(sum) => Ok(Self::Other((sum + g.matmul(weight)?)?)),
        }
    }

    /// The sum `[rows, in]`.
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub(crate) fn finish(self) -> Result<Tensor> {
        match self {
            Self::Host(values, shape) => Tensor::from_vec(values, shape, &Device::Cpu),
            Self::Other(sum) => Ok(sum),
        }
    }
}

/// Gradient at the weight: `gᵀ x`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn weight_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let ((rows, from), (_, to)) = (x.dims2()?, g.dims2()?);
    let kernel = floats([x, g], |[x, g]| {
        product(Matrix::new(g, rows, to)?.transposed(), Matrix::new(x, rows, from)?)
    })?;
    match kernel {
        Some(y) => Tensor::from_vec(y.map_err(Error::wrap)?, (to, from), x.device()),
        None => g.t()?.matmul(x),
    }
}

/// Gradient at the bias: the sum of the rows of `g`.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn bias_gradient(g: &Tensor) -> Result<Tensor> {
    g.sum(0)
}
