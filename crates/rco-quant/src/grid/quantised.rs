//! A matrix as codes, and how far it is from the original.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use rco_formats::compressed_tensors::{PackedPart, pack};
use rco_formats::safetensors::Dtype;
use rco_model::weights::FloatType;

use super::error::GridError;
use super::fit::{Fit, Step};
use super::hessian::Hessian;

/// Rows that a task takes; a constant, so that results do not depend on threads.
pub(super) const TASK_ROWS: usize = 64;

/// A matrix as codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Codes, row after row.
    pub codes: Vec<i8>,
    /// Scale and zero point of the groups, row after row.
    pub steps: Vec<Step>,
    /// `tr (W − Ŵ) H (W − Ŵ)ᵀ`, where that was found on the way.
    pub error: Option<f64>,
}

impl Quantised {
    /// The values, row after row.
    pub fn values(&self, fit: &Fit) -> Vec<f32> {
        let group = fit.scheme.group();
        let groups = self.codes.chunks_exact(group).zip(&self.steps);
        groups
            .flat_map(|(codes, &step)| {
                codes.iter().map(move |&code| fit.value(step, i32::from(code)))
            })
            .collect()
    }

    /// The bytes of a tensor of the packed form; scales are stored in `scale`, a type of
    /// floats.
    pub fn part(&self, fit: &Fit, part: PackedPart, scale: Dtype) -> Vec<u8> {
        let (bits, least) = (fit.scheme.bits(), fit.scheme.range().0);
        let groups = self.columns / fit.scheme.group();
        let mut out = Vec::new();
        match part {
            PackedPart::Codes => {
                for row in self.codes.chunks_exact(self.columns) {
                    pack(row.iter().map(|&q| (i32::from(q) - least) as u8), bits, &mut out);
                }
            }
            PackedPart::Scales => {
                let scales: Vec<f32> = self.steps.iter().map(|step| step.scale).collect();
                FloatType::of(scale).unwrap_or(FloatType::F32).narrow(&scales, &mut out);
            }
            PackedPart::ZeroPoints => {
                let columns: Vec<Vec<u8>> = (0..groups)
                    .map(|g| {
                        let zeros = self.steps.iter().skip(g).step_by(groups);
                        let mut column = Vec::new();
                        pack(zeros.map(|step| (step.zero - least) as u8), bits, &mut column);
                        column
                    })
                    .collect();
                let words = columns.first().map_or(0, |column| column.len() / 4);
                for w in 0..words {
                    for column in &columns {
                        out.extend_from_slice(&column[4 * w..4 * w + 4]);
                    }
                }
            }
            PackedPart::Shape => {
                for d in [self.rows, self.columns] {
                    out.extend_from_slice(&(d as u64).to_le_bytes());
                }
            }
        }
        out
    }
}

/// Refuses a matrix of another size, or with a weight that is not finite.
pub(super) fn check(
    weights: &[f32],
    rows: usize,
    columns: usize,
    group: usize,
) -> Result<(), GridError> {
    let expected = rows.saturating_mul(columns);
    if weights.len() != expected {
        return Err(GridError::Size { what: "weights", expected, found: weights.len() });
    }
    if columns == 0 || !columns.is_multiple_of(group) {
        let expected = columns.next_multiple_of(group).max(group);
        return Err(GridError::Size { what: "columns (whole groups)", expected, found: columns });
    }
    match weights.par_iter().position_first(|w| !w.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (row, column) = (at / columns, at % columns);
            Err(GridError::Weight { row, column, value: weights[at] })
        }
    }
}

/// `tr (W − V) H (W − V)ᵀ` of two matrices.
///
/// # Errors
/// [`GridError::Size`].
pub fn moment_error(weights: &[f32], values: &[f32], hessian: &Hessian) -> Result<f64, GridError> {
    let n = hessian.columns();
    if weights.len() != values.len() || !weights.len().is_multiple_of(n.max(1)) {
        let (what, expected, found) = ("values", weights.len(), values.len());
        return Err(GridError::Size { what, expected, found });
    }
    let mut full = vec![0.0; n * n];
    full.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, row)| {
        for (j, h) in row.iter_mut().enumerate() {
            *h = hessian.at(i, j);
        }
    });
    let full = MatRef::from_row_major_slice(&full, n, n);
    let step = TASK_ROWS * n.max(1);
    let parts: Vec<f64> = weights
        .par_chunks(step)
        .zip(values.par_chunks(step))
        .map(|(w, v)| {
            let e: Vec<f64> = w.iter().zip(v).map(|(w, v)| f64::from(w - v)).collect();
            let rows = e.len() / n;
            let mut product = vec![0.0; e.len()];
            matmul(
                MatMut::from_row_major_slice_mut(&mut product, rows, n),
                Accum::Replace,
                MatRef::from_row_major_slice(&e, rows, n),
                full,
                1.0,
                Par::Seq,
            );
            e.iter().zip(&product).map(|(e, p)| e * p).sum::<f64>()
        })
        .collect();
    Ok(parts.iter().sum())
}
