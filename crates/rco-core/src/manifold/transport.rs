//! Vector transport.

use super::Manifold;

impl Manifold {
    /// Carries a tangent vector (the first moment of Adam) to the point `probs`: its
    /// projection onto the tangent space there. Moments of second order are scales,
    /// not vectors, and stay as they are.
    ///
    /// # Panics
    /// As [`Manifold::project`].
    pub fn transport(&mut self, probs: &[f64], active: &[bool], momentum: &mut [f64]) {
        self.project(probs, active, momentum);
    }
}
