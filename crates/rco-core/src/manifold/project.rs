//! Projection onto the tangent space.

use super::Manifold;
use super::normal::{dot, normal};

/// Normals whose part outside of the span of the others is smaller than this, relative
/// to their length, count as dependent: the projection onto the others covers them.
const DEPENDENT: f64 = 1e-8;
/// Normals with no entry above this have vanished: every decision is decided as far
/// as numbers can tell.
const VANISHED: f64 = 1e-290;

/// What a projection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// Number of independent active normals that were projected out.
    pub rank: usize,
    /// Active budgets whose normal vanished or depends on the others.
    pub degenerate: usize,
    /// Decisions with one probability above [`super::DECIDED`].
    pub decided: usize,
}

impl Manifold {
    /// Projects `v` in place onto the space orthogonal to the normals of the `active`
    /// budgets: `v − Nᵀ (N Nᵀ)⁻¹ N v`. The multipliers `(N Nᵀ)⁻¹ N v` are then
    /// available from [`Manifold::multiplier`].
    ///
    /// Normals are scaled to length one before they are used, so that nearly decided
    /// points, where they vanish, lose no precision. A normal that vanished altogether
    /// or that depends on the others is skipped and counted. Vacuous budgets are
    /// never active.
    ///
    /// # Panics
    /// If `probs` or `v` does not have [`Manifold::dimension`] entries, or `active` not
    /// one for each resource.
    pub fn project(&mut self, probs: &[f64], active: &[bool], v: &mut [f64]) -> Projection {
        assert_eq!(v.len(), self.dimension(), "one entry per option");
        let mut out = self.span_normals(probs, active);
        out.decided = self.decided(probs);
        self.remove_span(v);
        out
    }

    /// Lagrange multiplier of a budget at the last projection of a vector `v`: the
    /// coefficient of its normal in `v`, per unit of cost. If `v` is the gradient of a
    /// loss it is the loss gained or lost per unit of budget, with the sign of
    /// `∂loss / ∂B`: negative where more budget helps. 0 for inactive budgets.
    pub fn multiplier(&self, resource: usize) -> f64 {
        self.work.multipliers[resource]
    }

    /// Fills `basis` with an orthonormal basis of the active normals by modified
    /// Gram-Schmidt with reorthogonalisation, and `triangle` with the coefficients.
    fn span_normals(&mut self, probs: &[f64], active: &[bool]) -> Projection {
        assert_eq!(probs.len(), self.dimension(), "one probability per option");
        assert_eq!(active.len(), self.resource_count(), "one flag per resource");
        let resources = self.budgets.len();
        let work = &mut self.work;
        work.free.clear();
        work.triangle.fill(0.0);
        let mut degenerate = 0;
        for (r, bound) in self.budgets.iter().enumerate() {
            if !active[r] || bound.is_vacuous() {
                continue;
            }
            let (done, rest) = work.basis.split_at_mut(r);
            let own = &mut rest[0];
            normal(&self.offsets, &self.relative[r], probs, own);
            let largest = own.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
            if largest <= VANISHED {
                degenerate += 1;
                continue;
            }
            // Two factors: the square of a tiny normal would underflow.
            scale(own, 1.0 / largest);
            let length = dot(own, own).sqrt();
            scale(own, 1.0 / length);
            for _ in 0..2 {
                for &s in &work.free {
                    let along = dot(&done[s], own);
                    work.triangle[r * resources + s] += along;
                    for (x, q) in own.iter_mut().zip(&done[s]) {
                        *x -= along * q;
                    }
                }
            }
            let left = dot(own, own).sqrt();
            if left < DEPENDENT {
                degenerate += 1;
                continue;
            }
            scale(own, 1.0 / left);
            let unit = largest * length;
            for &s in &work.free {
                work.triangle[r * resources + s] *= unit;
            }
            work.triangle[r * resources + r] = left * unit;
            work.free.push(r);
        }
        Projection { rank: work.free.len(), degenerate, decided: 0 }
    }

    /// Removes the part of `v` in the span found by [`Manifold::span_normals`] and
    /// solves for the multipliers.
    fn remove_span(&mut self, v: &mut [f64]) {
        let resources = self.budgets.len();
        let work = &mut self.work;
        work.multipliers.fill(0.0);
        for &r in &work.free {
            let q = &work.basis[r];
            let along = dot(q, v);
            work.multipliers[r] = along;
            for (x, q) in v.iter_mut().zip(q) {
                *x -= along * q;
            }
        }
        // n_r = Σ_{s ≤ r} T_rs q_s, and v = Σ_s a_s q_s: solve Tᵀ μ = a from the end.
        for at in (0..work.free.len()).rev() {
            let r = work.free[at];
            let mut a = work.multipliers[r];
            for &later in &work.free[at + 1..] {
                a -= work.triangle[later * resources + r] * work.multipliers[later];
            }
            work.multipliers[r] = a / work.triangle[r * resources + r];
        }
        for &r in &work.free {
            work.multipliers[r] /= self.budgets[r].unit;
        }
    }
}

fn scale(v: &mut [f64], factor: f64) {
    for x in v {
        *x *= factor;
    }
}
