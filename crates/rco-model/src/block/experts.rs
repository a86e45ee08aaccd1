//! A mixture of experts: tokens gathered by expert.

use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};

use super::mlp::GatedState;
use super::routing::Route;
use super::{Block, Emitter};
use crate::error::ModelError;
use crate::key::WeightKind;
use crate::ops::linear_backward;

/// What backward needs of the experts.
#[derive(Debug)]
pub(super) struct ExpertsState {
    pub(super) routes: Vec<Route>,
    gather: Gather,
    /// Inputs of the experts, in the order of experts.
    pub(super) inputs: Tensor,
    pub(super) experts: Vec<(usize, Range<usize>, GatedState)>,
    /// Outputs of the experts, unweighted, in the order of experts.
    pub(super) outputs: Tensor,
    pub(super) output: Tensor,
}

impl ExpertsState {
    pub(super) fn bytes(&self) -> usize {
        let states: usize = self.experts.iter().map(|(.., state)| state.bytes()).sum();
        states + super::bytes([&self.inputs, &self.outputs, &self.output])
    }
}

/// The order of experts: one row for each pair of a token and one of its experts.
#[derive(Debug)]
struct Gather {
    /// Token of each row.
    tokens: Tensor,
    /// Row of the j-th expert of each token, for each j.
    rows: Vec<Tensor>,
    /// The same as numbers.
    row_of: Vec<Vec<usize>>,
    /// Weight of each row, as a column.
    weights: Tensor,
    /// Rows of each expert that has any.
    ranges: Vec<(usize, Range<usize>)>,
}

impl Gather {
    fn new(routes: &[Route], experts: usize, like: &Tensor) -> Result<Self, ModelError> {
        let mut members = vec![Vec::new(); experts];
        for (token, route) in routes.iter().enumerate() {
            for (j, &(expert, weight)) in route.chosen.iter().enumerate() {
                members[expert].push((token, j, weight));
            }
        }
        let per_token = routes.first().map_or(0, |r| r.chosen.len());
        let mut row_of = vec![vec![0; routes.len()]; per_token];
        let (mut tokens, mut weights, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        for (expert, members) in members.iter().enumerate() {
            let start = tokens.len();
            for &(token, j, weight) in members {
                row_of[j][token] = tokens.len();
                tokens.push(token as u32);
                weights.push(weight);
            }
            if tokens.len() > start {
                ranges.push((expert, start..tokens.len()));
            }
        }
        let device = like.device();
        let index = |v: Vec<u32>| {
            let n = v.len();
            Tensor::from_vec(v, n, device)
        };
        let rows = row_of
            .iter()
            .map(|rows| index(rows.iter().map(|&r| r as u32).collect()))
            .collect::<Result<_, _>>()?;
        let count = weights.len();
        let weights = Tensor::from_vec(weights, (count, 1), &Device::Cpu)?;
        let weights = weights.to_dtype(like.dtype())?.to_device(device)?;
        Ok(Self { tokens: index(tokens)?, rows, row_of, weights, ranges })
    }

    /// Rows of tokens, in the order of experts.
    fn gather(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(x.index_select(&self.tokens, 0)?)
    }

    /// Sum of the rows of each token.
    fn scatter(&self, rows: &Tensor) -> Result<Tensor, ModelError> {
        let mut parts = self.rows.iter().map(|index| rows.index_select(index, 0));
        let first = parts.next().unwrap_or_else(|| rows.zeros_like())?;
        Ok(parts.try_fold(first, |sum, part| sum + part?)?)
    }
}

impl Block<'_> {
    pub(super) fn experts_forward(
        &self,
        x: &Tensor,
        experts: usize,
        per_token: usize,
        renormalise: bool,
    ) -> Result<ExpertsState, ModelError> {
        let logits = self.weights.linear(self.weights.key(WeightKind::Router), x, None)?;
        let logits: Vec<Vec<f64>> = logits.to_dtype(DType::F64)?.to_vec2()?;
        let routes: Vec<Route> = logits
            .iter()
            .map(|logits| Route::new(logits, self.dropped, per_token, renormalise))
            .collect();
        let gather = Gather::new(&routes, experts, x)?;

        let inputs = gather.gather(x)?;
        let mut states = Vec::with_capacity(gather.ranges.len());
        let mut parts = Vec::with_capacity(gather.ranges.len());
        for (expert, range) in &gather.ranges {
            let rows = inputs.narrow(0, range.start, range.len())?;
            let key = |kind| self.weights.expert_key(*expert, kind);
            let state = self.gated_forward(&rows, key)?;
            parts.push(self.gated_output(&state, key)?);
            states.push((*expert, range.clone(), state));
        }
        let outputs = Tensor::cat(&parts, 0)?;
        let output = gather.scatter(&outputs.broadcast_mul(&gather.weights)?)?;
        Ok(ExpertsState { routes, gather, inputs, experts: states, outputs, output })
    }

    pub(super) fn experts_backward(
        &self,
        x: &Tensor,
        state: ExpertsState,
        g: &Tensor,
        emit: &mut Emitter<'_>,
    ) -> Result<Tensor, ModelError> {
        let ExpertsState { routes, gather, inputs, experts, outputs, .. } = state;
        let g_rows = gather.gather(g)?;

        // Through the weights of the mixture to the router.
        let g_weights = (&g_rows * outputs)?.sum(D::Minus1)?;
        let g_weights: Vec<f64> = g_weights.to_dtype(DType::F64)?.to_vec1()?;
        let own = |token: usize, j: usize| g_weights[gather.row_of[j][token]];
        self.flips(x, g, &routes, &own, emit)?;
        let mut g_logits = Vec::new();
        for (token, route) in routes.iter().enumerate() {
            let g: Vec<f64> = gather.row_of.iter().map(|rows| g_weights[rows[token]]).collect();
            g_logits.extend(route.backward(&g));
        }
        let router = self.weights.get(WeightKind::Router)?;
        let shape = (routes.len(), router.dim(0)?);
        let g_logits = Tensor::from_vec(g_logits, shape, &Device::Cpu)?;
        let g_logits = g_logits.to_dtype(x.dtype())?.to_device(x.device())?;
        emit.linear(self.weights.key(WeightKind::Router), router, x, &g_logits)?;

        // Through the experts.
        let g_rows = g_rows.broadcast_mul(&gather.weights)?;
        let mut parts = Vec::with_capacity(experts.len());
        for (expert, range, state) in &experts {
            let input = inputs.narrow(0, range.start, range.len())?;
            let g = g_rows.narrow(0, range.start, range.len())?;
            let key = |kind| self.weights.expert_key(*expert, kind);
            parts.push(self.gated_backward(&input, state, &g, key, emit)?);
        }
        let g_inputs = gather.scatter(&Tensor::cat(&parts, 0)?)?;
        Ok((g_inputs + linear_backward(router, &g_logits)?)?)
    }
}
