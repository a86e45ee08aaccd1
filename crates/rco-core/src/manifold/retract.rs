//! Retraction: back onto the manifold along the direction of the budgets.

use super::{Manifold, ManifoldError, RESIDUAL, Role};
use crate::budget::BudgetKind;
use crate::relax::softmax;

/// Evaluations after which the search along one axis gives up.
const AXIS_EVALUATIONS: usize = 400;
/// Multipliers beyond this mean that a budget cannot be met.
const LAMBDA_LIMIT: f64 = 1e24;

/// What a retraction did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retraction {
    /// Evaluations of the expected costs.
    pub evaluations: usize,
    /// Largest relative residual: `|C − B| / B` of budgets that hold with equality,
    /// `(C − B) / B` of others, where positive. At most [`RESIDUAL`].
    pub residual: f64,
    /// Whether the point was where it should be, so that nothing moved.
    pub unchanged: bool,
}

impl Manifold {
    /// Moves `logits` to `α + Σ_r λ_r d_r` so that the budgets are met, and writes the
    /// probabilities there.
    ///
    /// Budgets that must be met exactly, and those flagged in `active`, are met with
    /// equality. Any other budget is met as an inequality: it moves the point only if it
    /// would be exceeded, with a multiplier `λ_r ≤ 0` (the Bregman projection onto
    /// `C_r ≤ B_r` where the direction is the cost). [`Manifold::is_tight`] tells which
    /// budgets hold with equality afterwards. Vacuous budgets are ignored.
    ///
    /// One budget: Newton with a bracket, bisection where Newton is slow. Several:
    /// Newton on the convex potential with a line search on its slope, and, if that
    /// stalls, the one-budget search nested (one budget inside the other), which does
    /// not depend on how the problem is conditioned.
    ///
    /// # Errors
    /// [`ManifoldError::Length`], [`ManifoldError::NotFinite`];
    /// [`ManifoldError::Unreachable`] if a budget flagged as active is above the largest
    /// total; [`ManifoldError::NotMet`] if no point meets all budgets at once. The
    /// logits are unchanged then.
    pub fn retract(
        &mut self,
        logits: &mut [f64],
        probs: &mut [f64],
        active: &[bool],
    ) -> Result<Retraction, ManifoldError> {
        self.check_point(logits, probs, active)?;
        self.prepare(active);
        self.moments(logits);
        let mut evaluations = 1;
        let unchanged = self.is_met(1.0);
        if !unchanged {
            let several = self.work.axes.len() > 1;
            if !(several && self.newton(logits, &mut evaluations)) {
                self.work.lambda.fill(0.0);
                self.solve_axes(logits, 0, &mut evaluations);
                if !self.is_met(1000.0) {
                    return Err(self.not_met());
                }
            }
            self.shift(logits);
        }
        softmax(&self.offsets, logits, probs);
        let residual = self.largest_residual(probs);
        if residual > RESIDUAL {
            return Err(self.not_met());
        }
        Ok(Retraction { evaluations, residual, unchanged })
    }

    /// Whether a budget holds with equality after the last retraction.
    pub fn is_tight(&self, resource: usize) -> bool {
        match self.work.roles[resource] {
            Role::Equal => true,
            Role::Limit => self.work.lambda[resource] < 0.0,
            Role::Free => false,
        }
    }

    /// Multiplier `λ_r` of the last retraction along the cost, per unit of cost; along
    /// the cost per weight it is multiplied by a typical size.
    pub fn shift_multiplier(&self, resource: usize) -> f64 {
        self.work.lambda[resource] / self.budgets[resource].unit
    }

    /// Sets multipliers to 0 and decides on the role of every budget.
    pub(super) fn prepare(&mut self, active: &[bool]) {
        let work = &mut self.work;
        work.lambda.fill(0.0);
        work.axes.clear();
        for (r, bound) in self.budgets.iter().enumerate() {
            work.roles[r] = if bound.is_vacuous() {
                Role::Free
            } else if active[r] || bound.kind == BudgetKind::Exactly {
                Role::Equal
            } else {
                Role::Limit
            };
            if work.roles[r] != Role::Free {
                work.axes.push(r);
            }
        }
    }

    fn check_point(
        &self,
        logits: &[f64],
        probs: &[f64],
        active: &[bool],
    ) -> Result<(), ManifoldError> {
        let lists = [
            ("the list of logits", logits.len(), self.dimension()),
            ("the list of probabilities", probs.len(), self.dimension()),
            ("the list of active budgets", active.len(), self.resource_count()),
        ];
        for (what, found, expected) in lists {
            if found != expected {
                return Err(ManifoldError::Length { what, expected, found });
            }
        }
        if let Some(index) = logits.iter().position(|z| !z.is_finite()) {
            return Err(ManifoldError::NotFinite { index, value: logits[index] });
        }
        Ok(())
    }

    /// Whether every budget is met by the point evaluated last, to `factor` times what
    /// the search aims at.
    pub(super) fn is_met(&self, factor: f64) -> bool {
        (0..self.budgets.len()).all(|r| {
            let (gap, aim) = (self.gap(r), self.aim(r) * factor);
            match self.work.roles[r] {
                Role::Free => true,
                Role::Equal => gap.abs() <= aim,
                Role::Limit => gap <= aim && (self.work.lambda[r] == 0.0 || gap >= -aim),
            }
        })
    }

    fn largest_residual(&self, probs: &[f64]) -> f64 {
        (0..self.budgets.len())
            .map(|r| match self.work.roles[r] {
                Role::Free => 0.0,
                Role::Equal => self.residual(probs, r).abs(),
                Role::Limit => self.residual(probs, r).max(0.0),
            })
            .fold(0.0, f64::max)
    }

    fn not_met(&self) -> ManifoldError {
        let mut worst = (0, f64::NEG_INFINITY);
        for r in 0..self.budgets.len() {
            let gap = match self.work.roles[r] {
                Role::Free => continue,
                Role::Equal => self.gap(r).abs(),
                Role::Limit => self.gap(r),
            };
            if gap / self.budgets[r].allowed > worst.1 {
                worst = (r, gap / self.budgets[r].allowed);
            }
        }
        let bound = &self.budgets[worst.0];
        ManifoldError::NotMet {
            resource: bound.resource.clone(),
            limit: bound.limit,
            reached: bound.smallest as f64 + self.work.cost[worst.0] * bound.unit,
        }
    }

    /// Meets the budgets `axes[level..]` by their multipliers, the others fixed. The
    /// outermost is found by a bracketed Newton search; each of its evaluations solves
    /// the inner ones. The reduced cost is monotone because the potential is convex.
    pub(super) fn solve_axes(&mut self, logits: &[f64], level: usize, evaluations: &mut usize) {
        let r = self.work.axes[level];
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        let (mut stride, mut last_gap) = (0.0_f64, f64::INFINITY);
        let (mut gap, mut slope) = self.evaluate_axis(logits, level, evaluations);
        for _ in 0..AXIS_EVALUATIONS {
            let at = self.work.lambda[r];
            if gap.abs() <= self.aim(r) {
                return;
            }
            if gap < 0.0 {
                low = at;
            } else {
                high = at;
            }
            let limit = self.work.roles[r] == Role::Limit;
            if limit && gap < 0.0 && at >= 0.0 {
                return;
            }
            let newton = at - gap / slope;
            let next = if low.is_finite() && high.is_finite() {
                let inside = newton > low && newton < high;
                if inside && gap.abs() <= 0.25 * last_gap { newton } else { middle(low, high) }
            } else {
                // No bracket yet. Where Newton is slow, strides grow fourfold at least, so
                // that exponentially flat tails are crossed in logarithmic time, and
                // sixteenfold at most, so that flat ends are not overshot by far.
                let wish = (newton - at).abs();
                let most = if stride == 0.0 { 1.0_f64.max(at.abs()) } else { 16.0 * stride };
                let least = if gap.abs() <= 0.1 * last_gap { 0.0 } else { 4.0 * stride };
                stride = if wish.is_finite() { wish.clamp(least, most) } else { most };
                match gap < 0.0 {
                    true if limit => (at + stride).min(0.0),
                    true => at + stride,
                    false => at - stride,
                }
            };
            if next == at || next <= low || next >= high || next.abs() > LAMBDA_LIMIT {
                return;
            }
            last_gap = gap.abs();
            self.work.lambda[r] = next;
            (gap, slope) = self.evaluate_axis(logits, level, evaluations);
        }
    }

    /// Gap and its derivative along one axis, the inner axes solved: the derivative is
    /// the Schur complement of their block of the Hessian.
    fn evaluate_axis(
        &mut self,
        logits: &[f64],
        level: usize,
        evaluations: &mut usize,
    ) -> (f64, f64) {
        if level + 1 < self.work.axes.len() {
            self.solve_axes(logits, level + 1, evaluations);
        } else {
            self.moments(logits);
            *evaluations += 1;
        }
        let r = self.work.axes[level];
        (self.gap(r), self.reduced_slope(level))
    }

    fn reduced_slope(&mut self, level: usize) -> f64 {
        let resources = self.budgets.len();
        let work = &mut self.work;
        let r = work.axes[level];
        work.free.clear();
        for &s in &work.axes[level + 1..] {
            if work.roles[s] == Role::Equal || work.lambda[s] < 0.0 {
                work.free.push(s);
            }
        }
        let own = work.hessian[r * resources + r];
        if work.free.is_empty() {
            return own;
        }
        for (i, &s) in work.free.iter().enumerate() {
            work.step[i] = work.hessian[s * resources + r];
            for (j, &t) in work.free.iter().enumerate() {
                work.matrix[i * resources + j] = work.hessian[s * resources + t];
            }
        }
        let count = work.free.len();
        super::newton::solve(&mut work.matrix, resources, &mut work.step[..count]);
        let covered: f64 = work
            .free
            .iter()
            .zip(&work.step)
            .map(|(&s, x)| work.hessian[r * resources + s] * x)
            .sum();
        (own - covered).max(own * 1e-12)
    }
}

/// Middle of a bracket: geometric where its ends differ by orders of magnitude.
fn middle(low: f64, high: f64) -> f64 {
    let (small, large) = (low.abs().min(high.abs()), low.abs().max(high.abs()));
    if low.signum() == high.signum() && small > 0.0 && large > 8.0 * small {
        return low.signum() * (small * large).sqrt();
    }
    low + 0.5 * (high - low)
}
