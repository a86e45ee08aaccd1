//! The scales of one matrix on their way.

use std::sync::Arc;

use rco_model::weights::WeightSource;
use rco_model::{ModelError, WeightGradient, WeightKey};

use super::scaled::Scaled;

/// Decay of Adam's moments.
const DECAY: [f32; 2] = [0.9, 0.99];
/// No scale becomes smaller than this share of what it was.
const LEAST: f32 = 0.1;

/// The scales of a matrix as multiples of those that its rounding has chosen, with the moments of
/// Adam (Kingma and Ba 2015, Algorithm 1): three numbers for each.
#[derive(Debug)]
pub(crate) struct MatrixScales {
    pub(super) key: WeightKey,
    pub(super) matrix: Box<dyn Scaled>,
    pub(super) factors: Vec<f32>,
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    /// Gradients so far: an expert may have been without tokens.
    pub(super) updates: u32,
}

impl MatrixScales {
    /// The scales as they are.
    pub(crate) fn new(key: WeightKey, matrix: impl Scaled + 'static) -> Self {
        let scales = matrix.scales();
        let matrix = Box::new(matrix);
        let (factors, zeros) = (vec![1.0; scales], vec![0.0; scales]);
        Self { key, matrix, factors, first: zeros.clone(), second: zeros, updates: 0 }
    }

    /// Takes up the derivative by the logarithm of every scale and moves by at most about `rate`.
    pub(super) fn update(&mut self, gradient: &[f32], rate: f32) {
        self.updates += 1;
        let [b1, b2] = DECAY;
        let left = |b: f32| 1.0 - f64::from(b).powf(f64::from(self.updates));
        let (first, root) = (1.0 / left(b1) as f32, (1.0 / left(b2)).sqrt() as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((factor, (m, v)), g) in self.factors.iter_mut().zip(moments).zip(gradient) {
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            let scale = v.sqrt() * root;
            if scale > 0.0 {
                *factor = (*factor * (1.0 - rate * (*m * first) / scale)).max(LEAST);
            }
        }
    }

    /// Bytes of memory that a step takes for them: what is kept, and the factors once more for the
    /// matrix that they make.
    pub(crate) fn memory(&self) -> u64 {
        16 * self.factors.len() as u64
    }

    /// Takes up the gradient of the loss at the matrix.
    pub(super) fn visit(
        &mut self,
        gradient: &WeightGradient<'_>,
        rate: f64,
    ) -> Result<(), ModelError> {
        let slopes = self.matrix.slopes(&self.factors, gradient)?;
        self.update(&slopes, rate as f32);
        Ok(())
    }

    /// The matrix with these scales.
    pub(super) fn tuned(&self) -> Result<Arc<dyn WeightSource>, ModelError> {
        self.matrix.times(&self.factors)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rco_model::WeightKind;
    use rco_model::weights::{HostWeight, MemoryWeights};

    fn key() -> WeightKey {
        WeightKey::block(0, WeightKind::Query)
    }

    /// A matrix of 2 rows and 2 groups of 32 columns, whose values are its scales.
    #[derive(Debug)]
    struct Plain(&'static str, [f32; 4]);

    impl Scaled for Plain {
        fn name(&self) -> String {
            self.0.to_owned()
        }

        fn scales(&self) -> usize {
            4
        }

        fn bits(&self) -> f64 {
            1.0
        }

        fn times(&self, factors: &[f32]) -> Result<Arc<dyn WeightSource>, ModelError> {
            let scales = self.1.iter().zip(factors).map(|(x, f)| x * f);
            let values = scales.flat_map(|x| [x; 32]).collect();
            let mut weights = MemoryWeights::default();
            weights.insert(key(), HostWeight { shape: vec![2, 64], values })?;
            Ok(Arc::new(weights))
        }

        fn slopes(
            &self,
            _factors: &[f32],
            gradient: &WeightGradient<'_>,
        ) -> Result<Vec<f32>, ModelError> {
            gradient.group_products(32)
        }
    }

    pub(in super::super) fn matrix(name: &'static str, scales: [f32; 4]) -> MatrixScales {
        MatrixScales::new(key(), Plain(name, scales))
    }

    #[test]
    fn scales_go_down_the_gradient_whatever_their_sign() {
        let mut scales = matrix("m", [1.0, -2.0, 0.5, 4.0]);
        for _ in 0..40 {
            scales.update(&[3.0, 1e-9, 0.0, -1e6], 0.01);
        }
        let values = scales.tuned().unwrap().load(key()).unwrap().values;
        let found: Vec<f32> = values.chunks(32).map(|group| group[0]).collect();
        let steps = 0.99_f32.powi(40);
        let near = |x: f32, y: f32| (x / y - 1.0).abs() < 0.01;
        // A gradient that never changes moves by the rate, however large it is.
        assert!(near(found[0], steps) && near(found[1], -2.0 * steps), "{found:?}");
        assert_eq!(found[2], 0.5);
        assert!(near(found[3], 4.0 * 1.01_f32.powi(40)), "{found:?}");
    }

    #[test]
    fn no_scale_vanishes_or_turns() {
        let mut scales = matrix("m", [1.0; 4]);
        for _ in 0..10 {
            scales.update(&[1.0; 4], 0.9);
        }
        assert_eq!(scales.factors, [LEAST; 4]);
    }
}
