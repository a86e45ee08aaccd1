//! Token sequences.

use crate::error::ModelError;

/// Sequences of one length. Row `s · len + t` of every matrix over tokens belongs to
/// token `t` of sequence `s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    tokens: Vec<u32>,
    sequences: usize,
    len: usize,
}

impl Batch {
    /// Joins sequences.
    ///
    /// # Errors
    /// [`ModelError::BadBatch`] if there is none, or the lengths differ or are 0.
    pub fn new<T: AsRef<[u32]>>(sequences: &[T]) -> Result<Self, ModelError> {
        let len = sequences.first().map_or(0, |s| s.as_ref().len());
        if len == 0 || sequences.iter().any(|s| s.as_ref().len() != len) {
            let found = sequences.iter().take(8).map(|s| s.as_ref().len()).collect();
            return Err(ModelError::BadBatch { found });
        }
        let tokens = sequences.iter().flat_map(|s| s.as_ref().iter().copied()).collect();
        Ok(Self { tokens, sequences: sequences.len(), len })
    }

    /// All tokens, sequence after sequence.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Tokens of each sequence.
    pub fn sequence_len(&self) -> usize {
        self.len
    }

    /// Number of tokens in all sequences.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// The token that follows each token; `None` at the end of a sequence.
    pub fn next_tokens(&self) -> Vec<Option<u32>> {
        self.tokens
            .chunks(self.len)
            .flat_map(|s| s.iter().skip(1).map(|&t| Some(t)).chain(std::iter::once(None)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;
    use crate::error::ModelError;

    #[test]
    fn the_last_token_of_a_sequence_has_no_successor() {
        let batch = Batch::new(&[[1, 2, 3], [4, 5, 6]]).unwrap();
        assert_eq!(batch.next_tokens(), [Some(2), Some(3), None, Some(5), Some(6), None]);
    }

    #[test]
    fn ragged_and_empty_batches_are_refused() {
        for bad in [vec![], vec![vec![]], vec![vec![1, 2], vec![3]]] {
            assert!(matches!(Batch::new::<Vec<u32>>(&bad), Err(ModelError::BadBatch { .. })));
        }
    }
}
