//! Causal attention of all heads, each head of each sequence a task of its own.
//!
//! A task goes through chunks of queries: scores, probabilities, weighted values, all in a
//! few hundred kilobytes, so that they stay in the cache of the thread that works on them
//! (as in `FlashAttention`, arXiv 2205.14135, but with whole rows of scores). Products within
//! a task run on one thread: those of a head are too small to be worth several.

use std::ops::Range;

use candle_core::{Device, Error, Result, Tensor};
use rayon::prelude::*;
use rco_gemm::{Matrix, ProductError, Threads, add_product, write_product};

use super::attention_probs::{Mask, SoftmaxBackwardRows, SoftmaxRows};
use super::compiled::vectorised;
use super::host::{floats, zeros};

/// Sizes of an attention, and its form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    /// Number of sequences.
    pub(crate) sequences: usize,
    /// Tokens of each.
    pub(crate) len: usize,
    /// Heads with keys and values of their own.
    pub(crate) kv_heads: usize,
    /// Heads of queries for each of them.
    pub(crate) repeats: usize,
    /// Size of a head.
    pub(crate) dim: usize,
    /// Factor of the scores.
    pub(crate) scale: f64,
    /// Keys that a query sees at most.
    pub(crate) window: Option<usize>,
    /// Queries of a head that are handled at a time.
    pub(crate) at_once: usize,
}

/// A chunk of queries and the keys that any of them sees.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// Positions of the queries.
    pub(crate) queries: Range<usize>,
    /// Positions of the keys.
    pub(crate) keys: Range<usize>,
}

/// Gradients of [`attention`], each of its argument's shape.
#[derive(Debug)]
pub(crate) struct AttentionGradients {
    /// At the queries.
    pub(crate) q: Tensor,
    /// At the keys.
    pub(crate) k: Tensor,
    /// At the values.
    pub(crate) v: Tensor,
}

/// Attention of queries `[sequences, len, kv heads, repeats, head size]` to keys and values
/// `[sequences · kv heads, len, head size]`, as `[sequences · len, heads · head size]`;
/// `None` for anything but f32 on the processor.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn attention(
    shape: &AttentionShape,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
) -> Result<Option<Tensor>> {
    let chunks: Vec<Chunk> = shape.chunks().collect();
    let tasks = shape.sequences * shape.heads() * chunks.len();
    let context = floats([q, k, v], |[q, k, v]| {
        let parts = (0..tasks).into_par_iter().map_init(Vec::new, |probs, task| {
            let (head, chunk) = (task / chunks.len(), &chunks[task % chunks.len()]);
            let mut out = vec![0.0; chunk.queries.len() * shape.dim];
            shape.probs(head, chunk, q, k, probs)?;
            let probs = Matrix::new(probs, chunk.queries.len(), chunk.keys.len())?;
            write_product(&mut out, probs, shape.keys(head, chunk, v)?, Threads::One)?;
            Ok(out)
        });
        let parts = parts.collect::<std::result::Result<Vec<_>, ProductError>>()?;
        let size = shape.at_once;
        let row = |head: usize, at: usize| {
            &parts[head * chunks.len() + at / size][at % size * shape.dim..][..shape.dim]
        };
        Ok(shape.by_token(row))
    })?;
    let Some(context) = context else { return Ok(None) };
    let context = context.map_err(|e: ProductError| Error::wrap(e))?;
    let tokens = (shape.sequences * shape.len, shape.heads() * shape.dim);
    Ok(Some(Tensor::from_vec(context, tokens, &Device::Cpu)?))
}

/// Gradients of [`attention`] from the gradient `g` at its result.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn attention_backward(
    shape: &AttentionShape,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    g: &Tensor,
) -> Result<Option<AttentionGradients>> {
    let tasks = shape.sequences * shape.heads();
    let gradients = floats([q, k, v, g], |[q, k, v, g]| {
        let parts = (0..tasks).into_par_iter().map_init(Buffers::default, |buffers, head| {
            shape.backward(head, [q, k, v, g], buffers)
        });
        let parts = parts.collect::<std::result::Result<Vec<HeadGradients>, ProductError>>()?;
        let row = |head: usize, at: usize| &parts[head].q[at * shape.dim..][..shape.dim];
        let q = shape.by_token(row);
        let (k, v) = (shape.by_key(&parts, |p| &p.k), shape.by_key(&parts, |p| &p.v));
        Ok((q, k, v))
    })?;
    let Some(gradients) = gradients else { return Ok(None) };
    let (g_q, g_k, g_v) = gradients.map_err(|e: ProductError| Error::wrap(e))?;
    Ok(Some(AttentionGradients {
        q: Tensor::from_vec(g_q, q.shape(), &Device::Cpu)?,
        k: Tensor::from_vec(g_k, k.shape(), &Device::Cpu)?,
        v: Tensor::from_vec(g_v, v.shape(), &Device::Cpu)?,
    }))
}

/// Memory of a thread.
#[derive(Default)]
struct Buffers {
    probs: Vec<f32>,
    g_probs: Vec<f32>,
    g_scores: Vec<f32>,
}

/// Gradients of one head of one sequence, `[len, head size]` each.
struct HeadGradients {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl AttentionShape {
    /// Chunks of queries, in order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Chunk> + use<> {
        let Self { len, window, at_once, .. } = *self;
        (0..len).step_by(at_once).map(move |start| {
            let end = (start + at_once).min(len);
            let oldest = window.map_or(0, |w| (start + 1).saturating_sub(w));
            Chunk { queries: start..end, keys: oldest..end }
        })
    }

    /// Which keys of a chunk its queries see.
    pub(crate) fn mask(&self, chunk: &Chunk) -> Mask {
        Mask {
            first_query: chunk.queries.start,
            queries: chunk.queries.len(),
            first_key: chunk.keys.start,
            window: self.window,
        }
    }

    fn heads(&self) -> usize {
        self.kv_heads * self.repeats
    }

    /// Rows of a chunk's queries for one head of one sequence.
    fn queries<'a>(
        &self,
        head: usize,
        chunk: &Chunk,
        q: &'a [f32],
    ) -> std::result::Result<Matrix<'a>, ProductError> {
        let (heads, dim) = (self.heads(), self.dim);
        let token = head / heads * self.len + chunk.queries.start;
        let from = (token * heads + head % heads) * dim;
        let values = q.get(from..).unwrap_or_default();
        Matrix::strided(values, chunk.queries.len(), dim, heads * dim)
    }

    /// Rows of a chunk's keys or values for one head of one sequence.
    fn keys<'a>(
        &self,
        head: usize,
        chunk: &Chunk,
        k: &'a [f32],
    ) -> std::result::Result<Matrix<'a>, ProductError> {
        // Heads that share keys lie side by side, sequence after sequence.
        let first = head / self.repeats * self.len;
        let rows = (first + chunk.keys.start) * self.dim..(first + chunk.keys.end) * self.dim;
        Matrix::new(k.get(rows).unwrap_or_default(), chunk.keys.len(), self.dim)
    }

    /// Probabilities of a chunk, queries by keys.
    fn probs(
        &self,
        head: usize,
        chunk: &Chunk,
        q: &[f32],
        k: &[f32],
        probs: &mut Vec<f32>,
    ) -> std::result::Result<(), ProductError> {
        let (q, k) = (self.queries(head, chunk, q)?, self.keys(head, chunk, k)?);
        probs.resize(chunk.queries.len() * chunk.keys.len(), 0.0);
        write_product(probs, q, k.transposed(), Threads::One)?;
        let (width, mask, scale) = (chunk.keys.len(), self.mask(chunk), self.scale as f32);
        vectorised(SoftmaxRows { values: probs, width, first: 0, rows: usize::MAX, mask, scale });
        Ok(())
    }

    /// Gradients of one head of one sequence.
    fn backward(
        &self,
        head: usize,
        [q, k, v, g]: [&[f32]; 4],
        buffers: &mut Buffers,
    ) -> std::result::Result<HeadGradients, ProductError> {
        let (one, dim, scale) = (Threads::One, self.dim, self.scale as f32);
        let zeros = || vec![0.0; self.len * dim];
        let mut out = HeadGradients { q: zeros(), k: zeros(), v: zeros() };
        for chunk in self.chunks() {
            let Buffers { probs, g_probs, g_scores } = &mut *buffers;
            let (rows, width) = (chunk.queries.len(), chunk.keys.len());
            self.probs(head, &chunk, q, k, probs)?;
            let (queries, g) = (self.queries(head, &chunk, q)?, self.queries(head, &chunk, g)?);
            let (keys, values) = (self.keys(head, &chunk, k)?, self.keys(head, &chunk, v)?);
            let seen = chunk.keys.start * dim..chunk.keys.end * dim;

            let p = Matrix::new(probs, rows, width)?;
            add_product(&mut out.v[seen.clone()], p.transposed(), g, one)?;
            g_probs.resize(rows * width, 0.0);
            write_product(g_probs, g, values.transposed(), one)?;
            g_scores.resize(rows * width, 0.0);
            vectorised(SoftmaxBackwardRows { probs, g: g_probs, out: g_scores, width, scale });
            let g_scores = Matrix::new(g_scores, rows, width)?;
            let asked = chunk.queries.start * dim..chunk.queries.end * dim;
            write_product(&mut out.q[asked], g_scores, keys, one)?;
            add_product(&mut out.k[seen], g_scores.transposed(), queries, one)?;
        }
        Ok(out)
    }

    /// Puts the rows of heads, which `row` gives by head of all sequences and position, side
    /// by side: `[sequences · len, heads · head size]`.
    fn by_token<'a>(&self, row: impl Fn(usize, usize) -> &'a [f32] + Sync) -> Vec<f32> {
        let (heads, dim) = (self.heads(), self.dim);
        let mut out = zeros(self.sequences * self.len * heads * dim);
        out.par_chunks_mut(heads * dim).enumerate().for_each(|(token, out)| {
            let first = token / self.len * heads;
            for (head, out) in out.chunks_mut(dim).enumerate() {
                out.copy_from_slice(row(first + head, token % self.len));
            }
        });
        out
    }

    /// Sums over the heads that share keys: `[sequences · kv heads, len, head size]`.
    fn by_key(
        &self,
        parts: &[HeadGradients],
        part: impl Fn(&HeadGradients) -> &[f32] + Sync,
    ) -> Vec<f32> {
        let mut out = zeros(self.sequences * self.kv_heads * self.len * self.dim);
        let heads = out.par_chunks_mut(self.len * self.dim).zip(parts.par_chunks(self.repeats));
        heads.for_each(|(out, parts)| {
            for head in parts {
                for (sum, g) in out.iter_mut().zip(part(head)) {
                    *sum += g;
                }
            }
        });
        out
    }
}
