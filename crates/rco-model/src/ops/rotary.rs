//! Rotary position embedding (Su et al., arXiv 2104.09864).

use candle_core::{D, DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::host::{floats, rows_per_task, zeros};
use crate::config::{Rope, RopeOrder};

/// Cosines and sines of every position and pair.
#[derive(Debug, Clone)]
pub(crate) struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
    order: RopeOrder,
}

impl RotaryTable {
    /// Table for positions `0..len` of heads of width `dim` (even).
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub(crate) fn new(
        rope: &Rope,
        len: usize,
        dim: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let frequencies = rope.frequencies(dim);
        let table = |f: fn(f64) -> f64| -> Result<Tensor> {
            let values: Vec<f64> = (0..len)
                .flat_map(|t| frequencies.iter().map(move |w| f(t as f64 * w)))
                .map(|x| x * rope.amplitude())
                .collect();
            Tensor::from_vec(values, (len, dim / 2), &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)?, order: rope.order })
    }

    /// Rotates `x [sequences, len, heads, dim]`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub(crate) fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, 1.0)
    }

    /// Gradient at the input of [`RotaryTable::rotate`]: the rotation back (times the
    /// amplitude).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub(crate) fn rotate_backward(&self, g: &Tensor) -> Result<Tensor> {
        self.apply(g, -1.0)
    }

    fn apply(&self, x: &Tensor, sign: f64) -> Result<Tensor> {
        let (sequences, len, heads, dim) = x.dims4()?;
        if self.cos.dims() != [len, dim / 2] {
            let table = self.cos.shape();
            candle_core::bail!("rotation of {:?} with a table of {table:?}", x.shape());
        }
        let kernel = floats([x, &self.cos, &self.sin], |[x, cos, sin]| {
            let mut y = zeros(x.len());
            let width = heads * dim;
            let tokens = rows_per_task(width);
            let tasks = y.par_chunks_mut(tokens * width).zip(x.par_chunks(tokens * width));
            tasks.enumerate().for_each(|(task, (y, x))| {
                for (i, (y, x)) in y.chunks_mut(width).zip(x.chunks(width)).enumerate() {
                    let pair = (task * tokens + i) % len * (dim / 2);
                    let (cos, sin) = (&cos[pair..pair + dim / 2], &sin[pair..pair + dim / 2]);
                    for (y, x) in y.chunks_mut(dim).zip(x.chunks(dim)) {
                        rotate_head(x, cos, sin, sign as f32, self.order, y);
                    }
                }
            });
            y
        })?;
        match kernel {
            Some(y) => Tensor::from_vec(y, x.shape(), x.device()),
            None => self.primitive(x, sign, (sequences, len, heads, dim)),
        }
    }

    fn primitive(
        &self,
        x: &Tensor,
        sign: f64,
        (sequences, len, heads, dim): (usize, usize, usize, usize),
    ) -> Result<Tensor> {
        let half = dim / 2;
        // Split into first and second coordinates of the pairs.
        let (axis, x) = match self.order {
            RopeOrder::Halves => (3, x.reshape((sequences, len, heads, 2, half))?),
            RopeOrder::Interleaved => (4, x.reshape((sequences, len, heads, half, 2))?),
        };
        let (a, b) = (x.narrow(axis, 0, 1)?.squeeze(axis)?, x.narrow(axis, 1, 1)?.squeeze(axis)?);
        let cos = self.cos.reshape((1, len, 1, half))?;
        let sin = (self.sin.reshape((1, len, 1, half))? * sign)?;
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        match self.order {
            RopeOrder::Halves => Tensor::cat(&[first, second], D::Minus1),
            RopeOrder::Interleaved => {
                Tensor::stack(&[first, second], 4)?.reshape((sequences, len, heads, dim))
            }
        }
    }
}

fn rotate_head(x: &[f32], cos: &[f32], sin: &[f32], sign: f32, order: RopeOrder, y: &mut [f32]) {
    let half = cos.len();
    match order {
        RopeOrder::Halves => {
            let (a, b) = x.split_at(half);
            let (ya, yb) = y.split_at_mut(half);
            for i in 0..half {
                let s = sign * sin[i];
                ya[i] = a[i] * cos[i] - b[i] * s;
                yb[i] = b[i] * cos[i] + a[i] * s;
            }
        }
        RopeOrder::Interleaved => {
            for i in 0..half {
                let s = sign * sin[i];
                let (a, b) = (x[2 * i], x[2 * i + 1]);
                y[2 * i] = a * cos[i] - b * s;
                y[2 * i + 1] = b * cos[i] + a * s;
            }
        }
    }
}
