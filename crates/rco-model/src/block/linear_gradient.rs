//! The gradient of a linear map's weight as what it is a product of.

use candle_core::{Error, Tensor};
use rayon::prelude::*;
use rco_gemm::{Matrix, ProductError, Threads, write_product};

use super::gradients::{WeightGradient, check_sources};
use crate::error::ModelError;
use crate::key::WeightKey;
use crate::ops::{floats, weight_gradient};
use crate::weights::{TASK, WeightSource};

/// Rows of a matrix that a task handles at least: products of fewer are not worth their while.
const LEAST_ROWS: usize = 8;

/// A linear map on the way back, before its weight's gradient is formed: the inputs `x [tokens,
/// in]` and the gradient `g [tokens, out]` at its outputs. The weight's gradient is `gᵀ x`.
#[derive(Debug)]
pub struct LinearGradient<'a> {
    /// The weight.
    pub key: WeightKey,
    pub(super) weight: &'a Tensor,
    pub(super) x: &'a Tensor,
    pub(super) g: &'a Tensor,
}

impl LinearGradient<'_> {
    /// `Σ_c ⟨g_cᵀ x_c, option − weight⟩²` for what each source holds under this weight's key,
    /// where `c` runs over parts of at most `part` tokens, one after the other. Options are read
    /// a few rows at a time and once for all parts; no gradient is in memory as a whole. On the
    /// CPU products are summed in f32 within a few rows and in f64 over these.
    ///
    /// # Errors
    /// [`ModelError::MissingWeight`], [`ModelError::WrongShape`] or a failed read.
    pub fn squares_in_parts(
        &self,
        sources: &[&dyn WeightSource],
        part: usize,
    ) -> Result<Vec<f64>, ModelError> {
        check_sources(sources, self.key, self.weight.dims())?;
        let part = part.max(1);
        let ((tokens, columns), (_, rows)) = (self.x.dims2()?, self.g.dims2()?);
        let fast = floats([self.weight, self.x, self.g], |[weight, x, g]| {
            let map = Host { weight, x, g, tokens, rows, columns, part };
            map.squares(self.key, sources)
        })?;
        if let Some(squares) = fast {
            return squares;
        }
        let mut out = vec![0.0; sources.len()];
        for start in (0..tokens).step_by(part) {
            let count = part.min(tokens - start);
            let (x, g) = (self.x.narrow(0, start, count)?, self.g.narrow(0, start, count)?);
            let gradient = weight_gradient(&x, &g)?;
            let gradient = WeightGradient { key: self.key, weight: self.weight, gradient };
            for (sum, z) in out.iter_mut().zip(gradient.dot_sources(sources)?) {
                *sum += z * z;
            }
        }
        Ok(out)
    }
}

/// The same with values in main memory, row after row.
struct Host<'a> {
    weight: &'a [f32],
    x: &'a [f32],
    g: &'a [f32],
    tokens: usize,
    rows: usize,
    columns: usize,
    part: usize,
}

/// What a task needs room for.
#[derive(Default)]
struct Room {
    /// Gradients of some rows, by part.
    gradients: Vec<f32>,
    /// Differences of the options from the weight in these rows, by option.
    differences: Vec<f32>,
    products: Vec<f32>,
}

impl Host<'_> {
    fn squares(
        &self,
        key: WeightKey,
        sources: &[&dyn WeightSource],
    ) -> Result<Vec<f64>, ModelError> {
        // A constant division of the work, so that the order of the sums is one too.
        let rows = (TASK / self.columns.max(1)).max(LEAST_ROWS);
        let tasks = (0..self.rows).into_par_iter().step_by(rows);
        let of_tasks: Vec<Vec<f32>> = tasks
            .map_init(Room::default, |room, first| {
                self.products(key, sources, first, rows.min(self.rows - first), room)?;
                Ok(room.products.clone())
            })
            .collect::<Result<_, ModelError>>()?;
        let mut z = vec![0.0; self.tokens.div_ceil(self.part) * sources.len()];
        for products in of_tasks {
            for (z, product) in z.iter_mut().zip(products) {
                *z += f64::from(product);
            }
        }
        let mut out = vec![0.0; sources.len()];
        for z in z.chunks_exact(sources.len().max(1)) {
            for (sum, z) in out.iter_mut().zip(z) {
                *sum += z * z;
            }
        }
        Ok(out)
    }

    /// `room.products [parts, options]`: products of the gradients with the differences in some
    /// rows.
    fn products(
        &self,
        key: WeightKey,
        sources: &[&dyn WeightSource],
        first: usize,
        rows: usize,
        room: &mut Room,
    ) -> Result<(), ModelError> {
        let (columns, len) = (self.columns, rows * self.columns);
        let parts = self.tokens.div_ceil(self.part);
        room.differences.resize(sources.len() * len, 0.0);
        let weight = &self.weight[first * columns..][..len];
        for (source, difference) in
            sources.iter().zip(room.differences.chunks_exact_mut(len.max(1)))
        {
            source.read_rows(key, first, difference)?;
            for (difference, weight) in difference.iter_mut().zip(weight) {
                *difference -= weight;
            }
        }
        room.gradients.resize(parts * len, 0.0);
        room.products.resize(parts * sources.len(), 0.0);
        self.multiply(first, rows, room, parts, sources.len()).map_err(|e| Error::wrap(e).into())
    }

    fn multiply(
        &self,
        first: usize,
        rows: usize,
        room: &mut Room,
        parts: usize,
        options: usize,
    ) -> Result<(), ProductError> {
        let (columns, len) = (self.columns, rows * self.columns);
        for (c, gradient) in room.gradients.chunks_exact_mut(len.max(1)).enumerate() {
            let start = c * self.part;
            let count = self.part.min(self.tokens - start);
            let g = Matrix::strided(&self.g[start * self.rows + first..], count, rows, self.rows)?;
            let x = Matrix::new(&self.x[start * columns..][..count * columns], count, columns)?;
            write_product(gradient, g.transposed(), x, Threads::One)?;
        }
        let gradients = Matrix::new(&room.gradients, parts, len)?;
        let differences = Matrix::new(&room.differences, options, len)?;
        write_product(&mut room.products, gradients, differences.transposed(), Threads::One)
    }
}
