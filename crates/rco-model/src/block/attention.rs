//! Causal attention with grouped queries, by chunks of queries.

use candle_core::Tensor;

use super::{Block, Emitter};
use crate::config::QkNorm;
use crate::error::ModelError;
use crate::key::WeightKind;
use crate::ops::{
    AttentionGradients, AttentionShape, Chunk, InputGradient, attention, attention_backward,
    attention_probs, attention_probs_backward, linear_backward, rms_norm, rms_norm_backward,
    soft_cap, soft_cap_backward,
};

/// Queries of a sequence that are handled at a time: probabilities of this many rows for
/// every head are the largest thing in memory.
pub(crate) const QUERIES: usize = 128;

/// What backward needs of the attention.
#[derive(Debug)]
pub(super) struct AttentionState {
    /// Projections before the norm; only with norms.
    q_raw: Option<Tensor>,
    k_raw: Option<Tensor>,
    /// Rotated queries `[sequences, len, kv heads, repeats, head size]`.
    q: Tensor,
    /// Rotated keys `[sequences · kv heads, len, head size]`.
    k: Tensor,
    /// Values, as the keys.
    v: Tensor,
    /// Input of the output projection `[tokens, heads · head size]`.
    pub(super) context: Tensor,
}

impl AttentionState {
    pub(super) fn bytes(&self) -> usize {
        let always = [&self.q, &self.k, &self.v, &self.context];
        super::bytes(always.into_iter().chain(&self.q_raw).chain(&self.k_raw))
    }
}

impl Block<'_> {
    pub(super) fn attention_forward(&self, x: &Tensor) -> Result<AttentionState, ModelError> {
        let w = self.weights;
        let project = |kind, bias| w.linear(w.key(kind), x, w.optional(bias));
        let q = project(WeightKind::Query, WeightKind::QueryBias)?;
        let k = project(WeightKind::Key, WeightKind::KeyBias)?;
        let v = project(WeightKind::Value, WeightKind::ValueBias)?;

        let (q_raw, q) = self.qk_norm(WeightKind::QueryNorm, q)?;
        let (k_raw, k) = self.qk_norm(WeightKind::KeyNorm, k)?;
        let q = self.rotary.rotate(&self.split_heads(&q)?)?;
        let k = self.rotary.rotate(&self.split_heads(&k)?)?;
        let q = q.reshape(self.query_shape())?;
        let k = self.batch_heads(&k)?;
        let v = self.batch_heads(&self.split_heads(&v)?)?;

        let context = self.context(&q, &k, &v)?;
        Ok(AttentionState { q_raw, k_raw, q, k, v, context })
    }

    pub(super) fn attention_output(&self, state: &AttentionState) -> Result<Tensor, ModelError> {
        let bias = self.weights.optional(WeightKind::OutputBias);
        let key = self.weights.key(WeightKind::Output);
        self.weights.linear(key, &state.context, bias)
    }

    pub(super) fn attention_backward(
        &self,
        x: &Tensor,
        state: AttentionState,
        g: &Tensor,
        emit: &mut Emitter<'_>,
    ) -> Result<Tensor, ModelError> {
        let w = self.weights;
        let output = w.get(WeightKind::Output)?;
        emit.linear(w.key(WeightKind::Output), output, &state.context, g)?;
        emit.bias(w.key(WeightKind::OutputBias), w.optional(WeightKind::OutputBias), g)?;
        let g_context = linear_backward(output, g)?.reshape(self.query_shape())?;

        let AttentionState { q_raw, k_raw, q, k, v, .. } = state;
        let AttentionGradients { q: g_q, k: g_k, v: g_v } =
            self.context_backward(&q, &k, &v, &g_context)?;

        let m = self.model;
        let g_q = g_q.reshape((self.sequences, self.len, m.heads, m.head_dim))?;
        let g_q = self.merge_heads(&self.rotary.rotate_backward(&g_q)?)?;
        let g_k = self.merge_heads(&self.rotary.rotate_backward(&self.unbatch_heads(&g_k)?)?)?;
        let g_v = self.merge_heads(&self.unbatch_heads(&g_v)?)?;
        let g_q = self.qk_norm_backward(WeightKind::QueryNorm, q_raw, g_q, emit)?;
        let g_k = self.qk_norm_backward(WeightKind::KeyNorm, k_raw, g_k, emit)?;

        let mut g_x: Option<InputGradient> = None;
        for (kind, bias, g) in [
            (WeightKind::Query, WeightKind::QueryBias, g_q),
            (WeightKind::Key, WeightKind::KeyBias, g_k),
            (WeightKind::Value, WeightKind::ValueBias, g_v),
        ] {
            let weight = w.get(kind)?;
            emit.linear(w.key(kind), weight, x, &g)?;
            emit.bias(w.key(bias), w.optional(bias), &g)?;
            g_x = Some(match g_x {
                Some(sum) => sum.add(weight, &g)?,
                None => InputGradient::of(weight, &g)?,
            });
        }
        match g_x {
            Some(g_x) => Ok(g_x.finish()?),
            None => Ok(x.zeros_like()?),
        }
    }

    /// Weighted values `[tokens, heads · head size]`.
    fn context(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor, ModelError> {
        if self.model.attention_cap.is_none()
            && let Some(context) = attention(&self.attention_shape(), q, k, v)?
        {
            return Ok(context);
        }
        let mut parts = Vec::new();
        for chunk in self.attention_shape().chunks() {
            let queries = self.take_queries(q, &chunk)?;
            let (_, probs) = self.probs(&queries, k, &chunk)?;
            let v = v.narrow(1, chunk.keys.start, chunk.keys.len())?;
            parts.push(self.give_queries(&probs.matmul(&v)?, &chunk)?);
        }
        let width = self.model.heads * self.model.head_dim;
        Ok(Tensor::cat(&parts, 1)?.reshape((self.sequences * self.len, width))?)
    }

    /// Gradients at queries, keys and values from that at the weighted values, which has the
    /// shape of the queries.
    fn context_backward(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        g: &Tensor,
    ) -> Result<AttentionGradients, ModelError> {
        if self.model.attention_cap.is_none()
            && let Some(gradients) = attention_backward(&self.attention_shape(), q, k, v, g)?
        {
            return Ok(gradients);
        }
        let (mut g_q, mut g_k, mut g_v) = (Vec::new(), k.zeros_like()?, v.zeros_like()?);
        for chunk in self.attention_shape().chunks() {
            let queries = self.take_queries(q, &chunk)?;
            let g_out = self.take_queries(g, &chunk)?;
            let (start, count) = (chunk.keys.start, chunk.keys.len());
            let (keys, values) = (k.narrow(1, start, count)?, v.narrow(1, start, count)?);

            let (scores, probs) = self.probs(&queries, k, &chunk)?;
            let widen = |part: Tensor| part.pad_with_zeros(1, start, self.len - start - count);
            g_v = (g_v + widen(probs.t()?.matmul(&g_out)?)?)?;
            let g_probs = g_out.matmul(&values.t()?)?;
            let mut g_scores = attention_probs_backward(&probs, self.score_scale(), &g_probs)?;
            if let Some(cap) = self.model.attention_cap {
                g_scores =
                    (soft_cap_backward(&scores, cap, &g_scores)? * self.model.attention_scale)?;
            }
            g_q.push(self.give_queries(&g_scores.matmul(&keys)?, &chunk)?);
            g_k = (g_k + widen(g_scores.t()?.matmul(&queries)?)?)?;
        }
        let q = Tensor::cat(&g_q, 1)?.reshape(self.query_shape())?;
        Ok(AttentionGradients { q, k: g_k, v: g_v })
    }

    /// Scores (after the cap, if there is one) and probabilities of a chunk.
    fn probs(
        &self,
        queries: &Tensor,
        k: &Tensor,
        chunk: &Chunk,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let keys = k.narrow(1, chunk.keys.start, chunk.keys.len())?;
        let mut scores = queries.matmul(&keys.t()?)?;
        if let Some(cap) = self.model.attention_cap {
            scores = soft_cap(&(scores * self.model.attention_scale)?, cap)?;
        }
        let mask = self.attention_shape().mask(chunk);
        let probs = attention_probs(&scores, self.score_scale(), mask)?;
        Ok((scores, probs))
    }

    /// Scale that the softmax applies: a cap comes after the scale of the scores.
    fn score_scale(&self) -> f64 {
        if self.model.attention_cap.is_some() { 1.0 } else { self.model.attention_scale }
    }

    fn attention_shape(&self) -> AttentionShape {
        let m = self.model;
        AttentionShape {
            sequences: self.sequences,
            len: self.len,
            kv_heads: m.kv_heads,
            repeats: m.heads / m.kv_heads,
            dim: m.head_dim,
            scale: self.score_scale(),
            window: self.config.window,
            at_once: QUERIES,
        }
    }

    fn query_shape(&self) -> (usize, usize, usize, usize, usize) {
        let m = self.model;
        (self.sequences, self.len, m.kv_heads, m.heads / m.kv_heads, m.head_dim)
    }

    /// Queries of a chunk as `[sequences · kv heads, repeats · queries, head size]`: all
    /// heads that share a key are rows of one matrix, so that no key is repeated.
    fn take_queries(&self, q: &Tensor, chunk: &Chunk) -> Result<Tensor, ModelError> {
        let (sequences, _, kv_heads, repeats, dim) = self.query_shape();
        let count = chunk.queries.len();
        let q = q.narrow(1, chunk.queries.start, count)?.permute((0, 2, 3, 1, 4))?;
        Ok(q.reshape((sequences * kv_heads, repeats * count, dim))?)
    }

    /// The reverse, as `[sequences, queries, heads · head size]`.
    fn give_queries(&self, rows: &Tensor, chunk: &Chunk) -> Result<Tensor, ModelError> {
        let (sequences, _, kv_heads, repeats, dim) = self.query_shape();
        let count = chunk.queries.len();
        let rows = rows.reshape((sequences, kv_heads, repeats, count, dim))?;
        let rows = rows.permute((0, 3, 1, 2, 4))?;
        Ok(rows.reshape((sequences, count, kv_heads * repeats * dim))?)
    }

    /// `[tokens, heads · head size]` as `[sequences, len, heads, head size]`.
    fn split_heads(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(x.reshape((self.sequences, self.len, (), self.model.head_dim))?)
    }

    fn merge_heads(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(x.reshape((self.sequences * self.len, ()))?)
    }

    /// `[sequences, len, kv heads, head size]` as `[sequences · kv heads, len, head size]`.
    fn batch_heads(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let shape = (self.sequences * self.model.kv_heads, self.len, self.model.head_dim);
        Ok(x.transpose(1, 2)?.reshape(shape)?)
    }

    fn unbatch_heads(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let m = self.model;
        let x = x.reshape((self.sequences, m.kv_heads, self.len, m.head_dim))?;
        Ok(x.transpose(1, 2)?.contiguous()?)
    }

    /// Norm of projected queries or keys; keeps the input if there is a norm.
    fn qk_norm(&self, kind: WeightKind, x: Tensor) -> Result<(Option<Tensor>, Tensor), ModelError> {
        let m = self.model;
        let rows = match m.qk_norm {
            QkNorm::None => return Ok((None, x)),
            QkNorm::PerHead => x.reshape(((), m.head_dim))?,
            QkNorm::AllHeads => x.clone(),
        };
        let y = rms_norm(&rows, self.weights.get(kind)?, m.norm_eps, m.norm_offset)?;
        Ok((Some(rows), y.reshape(x.shape())?))
    }

    fn qk_norm_backward(
        &self,
        kind: WeightKind,
        raw: Option<Tensor>,
        g: Tensor,
        emit: &mut Emitter<'_>,
    ) -> Result<Tensor, ModelError> {
        let Some(raw) = raw else { return Ok(g) };
        let m = self.model;
        let (weight, key) = (self.weights.get(kind)?, self.weights.key(kind));
        let rows = g.reshape(raw.shape())?;
        let (eps, offset) = (m.norm_eps, m.norm_offset);
        let grads = rms_norm_backward(&raw, weight, eps, offset, &rows, emit.wants(key))?;
        if let Some(gradient) = grads.weight {
            emit.visit(key, weight, gradient)?;
        }
        Ok(grads.input.reshape(g.shape())?)
    }
}
