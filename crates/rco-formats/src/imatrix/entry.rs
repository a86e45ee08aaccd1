//! Sums of squared activations of one tensor.

use super::error::ImatrixFault;

/// What the calibration saw at the input of one weight tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct ImatrixEntry {
    /// Name of the weight tensor.
    pub name: String,
    /// Sum over tokens of the squared input, one for each column of each matrix; the
    /// matrices (experts) of a stack follow each other.
    pub sums: Vec<f32>,
    /// Number of tokens, one for each matrix. Files of the old form have one count for
    /// the whole stack.
    pub counts: Vec<f32>,
}

impl ImatrixEntry {
    /// An entry, checked.
    ///
    /// # Errors
    /// [`ImatrixFault::BadEntry`] if the numbers of sums and counts do not fit, or if a
    /// number is negative or not finite.
    pub fn new(
        name: impl Into<String>,
        sums: Vec<f32>,
        counts: Vec<f32>,
    ) -> Result<Self, ImatrixFault> {
        let entry = Self { name: name.into(), sums, counts };
        let problem = if entry.counts.is_empty() || entry.sums.is_empty() {
            "has no values"
        } else if !entry.sums.len().is_multiple_of(entry.counts.len()) {
            "has sums that are no multiple of its counts"
        } else if entry.sums.iter().chain(&entry.counts).any(|v| !v.is_finite() || *v < 0.0) {
            "has a value that is negative or not finite"
        } else {
            return Ok(entry);
        };
        Err(ImatrixFault::BadEntry { name: entry.name, problem: problem.to_owned() })
    }

    /// Columns of each matrix, as far as the file tells them apart.
    pub fn columns(&self) -> usize {
        self.sums.len() / self.counts.len()
    }

    /// Mean squared activation of every column, in the order of the sums. A matrix that no
    /// token has reached gets ones, as llama.cpp does it: no column is favoured.
    pub fn mean_squares(&self) -> Vec<f32> {
        self.sums
            .chunks(self.columns())
            .zip(&self.counts)
            .flat_map(|(sums, &count)| {
                sums.iter().map(move |&sum| if count > 0.0 { sum / count } else { 1.0 })
            })
            .collect()
    }

    /// Share of the matrices that at least one token has reached.
    pub fn coverage(&self) -> f64 {
        let reached = self.counts.iter().filter(|&&count| count > 0.0).count();
        reached as f64 / self.counts.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_divide_each_matrix_by_its_own_count() {
        let entry = ImatrixEntry::new("t", vec![2.0, 4.0, 9.0, 3.0], vec![2.0, 3.0]).unwrap();
        assert_eq!(entry.mean_squares(), [1.0, 2.0, 3.0, 1.0]);
        assert_eq!(entry.coverage(), 1.0);
    }

    #[test]
    fn a_matrix_without_tokens_weighs_all_columns_alike() {
        let entry = ImatrixEntry::new("t", vec![2.0, 4.0, 0.0, 0.0], vec![2.0, 0.0]).unwrap();
        assert_eq!(entry.mean_squares(), [1.0, 2.0, 1.0, 1.0]);
        assert_eq!(entry.coverage(), 0.5);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        for (sums, counts) in [
            (vec![], vec![1.0]),
            (vec![1.0], vec![]),
            (vec![1.0; 3], vec![1.0; 2]),
            (vec![f32::NAN], vec![1.0]),
            (vec![-1.0], vec![1.0]),
            (vec![1.0], vec![f32::INFINITY]),
        ] {
            assert!(ImatrixEntry::new("t", sums, counts).is_err());
        }
    }
}
