//! What measured losses say about separable scores.
//!
//! The loss of a plan is taken for a sum of scores, one for each decision, and an error of a
//! few percent. Beforehand a score is known as `m·(1 + γ + ρ + ε)`: `m` is the score at hand
//! (a sensitivity times a distortion, for instance), `γ` what all are wrong by alike, `ρ`
//! what all options of one decision are wrong by (a sensitivity estimated from few samples),
//! `ε` what one option is. All three are normal with mean 0, so that losses of plans are
//! jointly normal with the scores and conditioning on `n` of them takes one Cholesky factor
//! of an `n × n` matrix (Rasmussen and Williams 2006, §2.2, with a linear kernel).

use crate::decisions::Decisions;
use crate::rng::Stream;

/// Standard deviation of `γ`.
const COMMON: f64 = 0.5;
/// Standard deviation of `ε`.
const OPTION: f64 = 0.1;
/// Standard deviation of what a sum of scores misses, as a share of the loss.
const MISFIT: f64 = 0.01;

/// Scores given the losses of some plans.
pub(super) struct Posterior<'a> {
    decisions: &'a Decisions,
    scores: &'a [f64],
    plans: &'a [Vec<u32>],
    losses: &'a [f64],
    /// Standard deviation of `ρ`.
    spread: f64,
    /// Lower Cholesky factor of the covariance of the losses, row after row.
    factor: Vec<f64>,
}

impl<'a> Posterior<'a> {
    /// Conditions `scores` (flat order of the decisions) on the `losses` of `plans`; those of
    /// a decision are wrong by `spread` beforehand.
    pub(super) fn new(
        decisions: &'a Decisions,
        scores: &'a [f64],
        plans: &'a [Vec<u32>],
        losses: &'a [f64],
        spread: f64,
    ) -> Self {
        let n = plans.len();
        let mut out = Self { decisions, scores, plans, losses, spread, factor: vec![0.0; n * n] };
        for i in 0..n {
            for j in 0..=i {
                out.factor[i * n + j] = out.covariance(&plans[i], &plans[j]);
            }
            let noise = out.noise(i);
            out.factor[i * n + i] += noise * noise;
        }
        factorise(&mut out.factor, n);
        out
    }

    /// The expected scores.
    pub(super) fn mean(&self) -> Vec<f64> {
        let residuals = self.plans.iter().zip(self.losses).map(|(p, l)| l - self.sum(p)).collect();
        self.corrected(self.scores, residuals)
    }

    /// Scores drawn from what is left possible: a draw from before, corrected by what it
    /// says wrongly about the losses (Matheron's rule).
    pub(super) fn draw(&self, random: &mut Stream) -> Vec<f64> {
        let common = COMMON * random.normal();
        let mut drawn = vec![0.0; self.scores.len()];
        for d in 0..self.decisions.len() {
            let own = self.spread * random.normal();
            for j in self.decisions.options_of(d) {
                drawn[j] = self.scores[j] * (1.0 + common + own + OPTION * random.normal());
            }
        }
        let residual = |(i, plan): (usize, &Vec<u32>)| {
            let offsets = self.decisions.offsets();
            let sum: f64 =
                plan.iter().zip(offsets).map(|(&k, start)| drawn[start + k as usize]).sum();
            self.losses[i] - sum - self.noise(i) * random.normal()
        };
        let residuals = self.plans.iter().enumerate().map(residual).collect();
        self.corrected(&drawn, residuals)
    }

    /// `start` and what the residuals say about it.
    fn corrected(&self, start: &[f64], mut residuals: Vec<f64>) -> Vec<f64> {
        solve(&self.factor, &mut residuals);
        let offsets = self.decisions.offsets();
        let mut common = 0.0;
        let mut own = vec![0.0; self.decisions.len()];
        let mut single = vec![0.0; start.len()];
        for (plan, weight) in self.plans.iter().zip(&residuals) {
            for (d, (&k, offset)) in plan.iter().zip(offsets).enumerate() {
                let j = offset + k as usize;
                let share = weight * self.scores[j];
                common += share;
                own[d] += share;
                single[j] += share;
            }
        }
        let mut out = start.to_vec();
        for (d, own) in own.iter().enumerate() {
            for j in self.decisions.options_of(d) {
                let change = COMMON * COMMON * common
                    + self.spread * self.spread * own
                    + OPTION * OPTION * single[j];
                out[j] += self.scores[j] * change;
            }
        }
        out
    }

    fn covariance(&self, a: &[u32], b: &[u32]) -> f64 {
        let offsets = self.decisions.offsets();
        let mut sum = COMMON * COMMON * self.sum(a) * self.sum(b);
        for ((&k, &l), &start) in a.iter().zip(b).zip(offsets) {
            let (s, t) = (self.scores[start + k as usize], self.scores[start + l as usize]);
            sum += self.spread * self.spread * s * t;
            if k == l {
                sum += OPTION * OPTION * s * t;
            }
        }
        sum
    }

    /// The sum of the scores of a plan.
    fn sum(&self, plan: &[u32]) -> f64 {
        let offsets = self.decisions.offsets();
        plan.iter().zip(offsets).map(|(&k, start)| self.scores[start + k as usize]).sum()
    }

    fn noise(&self, plan: usize) -> f64 {
        // A loss of 0 must not make the matrix singular.
        MISFIT * self.losses[plan].abs().max(self.sum(&self.plans[plan]).abs()).max(1e-12)
    }
}

/// Replaces the lower triangle of a positive definite matrix by its Cholesky factor.
fn factorise(a: &mut [f64], n: usize) {
    for j in 0..n {
        for i in j..n {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let value = a[i * n + j] - dot;
            // Rounding may eat what the noise adds to the diagonal.
            let floor = f64::EPSILON * a[j * n + j].abs().max(f64::MIN_POSITIVE);
            a[i * n + j] = if i == j { value.max(floor).sqrt() } else { value / a[j * n + j] };
        }
    }
}

/// Solves `L Lᵀ x = b` in place.
fn solve(factor: &[f64], b: &mut [f64]) {
    let n = b.len();
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| factor[i * n + k] * b[k]).sum();
        b[i] = (b[i] - dot) / factor[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| factor[k * n + i] * b[k]).sum();
        b[i] = (b[i] - dot) / factor[i * n + i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::search::testing::{Spec, problem};

    /// Twelve decisions of three options whose true scores are the ones at hand times a
    /// factor of each decision.
    fn setting() -> (crate::Problem, Vec<f64>, Vec<f64>) {
        let problem = problem(&Spec { groups: 12, options: 3, ..Spec::default() });
        let mut random = stream(3, Purpose::Instance, 0);
        let (mut scores, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let factor = 1.0 + 0.25 * random.normal();
            for k in 0..3 {
                let score = (3.0 - f64::from(k)) * (0.5 + random.uniform());
                scores.push(score);
                truth.push(score * factor);
            }
        }
        (problem, scores, truth)
    }

    fn plans(count: usize) -> Vec<Vec<u32>> {
        let mut random = stream(4, Purpose::Feasible, 0);
        (0..count).map(|_| (0..12).map(|_| random.below(3) as u32).collect()).collect()
    }

    fn losses(truth: &[f64], plans: &[Vec<u32>]) -> Vec<f64> {
        let of = |plan: &Vec<u32>| {
            plan.iter().enumerate().map(|(d, &k)| truth[3 * d + k as usize]).sum()
        };
        plans.iter().map(of).collect()
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn measured_losses_bring_scores_nearer_to_the_truth() {
        let (problem, scores, truth) = setting();
        let before = distance(&scores, &truth);
        let mut last = before;
        for count in [4, 12, 40] {
            let plans = plans(count);
            let losses = losses(&truth, &plans);
            let found = Posterior::new(problem.decisions(), &scores, &plans, &losses, 0.25).mean();
            let now = distance(&found, &truth);
            assert!(now < last, "{count} plans: {now} after {last}");
            last = now;
        }
        assert!(last < 0.35 * before, "{last} of {before}");
    }

    #[test]
    fn draws_agree_with_the_losses_and_their_mean_is_the_mean() {
        let (problem, scores, truth) = setting();
        let plans = plans(10);
        let measured = losses(&truth, &plans);
        let posterior = Posterior::new(problem.decisions(), &scores, &plans, &measured, 0.25);
        let mean = posterior.mean();
        let mut random = stream(5, Purpose::Instance, 0);
        let count = 2000;
        let mut sum = vec![0.0; mean.len()];
        for _ in 0..count {
            let drawn = posterior.draw(&mut random);
            for (loss, found) in measured.iter().zip(losses(&drawn, &plans)) {
                assert!((found - loss).abs() < 6.0 * MISFIT * loss, "{found} against {loss}");
            }
            for (sum, drawn) in sum.iter_mut().zip(&drawn) {
                *sum += drawn / f64::from(count);
            }
        }
        assert!(distance(&sum, &mean) < 0.02 * distance(&mean, &[0.0; 36]));
    }

    #[test]
    fn without_losses_and_with_equal_plans_nothing_breaks() {
        let (problem, scores, truth) = setting();
        let nothing = Posterior::new(problem.decisions(), &scores, &[], &[], 0.25);
        assert_eq!(nothing.mean(), scores);
        let plans = vec![plans(1).remove(0); 3];
        let losses = losses(&truth, &plans);
        let found = Posterior::new(problem.decisions(), &scores, &plans, &losses, 0.25).mean();
        assert!(found.iter().all(|s| s.is_finite()));
    }
}
