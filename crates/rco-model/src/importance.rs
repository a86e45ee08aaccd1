//! Importance matrices: the mean squared input of every column, as llama.cpp makes them.

use std::collections::HashMap;

use rco_formats::imatrix::{Imatrix, ImatrixEntry};

use crate::block::{InputVisitor, LayerInput};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::key::WeightKey;
use crate::weights::GgufWeights;

/// Adds up the squared inputs of every matrix over many batches, in f64.
///
/// Entries are named by GGUF tensor; that of a stack has the sums of its experts one after
/// the other, each with the number of tokens that were routed to it. Beyond what llama.cpp
/// does by default there is an entry for the output matrix; if the head is tied, it is that
/// of `token_embd.weight`.
#[derive(Debug, Clone, Default)]
pub struct Importance {
    sums: Vec<Sums>,
    /// Position in `sums` of every matrix; several share one.
    index: HashMap<WeightKey, usize>,
}

#[derive(Debug, Clone)]
struct Sums {
    squares: Vec<f64>,
    rows: u64,
}

impl InputVisitor for Importance {
    fn visit(&mut self, input: &LayerInput<'_>) -> Result<(), ModelError> {
        let Some(first) = input.keys.first() else { return Ok(()) };
        let squares = input.column_squares()?;
        let rows = input.rows() as u64;
        if let Some(&at) = self.index.get(first) {
            let sums = &mut self.sums[at];
            if sums.squares.len() != squares.len() {
                return Err(ModelError::WrongShape {
                    name: first.to_string(),
                    expected: vec![sums.squares.len()],
                    found: vec![squares.len()],
                });
            }
            sums.rows += rows;
            for (sum, x) in sums.squares.iter_mut().zip(squares) {
                *sum += x;
            }
        } else {
            self.index.extend(input.keys.iter().map(|&key| (key, self.sums.len())));
            self.sums.push(Sums { squares, rows });
        }
        Ok(())
    }
}

impl Importance {
    /// The matrix for a model of `config`, which is the one whose inputs were visited.
    /// `datasets` names the texts, `chunks` and `chunk_size` count them: windows and tokens
    /// in each.
    ///
    /// # Errors
    /// [`ModelError::Imatrix`] if nothing was visited or an activation was not finite.
    pub fn imatrix(
        &self,
        config: &ModelConfig,
        datasets: Vec<String>,
        chunks: u32,
        chunk_size: u32,
    ) -> Result<Imatrix, ModelError> {
        // Each tensor and its matrices, in order.
        let mut tensors: Vec<(String, Vec<(WeightKey, usize)>)> = Vec::new();
        for (key, shape) in config.weights() {
            let (name, _) = GgufWeights::tensor_name(key);
            let &[_, columns] = &shape[..] else { continue };
            // The three stacks of a block take turns.
            match tensors.iter_mut().rev().take(3).find(|(other, _)| *other == name) {
                Some((_, keys)) => keys.push((key, columns)),
                None => tensors.push((name, vec![(key, columns)])),
            }
        }
        let mut entries = Vec::new();
        for (name, keys) in tensors {
            // The embedding of a model with a head of its own has no input.
            if keys.iter().all(|(key, _)| !self.index.contains_key(key)) {
                continue;
            }
            let (mut sums, mut counts) = (Vec::new(), Vec::new());
            for (key, columns) in keys {
                let found = self.index.get(&key).map(|&at| &self.sums[at]);
                match found {
                    Some(found) => sums.extend(found.squares.iter().map(|&x| x as f32)),
                    None => sums.resize(sums.len() + columns, 0.0),
                }
                counts.push(found.map_or(0.0, |found| found.rows as f32));
            }
            entries.push(ImatrixEntry::new(name, sums, counts)?);
        }
        let mut imatrix = Imatrix::new(entries)?;
        imatrix.datasets = datasets;
        imatrix.chunk_count = Some(chunks);
        imatrix.chunk_size = Some(chunk_size);
        Ok(imatrix)
    }

    /// Sums of the squared inputs of every column of a matrix; `None` for one that was never
    /// visited.
    pub fn squares(&self, key: WeightKey) -> Option<&[f64]> {
        self.index.get(&key).map(|&at| &self.sums[at].squares[..])
    }

    /// Number of tokens that a matrix has seen; `None` for one that was never visited.
    pub fn tokens(&self, key: WeightKey) -> Option<u64> {
        self.index.get(&key).map(|&at| self.sums[at].rows)
    }
}
