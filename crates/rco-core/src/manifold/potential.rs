//! Costs and their derivatives along the retraction, in one pass over the options.

use super::Manifold;

impl Manifold {
    /// Evaluates the shifted logits `α + Σ_r λ_r d_r` at the multipliers of the
    /// workspace: fills its `cost` (gradient of the potential, up to the target) and
    /// `hessian` (`Σ_i Cov_{p_i}(c_r, c_s) / w_i`, positive semidefinite).
    pub(super) fn moments(&mut self, logits: &[f64]) {
        let resources = self.budgets.len();
        let work = &mut self.work;
        work.cost.fill(0.0);
        work.hessian.fill(0.0);
        for (i, w) in self.offsets.windows(2).enumerate() {
            let (start, end) = (w[0], w[1]);
            let exps = &mut work.exps[..end - start];
            let mut top = f64::NEG_INFINITY;
            for (z, flat) in exps.iter_mut().zip(start..end) {
                *z = shifted(logits, &self.relative, &work.lambda, self.reach[i], flat);
                top = top.max(*z);
            }
            let mut sum = 0.0;
            for z in exps.iter_mut() {
                *z = (*z - top).exp();
                sum += *z;
            }
            let inverse = 1.0 / sum;
            for r in 0..resources {
                let costs = &self.relative[r][start..end];
                let mean: f64 = exps.iter().zip(costs).map(|(e, c)| e * c).sum::<f64>() * inverse;
                work.mean[r] = mean;
                work.cost[r] += mean;
                for s in 0..=r {
                    let (other, other_mean) = (&self.relative[s][start..end], work.mean[s]);
                    let covariance: f64 = exps
                        .iter()
                        .zip(costs)
                        .zip(other)
                        .map(|((e, c), d)| e * (c - mean) * (d - other_mean))
                        .sum();
                    work.hessian[r * resources + s] += covariance * inverse * self.reach[i];
                }
            }
        }
        for r in 0..resources {
            for s in 0..r {
                work.hessian[s * resources + r] = work.hessian[r * resources + s];
            }
        }
    }

    /// Replaces the logits by the shifted ones.
    pub(super) fn shift(&self, logits: &mut [f64]) {
        for (i, w) in self.offsets.windows(2).enumerate() {
            for flat in w[0]..w[1] {
                logits[flat] =
                    shifted(logits, &self.relative, &self.work.lambda, self.reach[i], flat);
            }
        }
    }

    /// `C_r − B_r` in units, at the point evaluated last.
    pub(super) fn gap(&self, resource: usize) -> f64 {
        self.work.cost[resource] - self.budgets[resource].target
    }

    /// Residual at which a search for multipliers stops: well inside of what is
    /// allowed, but above the rounding error of the sums.
    pub(super) fn aim(&self, resource: usize) -> f64 {
        self.budgets[resource].allowed * 1e-3
    }
}

fn shifted(logits: &[f64], relative: &[Vec<f64>], lambda: &[f64], reach: f64, flat: usize) -> f64 {
    let shift: f64 = lambda.iter().zip(relative).map(|(l, costs)| l * costs[flat]).sum();
    logits[flat] + shift * reach
}
