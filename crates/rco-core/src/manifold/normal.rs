//! Expected cost and its gradient.

use super::Manifold;

impl Manifold {
    /// Expected cost `C_r = Σ_i Σ_k p_ik c_ikr` of every resource, in its unit.
    ///
    /// # Panics
    /// If `probs` does not have [`Manifold::dimension`] entries.
    pub fn expected_cost(&self, probs: &[f64]) -> Vec<f64> {
        (0..self.resource_count()).map(|r| self.expected_cost_of(probs, r)).collect()
    }

    /// Expected cost in one resource.
    ///
    /// # Panics
    /// If `probs` does not have [`Manifold::dimension`] entries.
    pub fn expected_cost_of(&self, probs: &[f64], resource: usize) -> f64 {
        let bound = &self.budgets[resource];
        bound.smallest as f64 + self.excess(probs, resource) * bound.unit
    }

    /// Relative residual `(C_r − B_r) / B_r` of one resource; positive above the limit.
    pub fn residual(&self, probs: &[f64], resource: usize) -> f64 {
        let bound = &self.budgets[resource];
        (self.excess(probs, resource) - bound.target) * bound.unit / bound.limit.max(1) as f64
    }

    /// Expected cost above the smallest total, in units of the bound.
    fn excess(&self, probs: &[f64], resource: usize) -> f64 {
        assert_eq!(probs.len(), self.dimension(), "one probability per option");
        self.offsets
            .windows(2)
            .map(|w| dot(&probs[w[0]..w[1]], &self.relative[resource][w[0]..w[1]]))
            .sum()
    }

    /// Normal of one budget: `n_ik = p_ik (c_ik − Σ_l p_il c_il)`, the gradient of the
    /// expected cost with respect to the logits, in the unit of the resource
    /// (arXiv 2605.00649, Proposition 2).
    ///
    /// # Panics
    /// If `probs` or `out` does not have [`Manifold::dimension`] entries.
    pub fn normal(&self, probs: &[f64], resource: usize, out: &mut [f64]) {
        assert_eq!(probs.len(), self.dimension(), "one probability per option");
        assert_eq!(out.len(), self.dimension(), "one entry per option");
        normal(&self.offsets, &self.relative[resource], probs, out);
        let unit = self.budgets[resource].unit;
        for x in out {
            *x *= unit;
        }
    }
}

/// The normal for costs in any unit.
pub(super) fn normal(offsets: &[usize], costs: &[f64], probs: &[f64], out: &mut [f64]) {
    for w in offsets.windows(2) {
        let (p, c, n) = (&probs[w[0]..w[1]], &costs[w[0]..w[1]], &mut out[w[0]..w[1]]);
        let mean = dot(p, c);
        let mut top = 0;
        for k in 0..p.len() {
            n[k] = p[k] * (c[k] - mean);
            if p[k] > p[top] {
                top = k;
            }
        }
        // Entries of a decision sum to 0. For a nearly certain option the difference
        // c − mean has no digits left, while those of the other options are exact.
        let rest: f64 = n.iter().enumerate().filter(|&(k, _)| k != top).map(|(_, x)| x).sum();
        if let Some(x) = n.get_mut(top) {
            *x = -rest;
        }
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
