//! Causal softmax of attention scores.

use std::ops::Range;

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::compiled::{Loop, vectorised};
use super::exp::exp;
use super::host::{dot, floats, largest, rows_per_task, zeros};

/// Which keys the rows of a matrix of scores may see.
///
/// Row `i` belongs to the query at position `first_query + i % queries`, column `j` to the
/// key at `first_key + j`. A query sees itself and the keys before it, with a window of
/// `w` only the last `w` of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mask {
    /// Position of the first query.
    pub(crate) first_query: usize,
    /// Number of different query positions.
    pub(crate) queries: usize,
    /// Position of the first key.
    pub(crate) first_key: usize,
    /// Keys that a query sees at most.
    pub(crate) window: Option<usize>,
}

impl Mask {
    /// Columns that row `i` of `width` columns sees.
    fn visible(&self, i: usize, width: usize) -> Range<usize> {
        let query = self.first_query + i % self.queries;
        let end = (query + 1).saturating_sub(self.first_key).min(width);
        let oldest = self.window.map_or(0, |w| (query + 1).saturating_sub(w));
        oldest.saturating_sub(self.first_key).min(end)..end
    }

    /// 0 where a key is seen, −∞ elsewhere; for `rows × width` scores.
    fn additive(&self, rows: usize, width: usize, like: &Tensor) -> Result<Tensor> {
        let mut values = vec![f64::NEG_INFINITY; rows * width];
        for (i, row) in values.chunks_mut(width).enumerate() {
            row[self.visible(i, width)].fill(0.0);
        }
        let mask = Tensor::from_vec(values, (rows, width), &candle_core::Device::Cpu)?;
        mask.to_dtype(like.dtype())?.to_device(like.device())
    }
}

/// Softmax of `scale · scores` over the keys that `mask` lets be seen; 0 at the others.
/// `scores [matrices, rows, keys]`; every row must see a key.
///
/// # Errors
/// Failure of the tensor library.
pub(crate) fn attention_probs(scores: &Tensor, scale: f64, mask: Mask) -> Result<Tensor> {
    let (_, rows, width) = scores.dims3()?;
    let kernel = floats([scores], |[scores]| {
        let mut probs = scores.to_vec();
        let per_task = rows_per_task(width);
        probs.par_chunks_mut(per_task * width).enumerate().for_each(|(t, values)| {
            let (first, scale) = (t * per_task, scale as f32);
            vectorised(SoftmaxRows { values, width, first, rows, mask, scale });
        });
        probs
    })?;
    if let Some(probs) = kernel {
        return Tensor::from_vec(probs, scores.shape(), scores.device());
    }
    let scores = (scores * scale)?.broadcast_add(&mask.additive(rows, width, scores)?)?;
    let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// Gradient at the scores, from the probabilities and the gradient `g` at them.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn attention_probs_backward(probs: &Tensor, scale: f64, g: &Tensor) -> Result<Tensor> {
    let (_, _, width) = probs.dims3()?;
    if probs.dims() != g.dims() {
        candle_core::bail!("probabilities {:?}, gradient {:?}", probs.shape(), g.shape());
    }
    let kernel = floats([probs, g], |[probs, g]| {
        let mut out = zeros(probs.len());
        let task = rows_per_task(width) * width;
        let inputs = probs.par_chunks(task).zip(g.par_chunks(task));
        out.par_chunks_mut(task).zip(inputs).for_each(|(out, (probs, g))| {
            vectorised(SoftmaxBackwardRows { probs, g, out, width, scale: scale as f32 });
        });
        out
    })?;
    if let Some(out) = kernel {
        return Tensor::from_vec(out, probs.shape(), probs.device());
    }
    let pg = (probs * g)?;
    let mean = pg.sum_keepdim(D::Minus1)?;
    (pg - probs.broadcast_mul(&mean)?)? * scale
}

/// Turns rows of scores into rows of probabilities; the first is row `first % rows` of its
/// matrix.
pub(super) struct SoftmaxRows<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) width: usize,
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) mask: Mask,
    pub(super) scale: f32,
}

impl Loop for SoftmaxRows<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        for (i, row) in (self.first..).zip(self.values.chunks_mut(self.width)) {
            let seen = self.mask.visible(i % self.rows, self.width);
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            softmax_row(&mut row[seen], self.scale);
        }
    }
}

/// Gradients at rows of scores.
pub(super) struct SoftmaxBackwardRows<'a> {
    pub(super) probs: &'a [f32],
    pub(super) g: &'a [f32],
    pub(super) out: &'a mut [f32],
    pub(super) width: usize,
    pub(super) scale: f32,
}

impl Loop for SoftmaxBackwardRows<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        let rows = self.probs.chunks(self.width).zip(self.g.chunks(self.width));
        for (out, (probs, g)) in self.out.chunks_mut(self.width).zip(rows) {
            let mean = dot(probs, g);
            for ((out, p), g) in out.iter_mut().zip(probs).zip(g) {
                *out = p * (g - mean) * self.scale;
            }
        }
    }
}

#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
fn softmax_row(probs: &mut [f32], scale: f32) {
    let max = largest(probs);
    for p in &mut *probs {
        *p = exp((*p - max) * scale);
    }
    let (chunks, rest) = probs.as_chunks::<16>();
    let mut sums = [0.0_f32; 16];
    for chunk in chunks {
        for (sum, p) in sums.iter_mut().zip(chunk) {
            *sum += p;
        }
    }
    let sum = sums.iter().sum::<f32>() + rest.iter().sum::<f32>();
    let inverse = 1.0 / sum;
    for p in probs {
        *p *= inverse;
    }
}
