//! Which weights of a row go: those of the smallest product of their size and the norm of the
//! activation that they meet (Wanda, arXiv 2306.11695, equation 1, compared within a row).

use std::collections::HashMap;
use std::sync::Arc;

use rco_model::importance::Importance;
use rco_model::weights::WeightSource;
use rco_model::{ModelError, WeightKey};

use super::levels::{Levels, Matrix};

/// Norms of the activations of every column of every matrix.
#[derive(Debug, Clone)]
pub struct Norms {
    of: HashMap<WeightKey, Arc<[f32]>>,
}

impl Norms {
    /// The norms of what `importance` has seen. Columns of a matrix that has seen nothing, such
    /// as those of an expert without tokens, count alike.
    pub fn new(importance: &Importance, matrices: &[Matrix]) -> Self {
        let of = |m: &Matrix| {
            let norms: Arc<[f32]> = match importance.squares(m.key) {
                Some(squares) if squares.iter().any(|&x| x > 0.0) => {
                    squares.iter().map(|x| x.sqrt() as f32).collect()
                }
                _ => vec![1.0; m.columns].into(),
            };
            (m.key, norms)
        };
        Self { of: matrices.iter().map(of).collect() }
    }

    fn get(&self, key: WeightKey) -> Option<&[f32]> {
        self.of.get(&key).map(|norms| &norms[..])
    }
}

/// What a weight is worth.
fn worth(weight: f32, norm: f32) -> f32 {
    weight.abs() * norm
}

/// Sets the `drop` values of a row that are worth least to zero; of equal ones the first go.
///
/// Worths are never below 0, so that their bits rise with them: with the place in the lower half
/// of a key, whole numbers are compared, which is several times faster than looking worths up.
fn mask_row(row: &mut [f32], norms: &[f32], drop: usize, keys: &mut Vec<u64>) {
    if drop == 0 {
        return;
    }
    keys.clear();
    let worths = row.iter().zip(norms).map(|(&weight, &norm)| worth(weight, norm).to_bits());
    keys.extend((0_u64..).zip(worths).map(|(place, worth)| (u64::from(worth) << 32) | place));
    if drop < keys.len() {
        keys.select_nth_unstable(drop - 1);
    }
    for key in keys.iter().take(drop) {
        row[(key & u64::from(u32::MAX)) as usize] = 0.0;
    }
}

/// Worth squared of the weights that each level takes from a matrix: the error of its outputs
/// on the text, as far as columns do not depend on each other.
///
/// # Errors
/// A failed read.
pub fn errors(
    source: &dyn WeightSource,
    norms: &Norms,
    levels: &Levels,
    m: &Matrix,
) -> Result<Vec<f64>, ModelError> {
    let weights = source.load(m.key)?;
    let mut out = vec![0.0; levels.count()];
    let Some(norms) = norms.get(m.key) else { return Ok(out) };
    for row in weights.values.chunks(m.columns.max(1)) {
        let mut worths: Vec<f32> = row.iter().zip(norms).map(|(&w, &n)| worth(w, n)).collect();
        worths.sort_unstable_by(f32::total_cmp);
        let (mut done, mut sum) = (0, 0.0);
        for (level, out) in out.iter_mut().enumerate() {
            let drop = levels.drops(level, m.columns);
            sum += worths[done..drop].iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            done = drop;
            *out += sum;
        }
    }
    Ok(out)
}

/// Weights of which every matrix has lost the same share of each row.
#[derive(Clone)]
pub struct Masked {
    source: Arc<dyn WeightSource>,
    norms: Arc<Norms>,
    levels: Arc<Levels>,
    level: usize,
}

impl Masked {
    /// The weights of `source` at a level.
    pub fn new(
        source: Arc<dyn WeightSource>,
        norms: Arc<Norms>,
        levels: Arc<Levels>,
        level: usize,
    ) -> Self {
        Self { source, norms, levels, level }
    }
}

impl WeightSource for Masked {
    fn name(&self, key: WeightKey) -> String {
        self.source.name(key)
    }

    fn shape(&self, key: WeightKey) -> Option<Vec<usize>> {
        self.source.shape(key)
    }

    fn read_rows(&self, key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.source.read_rows(key, first, out)?;
        let Some(norms) = self.norms.get(key) else { return Ok(()) };
        let drop = self.levels.drops(self.level, norms.len());
        let mut keys = Vec::with_capacity(norms.len());
        for row in out.chunks_exact_mut(norms.len().max(1)) {
            mask_row(row, norms, drop, &mut keys);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::mask_row;

    #[test]
    fn the_weights_worth_least_go_and_of_equal_ones_the_first() {
        let (norms, mut keys) = ([1.0, 10.0, 1.0, 1.0], Vec::new());
        let of = |drop, keys: &mut Vec<u64>| {
            let mut row = [-3.0, 0.5, 2.0, -2.0];
            mask_row(&mut row, &norms, drop, keys);
            row
        };
        assert_eq!(of(0, &mut keys), [-3.0, 0.5, 2.0, -2.0]);
        assert_eq!(of(1, &mut keys), [-3.0, 0.5, 0.0, -2.0]);
        assert_eq!(of(2, &mut keys), [-3.0, 0.5, 0.0, 0.0]);
        assert_eq!(of(3, &mut keys), [0.0, 0.5, 0.0, 0.0]);
        assert_eq!(of(4, &mut keys), [0.0; 4]);
    }
}
