//! Newton's method for the multipliers of several budgets.

use super::{Manifold, Role};

/// Newton steps after which the nested search takes over.
const STEPS: usize = 60;
/// Evaluations of one line search.
const LINE_EVALUATIONS: usize = 40;
/// A line search ends where the slope has fallen to this share.
const LINE_SLOPE: f64 = 0.25;

impl Manifold {
    /// Minimises the potential over the multipliers, from those in the workspace (which
    /// has to be evaluated there). Multipliers of inequalities stay at or below 0.
    /// Returns whether the budgets are met.
    pub(super) fn newton(&mut self, logits: &[f64], evaluations: &mut usize) -> bool {
        for _ in 0..STEPS {
            if self.is_met(1.0) {
                return true;
            }
            let descent = self.newton_step();
            if descent >= 0.0 || descent.is_nan() || !self.search_line(logits, descent, evaluations)
            {
                break;
            }
        }
        // Rounding may keep the residual above what is aimed at; a factor of ten from
        // there is still far inside of what is allowed.
        self.is_met(10.0)
    }

    /// Writes the Newton step for the free multipliers; returns the slope along it.
    fn newton_step(&mut self) -> f64 {
        let resources = self.budgets.len();
        self.work.free.clear();
        for at in 0..self.work.axes.len() {
            let r = self.work.axes[at];
            let resting = self.work.roles[r] == Role::Limit
                && self.work.lambda[r] >= 0.0
                && self.gap(r) <= 0.0;
            if !resting {
                self.work.free.push(r);
            }
        }
        loop {
            let count = self.work.free.len();
            for i in 0..count {
                let r = self.work.free[i];
                self.work.step[i] = -self.gap(r);
                for j in 0..count {
                    let s = self.work.free[j];
                    self.work.matrix[i * resources + j] = self.work.hessian[r * resources + s];
                }
            }
            let work = &mut self.work;
            solve(&mut work.matrix, resources, &mut work.step[..count]);
            // A multiplier at its bound must not leave through it.
            let blocked = (0..count).find(|&i| {
                let r = work.free[i];
                work.roles[r] == Role::Limit && work.lambda[r] >= 0.0 && work.step[i] > 0.0
            });
            match blocked {
                Some(i) => {
                    work.free.remove(i);
                }
                None => break,
            }
        }
        (0..self.work.free.len()).map(|i| self.work.step[i] * self.gap(self.work.free[i])).sum()
    }

    /// Looks along the step for a point where the slope of the potential has fallen
    /// enough. Slopes are exact where values of the potential have no digits left.
    fn search_line(&mut self, logits: &[f64], descent: f64, evaluations: &mut usize) -> bool {
        self.work.origin.copy_from_slice(&self.work.lambda);
        let mut longest = f64::INFINITY;
        for (i, &r) in self.work.free.iter().enumerate() {
            if self.work.roles[r] == Role::Limit && self.work.step[i] > 0.0 {
                longest = longest.min(-self.work.lambda[r] / self.work.step[i]);
            }
        }
        let (mut low, mut high) = (0.0_f64, f64::INFINITY);
        let (mut slope_low, mut slope_high) = (descent, f64::INFINITY);
        let mut length = longest.min(1.0);
        for _ in 0..LINE_EVALUATIONS {
            for (i, &r) in self.work.free.iter().enumerate() {
                let moved = self.work.origin[r] + length * self.work.step[i];
                let bounded = self.work.roles[r] == Role::Limit;
                self.work.lambda[r] = if bounded { moved.min(0.0) } else { moved };
            }
            self.moments(logits);
            *evaluations += 1;
            let free = &self.work.free;
            let slope: f64 = (0..free.len()).map(|i| self.work.step[i] * self.gap(free[i])).sum();
            let done = slope.abs() <= LINE_SLOPE * descent.abs();
            if done || (slope < 0.0 && length >= longest) {
                return true;
            }
            if slope < 0.0 {
                (low, slope_low) = (length, slope);
            } else {
                (high, slope_high) = (length, slope);
            }
            length = if high.is_infinite() {
                (4.0 * length).min(longest)
            } else {
                // Secant, kept away from the ends of the bracket.
                let secant = low + (high - low) * slope_low / (slope_low - slope_high);
                let margin = 0.1 * (high - low);
                if low == 0.0 && high > 1e-3 && slope_high > 1e3 * descent.abs() {
                    0.1 * high
                } else {
                    secant.clamp(low + margin, high - margin)
                }
            };
            if high - low <= f64::EPSILON * high {
                break;
            }
        }
        false
    }
}

/// Solves a symmetric positive semidefinite system in place by its `L D Lᵀ` factors.
///
/// A row that depends on earlier ones (two budgets that always move alike) gets 0; a
/// row of zeros (a budget that nothing moves at present) keeps its right-hand side.
pub(super) fn solve(matrix: &mut [f64], stride: usize, rhs: &mut [f64]) {
    /// Pivots below this share of the diagonal are rounding errors.
    const DEPENDENT: f64 = 1e-13;
    let n = rhs.len();
    for i in 0..n {
        let diagonal = matrix[i * stride + i];
        let mut pivot = diagonal;
        for j in 0..i {
            let factor = matrix[i * stride + j];
            if factor != 0.0 {
                pivot -= factor * factor * matrix[j * stride + j];
            }
        }
        let dependent = diagonal > 0.0 && pivot <= DEPENDENT * diagonal;
        // An infinite pivot makes the unknown 0 and takes it out of all other rows.
        matrix[i * stride + i] = match diagonal > 0.0 {
            true if dependent => f64::INFINITY,
            true => pivot,
            false => 1.0,
        };
        for k in i + 1..n {
            let mut entry = matrix[k * stride + i];
            for j in 0..i {
                let pair = matrix[k * stride + j] * matrix[i * stride + j];
                if pair != 0.0 {
                    entry -= pair * matrix[j * stride + j];
                }
            }
            matrix[k * stride + i] = if dependent { 0.0 } else { entry / matrix[i * stride + i] };
        }
    }
    for i in 0..n {
        for j in 0..i {
            rhs[i] -= matrix[i * stride + j] * rhs[j];
        }
    }
    for i in 0..n {
        rhs[i] /= matrix[i * stride + i];
    }
    for i in (0..n).rev() {
        for j in i + 1..n {
            rhs[i] -= matrix[j * stride + i] * rhs[j];
        }
    }
}
