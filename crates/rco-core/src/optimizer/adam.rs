//! Adam.

use serde::{Deserialize, Serialize};

/// Moments of Adam (Kingma and Ba 2015, Algorithm 1), bias-corrected.
///
/// The first moment is a vector of the tangent space: whoever moves the point
/// transports it. The second moment is a scale per coordinate and stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// First moment.
    pub first: Vec<f64>,
    /// Second moment.
    pub second: Vec<f64>,
    /// Number of updates so far.
    pub updates: u64,
}

/// Constants of [`Adam`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamSettings {
    /// Decay of the first moment; default 0.9.
    pub beta1: f64,
    /// Decay of the second moment; default 0.999.
    pub beta2: f64,
    /// Added to the root of the second moment, relative to its largest entry, so that
    /// the direction does not depend on the scale of the loss; default 1e-8.
    pub epsilon: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Adam {
    /// Moments of zero.
    pub fn new(dimension: usize) -> Self {
        Self { first: vec![0.0; dimension], second: vec![0.0; dimension], updates: 0 }
    }

    /// Takes up a gradient and writes the direction of ascent `m̂ / (√v̂ + ε max √v̂)`.
    ///
    /// # Panics
    /// If `gradient` or `direction` does not have the dimension of the moments.
    pub fn update(&mut self, settings: &AdamSettings, gradient: &[f64], direction: &mut [f64]) {
        assert_eq!(gradient.len(), self.first.len());
        assert_eq!(direction.len(), self.first.len());
        self.updates += 1;
        let AdamSettings { beta1, beta2, epsilon } = *settings;
        let mut largest = 0.0_f64;
        for ((m, v), g) in self.first.iter_mut().zip(&mut self.second).zip(gradient) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            largest = largest.max(*v);
        }
        let updates = self.updates as f64;
        let first = 1.0 / (1.0 - beta1.powf(updates));
        let second = 1.0 / (1.0 - beta2.powf(updates));
        let floor = epsilon * (largest * second).sqrt();
        for ((d, m), v) in direction.iter_mut().zip(&self.first).zip(&self.second) {
            let scale = (v * second).sqrt() + floor;
            *d = if scale > 0.0 { m * first / scale } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_direction_is_the_sign_of_the_gradient() {
        let mut adam = Adam::new(3);
        let mut direction = [0.0; 3];
        adam.update(&AdamSettings::default(), &[4.0, -0.25, 0.0], &mut direction);
        assert!((direction[0] - 1.0).abs() < 1e-6);
        assert!((direction[1] + 1.0).abs() < 1e-6);
        assert_eq!(direction[2], 0.0);
    }

    #[test]
    fn follows_the_published_recursion() {
        let settings = AdamSettings { epsilon: 0.0, ..AdamSettings::default() };
        let gradients = [1.0, -0.5, 2.0];
        let mut adam = Adam::new(1);
        let (mut m, mut v) = (0.0_f64, 0.0_f64);
        for (t, g) in (1..).zip(gradients) {
            let mut direction = [0.0];
            adam.update(&settings, &[g], &mut direction);
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let expected = (m / (1.0 - 0.9_f64.powi(t))) / (v / (1.0 - 0.999_f64.powi(t))).sqrt();
            assert!((direction[0] - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn the_direction_does_not_depend_on_the_scale_of_the_loss() {
        let (mut a, mut b) = (Adam::new(2), Adam::new(2));
        let (mut da, mut db) = ([0.0; 2], [0.0; 2]);
        let scale = 2.0_f64.powi(-40);
        for g in [[1.0, 1e-6], [0.5, -3e-6], [-2.0, 1e-7]] {
            a.update(&AdamSettings::default(), &g, &mut da);
            b.update(&AdamSettings::default(), &g.map(|x| x * scale), &mut db);
        }
        assert_eq!(da, db);
    }
}
