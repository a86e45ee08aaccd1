//! Hashes of the numbers that make an objective.

use sha2::{Digest, Sha256};

use crate::hash::hex;

/// Collects numbers; equal sequences give equal texts.
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    pub(super) fn new(kind: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(kind.as_bytes());
        Self(hash)
    }

    /// Adds a list: its length, then the bits of its numbers.
    pub(super) fn list(mut self, values: &[f64]) -> Self {
        self.0.update((values.len() as u64).to_le_bytes());
        for value in values {
            self.0.update(value.to_bits().to_le_bytes());
        }
        self
    }

    /// Adds indices.
    pub(super) fn indices(mut self, values: impl IntoIterator<Item = usize>) -> Self {
        for value in values {
            self.0.update((value as u64).to_le_bytes());
        }
        self
    }

    /// The hash in hexadecimal digits.
    pub(super) fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}
