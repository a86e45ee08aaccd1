//! Second moments of the inputs of a matrix.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::error::GridError;

/// Rows of the sum that a task adds to; a constant, so that sums do not depend on threads.
const PANEL: usize = 64;
/// Inputs that are multiplied in single precision before they are added in double.
const INPUTS: usize = 256;

/// `Σ x xᵀ` over inputs `x`, in double precision: the lower triangle, row after row.
#[derive(Debug, Clone)]
pub struct Hessian {
    columns: usize,
    sum: Vec<f64>,
    inputs: u64,
}

impl Hessian {
    /// The sum over no inputs.
    pub fn new(columns: usize) -> Self {
        Self { columns, sum: vec![0.0; columns * columns], inputs: 0 }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of inputs.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// `H[i, j]`.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.sum[i.max(j) * self.columns + i.min(j)]
    }

    /// The diagonal.
    pub fn diagonal(&self) -> Vec<f64> {
        (0..self.columns).map(|j| self.at(j, j)).collect()
    }

    /// Adds inputs, one after the other.
    ///
    /// # Errors
    /// [`GridError::Size`] for a number of values that is no whole number of inputs.
    pub fn add(&mut self, inputs: &[f32]) -> Result<(), GridError> {
        let n = self.columns;
        if !inputs.len().is_multiple_of(n.max(1)) {
            let expected = inputs.len().next_multiple_of(n.max(1));
            return Err(GridError::Size {
                what: "values of inputs",
                expected,
                found: inputs.len(),
            });
        }
        for inputs in inputs.chunks(INPUTS * n.max(1)) {
            let count = inputs.len() / n;
            let x = MatRef::from_row_major_slice(inputs, count, n);
            self.sum.par_chunks_mut(PANEL * n).enumerate().for_each(|(panel, sum)| {
                let first = panel * PANEL;
                let rows = sum.len() / n;
                let width = first + rows;
                let mut product = vec![0.0_f32; rows * width];
                matmul(
                    MatMut::from_row_major_slice_mut(&mut product, rows, width),
                    Accum::Replace,
                    x.subcols(first, rows).transpose(),
                    x.subcols(0, width),
                    1.0,
                    Par::Seq,
                );
                for (r, (sum, product)) in
                    sum.chunks_exact_mut(n).zip(product.chunks_exact(width)).enumerate()
                {
                    for (sum, &x) in sum.iter_mut().zip(&product[..=first + r]) {
                        *sum += f64::from(x);
                    }
                }
            });
            self.inputs += count as u64;
        }
        Ok(())
    }

    /// Refuses moments that are not finite.
    ///
    /// # Errors
    /// [`GridError::Moment`].
    pub fn check(&self) -> Result<(), GridError> {
        // An input that is not finite makes its own square so.
        let wrong = self.diagonal().into_iter().enumerate().find(|(_, d)| !d.is_finite());
        wrong.map_or(Ok(()), |(column, value)| Err(GridError::Moment { column, value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::factor::tests::inputs;

    #[test]
    fn moments_are_the_sums_of_products() {
        let (n, count) = (70, 300);
        let x = inputs(count, n, 1);
        let mut hessian = Hessian::new(n);
        for part in x.chunks(n * 77) {
            hessian.add(part).unwrap();
        }
        assert_eq!(hessian.inputs(), count as u64);
        for (i, j) in [(0, 0), (3, 69), (69, 3), (64, 63), (69, 69)] {
            let expected: f64 = x.chunks(n).map(|x| f64::from(x[i]) * f64::from(x[j])).sum();
            assert!((hessian.at(i, j) - expected).abs() < 1e-4 * count as f64, "{i} {j}");
        }
        assert!(hessian.add(&x[..=n]).is_err());
    }

    #[test]
    fn moments_do_not_depend_on_the_number_of_threads() {
        let x = inputs(500, 200, 2);
        let sum = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut hessian = Hessian::new(200);
            pool.install(|| hessian.add(&x)).unwrap();
            hessian.sum
        };
        assert_eq!(sum(1), sum(3));
    }

    #[test]
    fn an_input_that_is_not_finite_is_found() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut hessian = Hessian::new(3);
            hessian.add(&[1.0, 2.0, 3.0, 1.0, bad, 0.0]).unwrap();
            let error = hessian.check().unwrap_err();
            assert!(matches!(error, GridError::Moment { column: 1, .. }), "{error}");
        }
    }
}
