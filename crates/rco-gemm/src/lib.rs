//! Products of matrices in f32 on the CPU, by the kernels of the `gemm` crate.
//!
//! The tensor library calls the same kernels, but fills the result with zeros first, on one
//! thread, and cannot add to a result that is there. Zeroing was a twelfth of the time of a
//! gradient of `SmolLM2` on two cores. The results are the same to the bit.
//!
//! ```
//! use rco_gemm::{Matrix, Threads, add_product, product};
//!
//! let a = Matrix::new(&[1.0, 2.0, 3.0, 4.0], 2, 2).unwrap();
//! let mut c = product(a, a.transposed()).unwrap();
//! assert_eq!(c, [5.0, 11.0, 11.0, 25.0]);
//! add_product(&mut c, a, a.transposed(), Threads::One).unwrap();
//! assert_eq!(c, [10.0, 22.0, 22.0, 50.0]);
//! ```

mod ffi;

use std::fmt;

/// A matrix, or its transpose, whose values lie row after row.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Distance from a value to the one below it, and to the one right of it.
    down: usize,
    right: usize,
}

/// Who computes a product. The result is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The thread that asks: within tasks that run side by side.
    One,
    /// All threads of the current pool.
    All,
}

impl<'a> Matrix<'a> {
    /// A matrix from its values, row after row.
    ///
    /// # Errors
    /// [`ProductError::Length`] if there are not `rows · columns` values.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Result<Self, ProductError> {
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(ProductError::Length { rows, columns, found: values.len() });
        }
        Ok(Self { values, rows, columns, down: columns, right: 1 })
    }

    /// Some columns of a wider matrix: its rows begin `down` values apart, the first with the
    /// first value. What is behind the last row may be missing.
    ///
    /// # Errors
    /// [`ProductError::Length`] if the values end within a row or the rows overlap.
    pub fn strided(
        values: &'a [f32],
        rows: usize,
        columns: usize,
        down: usize,
    ) -> Result<Self, ProductError> {
        let wrong = ProductError::Length { rows, columns, found: values.len() };
        let before = rows.saturating_sub(1).checked_mul(down).ok_or(wrong)?;
        let needed = before.checked_add(columns).ok_or(wrong)?;
        if (rows > 0 && needed > values.len()) || columns > down {
            return Err(wrong);
        }
        Ok(Self { values, rows, columns, down, right: 1 })
    }

    /// The transpose, of the same values.
    #[must_use]
    pub fn transposed(self) -> Self {
        let Self { values, rows, columns, down, right } = self;
        Self { values, rows: columns, columns: rows, down: right, right: down }
    }
}

/// `a b`, row after row, by all threads.
///
/// # Errors
/// [`ProductError::Inner`] if `a` has not as many columns as `b` has rows.
pub fn product(a: Matrix<'_>, b: Matrix<'_>) -> Result<Vec<f32>, ProductError> {
    Ok(ffi::product(a, b, check(a, b)?))
}

/// Writes `a b` over `c [rows of a, columns of b]`.
///
/// # Errors
/// [`ProductError::Inner`] as for [`product`], [`ProductError::Length`] for another length
/// of `c`.
pub fn write_product(
    c: &mut [f32],
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) -> Result<(), ProductError> {
    check_target(c, a, b)?;
    ffi::write_product(c, false, a, b, threads);
    Ok(())
}

/// Adds `a b` to `c [rows of a, columns of b]`.
///
/// # Errors
/// As [`write_product`].
pub fn add_product(
    c: &mut [f32],
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) -> Result<(), ProductError> {
    check_target(c, a, b)?;
    ffi::write_product(c, true, a, b, threads);
    Ok(())
}

fn check_target(c: &[f32], a: Matrix<'_>, b: Matrix<'_>) -> Result<(), ProductError> {
    if check(a, b)? != c.len() {
        return Err(ProductError::Length { rows: a.rows, columns: b.columns, found: c.len() });
    }
    Ok(())
}

/// Values of the product.
fn check(a: Matrix<'_>, b: Matrix<'_>) -> Result<usize, ProductError> {
    if a.columns != b.rows {
        return Err(ProductError::Inner { left: a.columns, right: b.rows });
    }
    let (rows, columns) = (a.rows, b.columns);
    rows.checked_mul(columns).ok_or(ProductError::Length { rows, columns, found: 0 })
}

/// Shapes that do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProductError {
    /// Values of a matrix.
    Length {
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
        /// How many values there are.
        found: usize,
    },
    /// The dimension that is summed over.
    Inner {
        /// Columns of the left matrix.
        left: usize,
        /// Rows of the right one.
        right: usize,
    },
}

impl fmt::Display for ProductError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { rows, columns, found } => {
                write!(f, "a matrix of {rows} × {columns} with {found} values")
            }
            Self::Inner { left, right } => {
                write!(f, "a product of {left} columns with {right} rows")
            }
        }
    }
}

impl std::error::Error for ProductError {}
