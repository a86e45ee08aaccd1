//! The Lagrangian dual: the multipliers with the smallest upper bound.
//!
//! `L(λ) = Σ_i max_k (v_ik − Σ_r λ_r c_ikr) + Σ_r λ_r B_r` bounds the optimum from above
//! for every `λ` (`λ_r ≥ 0` for `at most`). It is convex and piecewise linear; with a
//! handful of resources the ellipsoid method with deep cuts (Bland, Goldfarb & Todd
//! 1981, §4) minimises it to any accuracy at one pass over the options per cut.

use super::costs::Resource;

/// Cuts per pair of resources.
const CUTS: usize = 60;
/// Radius of the first ellipsoid in units of a resource's own multiplier.
const RADIUS: f64 = 8.0;
/// Relative accuracy of the dual's minimum at which the cuts stop.
const ACCURACY: f64 = 1e-10;

/// The dual function at one point.
#[derive(Debug, Clone, Default)]
pub(super) struct Point {
    /// Multipliers.
    pub(super) lambda: Vec<f64>,
    /// `L(λ)`.
    pub(super) bound: f64,
    /// A maximiser for every decision (local option index).
    pub(super) choices: Vec<u32>,
    /// Total of the maximisers in every resource.
    pub(super) totals: Vec<i64>,
}

impl Point {
    /// Evaluates the dual function at `self.lambda`.
    pub(super) fn evaluate(&mut self, resources: &[Resource], offsets: &[usize], values: &[f64]) {
        let mut bound: f64 =
            resources.iter().zip(&self.lambda).map(|(r, l)| l * r.capacity as f64).sum();
        self.choices.clear();
        self.totals.clear();
        self.totals.resize(resources.len(), 0);
        for range in offsets.windows(2) {
            let (mut best, mut chosen) = (f64::NEG_INFINITY, range[0]);
            for (flat, &value) in (range[0]..range[1]).zip(&values[range[0]..range[1]]) {
                let mut value = value;
                for (resource, lambda) in resources.iter().zip(&self.lambda) {
                    value -= lambda * resource.cost[flat] as f64;
                }
                if value > best {
                    (best, chosen) = (value, flat);
                }
            }
            bound += best;
            self.choices.push((chosen - range[0]) as u32);
            for (total, resource) in self.totals.iter_mut().zip(resources) {
                *total += resource.cost[chosen];
            }
        }
        self.bound = bound;
    }
}

/// Minimises the dual function from `units`, a positive guess of each multiplier.
/// Every point that is visited is shown to `visit`. Returns the best one.
pub(super) fn minimise(
    resources: &[Resource],
    offsets: &[usize],
    values: &[f64],
    units: &[f64],
    mut visit: impl FnMut(&Point),
) -> Point {
    let n = resources.len();
    let size = n as f64;
    let mut point = Point::default();
    let mut best = Point { bound: f64::INFINITY, ..Point::default() };
    let mut centre = vec![0.5; n];
    let mut shape = vec![0.0; n * n];
    for r in 0..n {
        shape[r * n + r] = RADIUS * RADIUS;
    }
    for _ in 0..CUTS * n * (n + 1) {
        let negative = (0..n).find(|&r| !resources[r].exactly && centre[r] < 0.0);
        let (gradient, excess) = if let Some(r) = negative {
            let mut gradient = vec![0.0; n];
            gradient[r] = -1.0;
            (gradient, -centre[r])
        } else {
            point.lambda.clear();
            point.lambda.extend(centre.iter().zip(units).map(|(y, unit)| y * unit));
            point.evaluate(resources, offsets, values);
            visit(&point);
            if point.bound < best.bound {
                best = point.clone();
            }
            let slacks = resources.iter().zip(&point.totals);
            let gradient: Vec<f64> = slacks
                .zip(units)
                .map(|((resource, &used), unit)| (resource.capacity - used) as f64 * unit)
                .collect();
            (gradient, point.bound - best.bound)
        };
        let image: Vec<f64> =
            (0..n).map(|r| (0..n).map(|s| shape[r * n + s] * gradient[s]).sum::<f64>()).collect();
        let norm = image.iter().zip(&gradient).map(|(a, b)| a * b).sum::<f64>().sqrt();
        let accurate = negative.is_none() && norm <= ACCURACY * best.bound.abs();
        let depth = excess / norm;
        if accurate || !norm.is_normal() || depth >= 1.0 {
            break;
        }
        let step = (1.0 + size * depth) / (size + 1.0);
        let grow = size * size * (1.0 - depth * depth) / (size * size - 1.0);
        let shrink = 2.0 * (1.0 + size * depth) / ((size + 1.0) * (1.0 + depth));
        for r in 0..n {
            centre[r] -= step * image[r] / norm;
            for s in 0..n {
                let rank_one = image[r] * image[s] / (norm * norm);
                shape[r * n + s] = grow * (shape[r * n + s] - shrink * rank_one);
            }
        }
    }
    best
}
