//! What can go wrong between a matrix and its integers.

/// A matrix cannot be rounded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GridError {
    /// A weight that is not a finite number.
    #[error(
        "row {row}, column {column} is {value}: the model is damaged, and nothing sensible can \
         be made of it"
    )]
    Weight {
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// An input whose second moment is not a finite number.
    #[error(
        "the second moment of input {column} is {value}: an activation is not finite on the \
         calibration text; the model is damaged, or its 32-bit range does not suffice"
    )]
    Moment {
        /// The column.
        column: usize,
        /// The moment.
        value: f64,
    },
    /// The second moments have no triangular factor whatever is added to them.
    #[error(
        "the second moments of the inputs are not positive definite, even with {damping} times \
         their mean added: raise --damping"
    )]
    Indefinite {
        /// The share of the mean that was tried last.
        damping: f64,
    },
    /// Numbers of rows, columns and values that do not fit together.
    #[error("expected {expected} {what}, found {found}")]
    Size {
        /// What is counted.
        what: &'static str,
        /// The number required.
        expected: usize,
        /// The number found.
        found: usize,
    },
}
