//! The scales of one matrix on their way.

use std::sync::Arc;

use rco_model::weights::PackedMatrix;
use rco_model::{ModelError, WeightKey};

/// Decay of Adam's moments.
const DECAY: [f32; 2] = [0.9, 0.99];
/// No scale becomes smaller than this share of what it was.
const LEAST: f32 = 0.1;

/// The scales of a matrix as multiples of those that its rounding has chosen, with the moments of
/// Adam (Kingma and Ba 2015, Algorithm 1): three numbers for each group.
#[derive(Debug, Clone)]
pub(super) struct MatrixScales {
    pub(super) key: WeightKey,
    pub(super) matrix: PackedMatrix,
    pub(super) factors: Vec<f32>,
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    /// Gradients so far: an expert may have been without tokens.
    pub(super) updates: u32,
}

impl MatrixScales {
    pub(super) fn new(key: WeightKey, matrix: PackedMatrix) -> Self {
        let groups = matrix.groups();
        let (factors, zeros) = (vec![1.0; groups], vec![0.0; groups]);
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

    /// The matrix with these scales, rounded to its floats.
    pub(super) fn tuned(&self) -> Result<PackedMatrix, ModelError> {
        let mut scales = self.matrix.read_scales()?;
        scales.iter_mut().zip(&self.factors).for_each(|(scale, factor)| *scale *= factor);
        let mut bytes = Vec::with_capacity(scales.len() * 4);
        self.matrix.float().narrow(&scales, &mut bytes);
        self.matrix.with_scales(Arc::new(bytes))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rco_formats::compressed_tensors::Scheme;
    use rco_formats::safetensors::Dtype;
    use rco_formats::source::ReadAt;
    use rco_model::WeightKind;

    /// A matrix of 2 rows and 2 groups of 32 columns, all codes alike.
    pub(in super::super) fn matrix(name: &str, scales: [f32; 4]) -> MatrixScales {
        let scheme: Scheme = "4g32".parse().unwrap();
        let parts = scheme.tensors(2, 64, Dtype::Bf16).unwrap();
        let part = |wanted| -> Option<Arc<dyn ReadAt>> {
            let (_, dtype, shape) = parts.iter().find(|(part, ..)| *part == wanted)?;
            let mut bytes = Vec::new();
            if *dtype == Dtype::Bf16 {
                rco_model::weights::FloatType::Bf16.narrow(&scales, &mut bytes);
            } else {
                bytes = vec![0xcc; 4 * shape.iter().product::<u64>() as usize];
            }
            Some(Arc::new(bytes))
        };
        let matrix = PackedMatrix::new(name, scheme, [2, 64], Dtype::Bf16, part).unwrap();
        MatrixScales::new(WeightKey::block(0, WeightKind::Query), matrix)
    }

    #[test]
    fn scales_go_down_the_gradient_whatever_their_sign_and_codes_stay() {
        let mut scales = matrix("m", [1.0, -2.0, 0.5, 4.0]);
        let before = scales.matrix.clone();
        for _ in 0..40 {
            scales.update(&[3.0, 1e-9, 0.0, -1e6], 0.01);
        }
        let found = scales.tuned().unwrap().read_scales().unwrap();
        let steps = 0.99_f32.powi(40);
        let near = |x: f32, y: f32| (x / y - 1.0).abs() < 0.01;
        // A gradient that never changes moves by the rate, however large it is.
        assert!(near(found[0], steps) && near(found[1], -2.0 * steps), "{found:?}");
        assert_eq!(found[2], 0.5);
        assert!(near(found[3], 4.0 * 1.01_f32.powi(40)), "{found:?}");
        let values = |matrix: &PackedMatrix| {
            let mut values = vec![0.0; 128];
            matrix.read_rows(0, &mut values).unwrap();
            values
        };
        let (old, new) = (values(&before), values(&scales.tuned().unwrap()));
        for (n, (old, new)) in old.iter().zip(&new).enumerate() {
            let scale = [1.0, -2.0, 0.5, 4.0][n / 32];
            assert!((old / scale - new / found[n / 32]).abs() < 0.01 * (old / scale).abs());
        }
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
