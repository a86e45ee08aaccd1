//! The budget manifold `{α : C_r(α) = B_r}` in logit space and its geometry.
//!
//! With `p_i = softmax(α_i)` the expected cost is `C_r(α) = Σ_i Σ_k p_ik c_ikr`. Its
//! gradient, the normal, has the closed form `n_ik = p_ik (c_ik − Σ_l p_il c_il)`
//! (RCO, arXiv 2605.00649, Proposition 2). A point is put back onto the manifold by
//! moving along a fixed direction `d` until the budget is met; for `d = c` and for
//! `d = c / size` the cost is monotone on the way (Proposition 3).
//!
//! Several budgets: normals span a space of dimension `R`; the retraction finds `R`
//! multipliers `λ` at once. They minimise the convex potential
//! `Φ(λ) = Σ_i w_i log Σ_k exp(α_ik + Σ_r λ_r d_ikr) − Σ_r λ_r B_r`, whose gradient is
//! `C(λ) − B`, with `w_i = 1` along the cost and `w_i = size_i` along the cost per weight.
//!
//! All vectors are in the flat order of [`Decisions`].

mod check;
mod error;
mod newton;
mod normal;
mod potential;
mod project;
mod retract;
#[cfg(test)]
mod tests;
mod transport;

pub use check::{GeometryReport, GeometryRow, Quantity, check_geometry};
pub use error::ManifoldError;
pub use project::Projection;
pub use retract::Retraction;

use serde::{Deserialize, Serialize};

use crate::budget::{Budget, BudgetKind};
use crate::decisions::Decisions;

/// Largest relative residual `|C_r − B_r| / B_r` of a retracted point.
pub const RESIDUAL: f64 = 1e-9;
/// A decision counts as decided when one of its probabilities exceeds this.
pub const DECIDED: f64 = 0.999;

/// The direction in which the retraction moves logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The cost `c_ik`. This is the entropic (Bregman) projection: logits
    /// `−score / s` tend to the separable optimum within the budget as `s → 0`.
    #[default]
    Cost,
    /// The cost per weight `c_ik / size_i`, as the paper has it.
    CostPerWeight,
}

/// The budget manifold of a problem, with all the memory that its operations need.
///
/// Apart from construction nothing allocates.
#[derive(Debug, Clone)]
pub struct Manifold {
    offsets: Vec<usize>,
    budgets: Vec<Bound>,
    /// `relative[r][flat] = (c − min of its decision) / unit_r`, between 0 and 1.
    relative: Vec<Vec<f64>>,
    /// `1 / w_i`, the factor from relative cost to direction.
    reach: Vec<f64>,
    work: Workspace,
}

/// One budget in the units of the solver.
#[derive(Debug, Clone)]
struct Bound {
    resource: String,
    limit: u64,
    smallest: u64,
    largest: u64,
    kind: BudgetKind,
    /// Largest difference between the costs of two options of one decision.
    unit: f64,
    /// `(limit − smallest) / unit`.
    target: f64,
    /// Residual, in units, that the contract allows.
    allowed: f64,
}

impl Bound {
    /// Whether the budget holds at every point and so is no constraint.
    fn is_vacuous(&self) -> bool {
        self.smallest == self.largest
            || (self.kind == BudgetKind::AtMost && self.limit >= self.largest)
    }
}

#[derive(Debug, Clone)]
struct Workspace {
    /// Multipliers `λ`, one for each resource.
    lambda: Vec<f64>,
    /// Expected costs above the smallest total, in units.
    cost: Vec<f64>,
    /// Mean cost of one decision, one entry for each resource.
    mean: Vec<f64>,
    /// `∂C_r / ∂λ_s`, row-major.
    hessian: Vec<f64>,
    /// Exponentials of one decision.
    exps: Vec<f64>,
    /// Orthonormal basis of the active normals, one row for each resource.
    basis: Vec<Vec<f64>>,
    /// Triangular factor of the active normals, row-major.
    triangle: Vec<f64>,
    /// Lagrange multipliers of the last projection, per unit of cost.
    multipliers: Vec<f64>,
    /// How the retraction treats each budget.
    roles: Vec<Role>,
    step: Vec<f64>,
    origin: Vec<f64>,
    matrix: Vec<f64>,
    free: Vec<usize>,
    axes: Vec<usize>,
}

/// How the retraction treats a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `C = B`, any sign of the multiplier.
    Equal,
    /// `C ≤ B` with a multiplier that is not positive.
    Limit,
    /// No constraint.
    Free,
}

impl Manifold {
    /// The manifold of `budgets` (one for each resource of `decisions`).
    ///
    /// A budget of kind `at most` that no assignment can exceed never becomes active.
    ///
    /// # Errors
    /// [`ManifoldError::BudgetCount`]; [`ManifoldError::Unreachable`] if a limit is below
    /// the smallest total or an `exactly` budget above the largest.
    pub fn new(
        decisions: &Decisions,
        budgets: &[Budget],
        direction: Direction,
    ) -> Result<Self, ManifoldError> {
        let resources = decisions.resource_count();
        if budgets.len() != resources {
            return Err(ManifoldError::BudgetCount { expected: resources, found: budgets.len() });
        }
        let mut bounds = Vec::with_capacity(resources);
        let mut relative = Vec::with_capacity(resources);
        for (resource, budget) in budgets.iter().enumerate() {
            let (bound, costs) = scale(decisions, resource, budget)?;
            bounds.push(bound);
            relative.push(costs);
        }
        let reach = match direction {
            Direction::Cost => vec![1.0; decisions.len()],
            Direction::CostPerWeight => {
                // Only the ratios of sizes matter. A mean weighted by what a decision can
                // change is the unit, so that a multiplier of 1 moves logits by about 1.
                let reference = typical_size(decisions);
                decisions.sizes().iter().map(|&size| reference / size.max(1) as f64).collect()
            }
        };
        let options = decisions.option_count();
        let widest = (0..decisions.len()).map(|i| decisions.options_of(i).len()).max();
        Ok(Self {
            offsets: decisions.offsets().to_vec(),
            budgets: bounds,
            relative,
            reach,
            work: Workspace {
                lambda: vec![0.0; resources],
                cost: vec![0.0; resources],
                mean: vec![0.0; resources],
                hessian: vec![0.0; resources * resources],
                exps: vec![0.0; widest.unwrap_or(0)],
                basis: vec![vec![0.0; options]; resources],
                triangle: vec![0.0; resources * resources],
                multipliers: vec![0.0; resources],
                roles: vec![Role::Free; resources],
                step: vec![0.0; resources],
                origin: vec![0.0; resources],
                matrix: vec![0.0; resources * resources],
                free: Vec::with_capacity(resources),
                axes: Vec::with_capacity(resources),
            },
        })
    }

    /// Dimension of logit space: options of all decisions.
    pub fn dimension(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Number of resources.
    pub fn resource_count(&self) -> usize {
        self.budgets.len()
    }

    /// Boundaries of the decisions in the flat order.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Whether a budget holds at every point (a limit at or above the largest total,
    /// or a cost that does not depend on the choices). It is then never active.
    pub fn is_vacuous(&self, resource: usize) -> bool {
        self.budgets[resource].is_vacuous()
    }

    /// Number of decisions with one probability above [`DECIDED`].
    pub fn decided(&self, probs: &[f64]) -> usize {
        self.offsets.windows(2).filter(|w| probs[w[0]..w[1]].iter().any(|&p| p > DECIDED)).count()
    }
}

/// Mean size of the decisions, weighted by the range of their costs.
fn typical_size(decisions: &Decisions) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for (i, &size) in decisions.sizes().iter().enumerate() {
        let own = &decisions.costs(0)[decisions.options_of(i)];
        let range = own.iter().max().zip(own.iter().min()).map_or(0, |(high, low)| high - low);
        sum += range as f64 * size as f64;
        total += range as f64;
    }
    if total > 0.0 { sum / total } else { 1.0 }
}

/// Shifts the costs of every decision to start at 0 and scales them to at most 1:
/// softmax does not see the shift, and sums lose no digits to the common part.
fn scale(
    decisions: &Decisions,
    resource: usize,
    budget: &Budget,
) -> Result<(Bound, Vec<f64>), ManifoldError> {
    let costs = decisions.costs(resource);
    let (mut smallest, mut largest, mut unit) = (0_u64, 0_u64, 1_u64);
    for i in 0..decisions.len() {
        let own = &costs[decisions.options_of(i)];
        let low = own.iter().min().copied().unwrap_or(0);
        let high = own.iter().max().copied().unwrap_or(0);
        smallest = smallest.saturating_add(low);
        largest = largest.saturating_add(high);
        unit = unit.max(high - low);
    }
    let above = budget.kind == BudgetKind::Exactly && budget.limit > largest;
    if budget.limit < smallest || above {
        return Err(ManifoldError::Unreachable {
            resource: budget.resource.clone(),
            limit: budget.limit,
            smallest,
            largest,
        });
    }
    let unit = unit as f64;
    let mut relative = Vec::with_capacity(costs.len());
    for i in 0..decisions.len() {
        let own = &costs[decisions.options_of(i)];
        let low = own.iter().min().copied().unwrap_or(0);
        relative.extend(own.iter().map(|&c| (c - low) as f64 / unit));
    }
    let bound = Bound {
        resource: budget.resource.clone(),
        limit: budget.limit,
        smallest,
        largest,
        kind: budget.kind,
        unit,
        target: (budget.limit - smallest) as f64 / unit,
        allowed: RESIDUAL * (budget.limit.max(1) as f64) / unit,
    };
    Ok((bound, relative))
}
