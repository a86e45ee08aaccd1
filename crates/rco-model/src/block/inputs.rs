//! The inputs of linear layers on their way through the forward pass.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::mlp::MlpState;
use super::{Block, mlp::GatedState};
use crate::error::ModelError;
use crate::key::{WeightKey, WeightKind};
use crate::ops::floats;

/// Rows that a task adds up; a constant, so that the order of the sums is one too.
const ROWS: usize = 64;

/// What is done with the inputs of linear layers.
pub trait InputVisitor {
    /// Takes the input of one or more matrices, which is dropped afterwards. The input of an
    /// expert has only the tokens that were routed to it; an expert without tokens does not
    /// come.
    ///
    /// # Errors
    /// Any; ends the forward pass.
    fn visit(&mut self, input: &LayerInput<'_>) -> Result<(), ModelError>;
}

/// The input of matrices that share it: query, key and value, or gate and up.
#[derive(Debug)]
pub struct LayerInput<'a> {
    /// The matrices.
    pub keys: &'a [WeightKey],
    rows: &'a Tensor,
}

impl<'a> LayerInput<'a> {
    pub(crate) fn new(keys: &'a [WeightKey], rows: &'a Tensor) -> Self {
        Self { keys, rows }
    }

    /// Number of rows: of tokens, or of those that were routed to the expert.
    pub fn rows(&self) -> usize {
        self.rows.dims().first().copied().unwrap_or(0)
    }

    /// Width of a row: the columns of the matrices.
    pub fn columns(&self) -> usize {
        self.rows.dims().last().copied().unwrap_or(0)
    }

    /// The rows, one after the other.
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub fn values(&self) -> Result<Vec<f64>, ModelError> {
        let rows = self.rows.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        Ok(rows.flatten_all()?.to_vec1()?)
    }

    /// The rows in single precision, one after the other.
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub fn floats(&self) -> Result<Vec<f32>, ModelError> {
        let rows = self.rows.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        Ok(rows.flatten_all()?.to_vec1()?)
    }

    /// Sum over the rows of the squares of each column, in f64 and in a fixed order.
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub fn column_squares(&self) -> Result<Vec<f64>, ModelError> {
        let columns = self.columns().max(1);
        let fast = floats([self.rows], |[rows]| {
            let squares = |rows: &[f32]| {
                let mut sums = vec![0.0; columns];
                for row in rows.chunks_exact(columns) {
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum += f64::from(*x) * f64::from(*x);
                    }
                }
                sums
            };
            add_up(columns, rows.par_chunks(ROWS * columns).map(squares).collect())
        })?;
        if let Some(sums) = fast {
            return Ok(sums);
        }
        let squares = self.values()?;
        let squares = squares.chunks(columns).map(|row| row.iter().map(|x| x * x).collect());
        Ok(add_up(columns, squares.collect()))
    }
}

fn add_up(columns: usize, parts: Vec<Vec<f64>>) -> Vec<f64> {
    let mut sums = vec![0.0; columns];
    for part in parts {
        for (sum, x) in sums.iter_mut().zip(part) {
            *sum += x;
        }
    }
    sums
}

impl Block<'_> {
    /// As [`Block::forward`], and shows `visitor` the input of every matrix.
    ///
    /// # Errors
    /// As [`Block::forward`], and whatever the visitor returns.
    pub(crate) fn forward_inputs(
        &self,
        x: &Tensor,
        visitor: &mut dyn InputVisitor,
    ) -> Result<Tensor, ModelError> {
        let mut visit =
            |keys: &[WeightKey], rows: &Tensor| visitor.visit(&LayerInput::new(keys, rows));
        let key = |kind| self.weights.key(kind);
        let normed = self.norm(WeightKind::AttentionNorm, x)?;
        visit(&[WeightKind::Query, WeightKind::Key, WeightKind::Value].map(key), &normed)?;
        let attention = self.attention_forward(&normed)?;
        visit(&[key(WeightKind::Output)], &attention.context)?;
        let attended = self.attention_output(&attention)?;
        let x = (x + self.post_norm(WeightKind::PostAttentionNorm, attended)?)?;

        let normed = self.norm(WeightKind::MlpNorm, &x)?;
        let mlp = self.mlp_forward(&normed)?;
        let mut gated = |expert: Option<usize>, rows: &Tensor, state: &GatedState| {
            let key = |kind| WeightKey { expert, ..key(kind) };
            visit(&[WeightKind::Gate, WeightKind::Up].map(key), rows)?;
            visit(&[key(WeightKind::Down)], &self.gated_inner(state)?)
        };
        match &mlp {
            MlpState::Dense(state) => gated(None, &normed, state)?,
            MlpState::Experts(state) => {
                for (expert, range, state_of) in &state.experts {
                    let rows = state.inputs.narrow(0, range.start, range.len())?;
                    gated(Some(*expert), &rows, state_of)?;
                }
                visit(&[key(WeightKind::Router)], &normed)?;
            }
        }
        Ok((x + self.post_norm(WeightKind::PostMlpNorm, self.mlp_output(&mlp)?)?)?)
    }
}
