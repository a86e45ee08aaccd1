//! The gated MLP, and the choice between it and experts.

use candle_core::Tensor;

use super::experts::ExpertsState;
use super::{Block, Emitter};
use crate::config::MlpConfig;
use crate::error::ModelError;
use crate::key::{WeightKey, WeightKind};
use crate::ops::{InputGradient, gated, gated_backward, linear_backward};

/// What backward needs of a gated MLP.
#[derive(Debug)]
pub(super) struct GatedState {
    gate: Tensor,
    up: Tensor,
    /// Input of the last matrix; `None` if it is to be computed again.
    inner: Option<Tensor>,
}

/// What backward needs of the second half of a block.
#[derive(Debug)]
pub(super) enum MlpState {
    Dense(GatedState),
    Experts(ExpertsState),
}

impl MlpState {
    /// Without what is cheap to compute again.
    pub(super) fn slim(self) -> Self {
        match self {
            Self::Dense(state) => Self::Dense(GatedState { inner: None, ..state }),
            Self::Experts(state) => Self::Experts(state),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Dense(state) => state.bytes(),
            Self::Experts(state) => state.bytes(),
        }
    }
}

impl GatedState {
    pub(super) fn bytes(&self) -> usize {
        super::bytes([&self.gate, &self.up].into_iter().chain(&self.inner))
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

    pub(super) fn mlp_output(&self, state: &MlpState) -> Result<Tensor, ModelError> {
        match state {
            MlpState::Dense(state) => self.gated_output(state, |kind| self.weights.key(kind)),
            MlpState::Experts(state) => Ok(state.output.clone()),
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
        let gate = self.weights.linear(key(WeightKind::Gate), x, None)?;
        let up = self.weights.linear(key(WeightKind::Up), x, None)?;
        let inner = Some(gated(&gate, &up, self.model.activation)?);
        Ok(GatedState { gate, up, inner })
    }

    /// Input of the last matrix.
    pub(super) fn gated_inner(&self, state: &GatedState) -> Result<Tensor, ModelError> {
        match &state.inner {
            Some(inner) => Ok(inner.clone()),
            None => Ok(gated(&state.gate, &state.up, self.model.activation)?),
        }
    }

    pub(super) fn gated_output(
        &self,
        state: &GatedState,
        key: impl Fn(WeightKind) -> WeightKey,
    ) -> Result<Tensor, ModelError> {
        self.weights.linear(key(WeightKind::Down), &self.gated_inner(state)?, None)
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
        emit.linear(key(WeightKind::Down), down, &self.gated_inner(state)?, g)?;
        let g_inner = linear_backward(down, g)?;
        let (g_gate, g_up) =
            gated_backward(&state.gate, &state.up, self.model.activation, &g_inner)?;

        let (gate, up) = (weight(WeightKind::Gate)?, weight(WeightKind::Up)?);
        emit.linear(key(WeightKind::Gate), gate, x, &g_gate)?;
        emit.linear(key(WeightKind::Up), up, x, &g_up)?;
        Ok(InputGradient::of(gate, &g_gate)?.add(up, &g_up)?.finish()?)
    }
}
