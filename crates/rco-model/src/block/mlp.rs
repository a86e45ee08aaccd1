//! The gated MLP, and the choice between it and experts.

use candle_core::Tensor;

use super::experts::ExpertsState;
use super::{Block, Emitter};
use crate::config::MlpConfig;
use crate::error::ModelError;
use crate::key::{WeightKey, WeightKind};
use crate::ops::{gated, gated_backward, linear_backward};

/// What backward needs of a gated MLP.
#[derive(Debug)]
pub(super) struct GatedState {
    gate: Tensor,
    up: Tensor,
    pub(super) inner: Tensor,
    pub(super) output: Tensor,
}

/// What backward needs of the second half of a block.
#[derive(Debug)]
pub(super) enum MlpState {
    Dense(GatedState),
    Experts(ExpertsState),
}

impl MlpState {
    pub(super) fn output(&self) -> Tensor {
        match self {
            Self::Dense(state) => state.output.clone(),
            Self::Experts(state) => state.output.clone(),
        }
    }
}

impl Block<'_> {
    pub(super) fn mlp_forward(&self, x: &Tensor) -> Result<MlpState, ModelError> {
        match self.config.mlp {
            MlpConfig::Dense { .. } => {
                Ok(MlpState::Dense(self.gated_forward(x, |kind| self.weights.key(kind))?))
            }
            MlpConfig::Experts { experts, per_token, renormalise, .. } => {
                let state = self.experts_forward(x, experts, per_token, renormalise)?;
                Ok(MlpState::Experts(state))
            }
        }
    }

    pub(super) fn mlp_backward(
        &self,
        x: &Tensor,
        state: MlpState,
        g: &Tensor,
        emit: &mut Emitter<'_>,
    ) -> Result<Tensor, ModelError> {
        match state {
            MlpState::Dense(state) => {
                self.gated_backward(x, &state, g, |kind| self.weights.key(kind), emit)
            }
            MlpState::Experts(state) => self.experts_backward(x, state, g, emit),
        }
    }

    /// A gated MLP whose weights `key` names.
    pub(super) fn gated_forward(
        &self,
        x: &Tensor,
        key: impl Fn(WeightKind) -> WeightKey,
    ) -> Result<GatedState, ModelError> {
        let map = |kind, x| self.weights.linear(key(kind), x, None);
        let gate = map(WeightKind::Gate, x)?;
        let up = map(WeightKind::Up, x)?;
        let inner = gated(&gate, &up, self.model.activation)?;
        let output = map(WeightKind::Down, &inner)?;
        Ok(GatedState { gate, up, inner, output })
    }

    pub(super) fn gated_backward(
        &self,
        x: &Tensor,
        state: &GatedState,
        g: &Tensor,
        key: impl Fn(WeightKind) -> WeightKey,
        emit: &mut Emitter<'_>,
    ) -> Result<Tensor, ModelError> {
        let weight = |kind| self.weights.by_key(key(kind));
        let down = weight(WeightKind::Down)?;
        emit.linear(key(WeightKind::Down), down, &state.inner, g)?;
        let g_inner = linear_backward(down, g)?;
        let (g_gate, g_up) =
            gated_backward(&state.gate, &state.up, self.model.activation, &g_inner)?;

        let (gate, up) = (weight(WeightKind::Gate)?, weight(WeightKind::Up)?);
        emit.linear(key(WeightKind::Gate), gate, x, &g_gate)?;
        emit.linear(key(WeightKind::Up), up, x, &g_up)?;
        Ok((linear_backward(gate, &g_gate)? + linear_backward(up, &g_up)?)?)
    }
}
