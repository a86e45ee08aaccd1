//! Non-separable problems whose optimum is known because it was planted.
//!
//! Every family draws a secret assignment `x*`, sets the budget to its exact cost
//! and builds the loss as
//!
//! `L(x) = λ (B − C(x)) / B + I(x)`, with `I(x) ≥ 0` and `I(x*) = 0`.
//!
//! Every feasible `x` has `C(x) ≤ B = C(x*)`, so both terms are at least 0 and
//! `L(x*) = 0` is the minimum. The interaction `I` decides how far the score of
//! one option depends on the choices of all other groups.

mod compensating;
mod pairwise;

use rco_core::rng::Stream;
use rco_core::search::{Draw, Objective};
use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem, ProblemError};

pub use compensating::{Compensating, CompensatingSettings, compensating};
pub use pairwise::{Pairwise, PairwiseSettings, pairwise};

/// Weight `λ` of the unused share of the budget in every planted loss.
pub(crate) const UNUSED_WEIGHT: f64 = 1.0;

/// A problem, its loss and its optimum.
pub struct Planted {
    /// The problem; its budget is the cost of [`Planted::optimum`].
    pub problem: Problem,
    /// The loss; its minimum over feasible assignments is 0.
    pub objective: Box<dyn Objective + Send>,
    /// A minimiser.
    pub optimum: Assignment,
}

/// The shape that all planted families share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Number of groups `N`.
    pub groups: usize,
    /// Options of each group `K`.
    pub options: usize,
    /// How generous the budget is: the expected level of the planted options, from
    /// 0 (all cheapest) to 1 (all dearest).
    pub tightness: f64,
}

/// Groups of unequal sizes (a factor of up to 16) whose option `k` costs `k + 2`
/// units per weight, a planted assignment, and the budget that it costs.
pub(crate) fn plant(
    shape: Shape,
    random: &mut Stream,
) -> Result<(Problem, Assignment), ProblemError> {
    let sizes: Vec<u64> =
        (0..shape.groups).map(|_| (64.0 * (random.uniform() * 4.0).exp2()) as u64).collect();
    let top = shape.options - 1;
    let optimum: Vec<u32> = (0..shape.groups)
        .map(|_| {
            // The sum of `top` coin flips: levels around the wanted mean.
            (0..top).filter(|_| random.uniform() < shape.tightness).count() as u32
        })
        .collect();
    let cost = |group: usize, option: u32| sizes[group] * (u64::from(option) + 2);
    let budget = optimum.iter().enumerate().map(|(i, &k)| cost(i, k)).sum();
    let groups = (0..shape.groups).map(|i| {
        let options: Vec<OptionSpec> = (0..shape.options as u32)
            .map(|k| OptionSpec::new(format!("{} bit", k + 2), [cost(i, k)]))
            .collect();
        GroupSpec::new(format!("group {i}"), options).size(sizes[i])
    });
    let problem =
        Problem::builder().budget(Budget::at_most("bits", budget)).groups(groups).build()?;
    Ok((problem, Assignment::new(optimum)))
}

/// `λ (B − C(x)) / B`: what the unused share of the budget adds to the loss.
pub(crate) fn unused(problem: &Problem, assignment: &Assignment) -> f64 {
    let limit = problem.budgets()[0].limit as f64;
    UNUSED_WEIGHT * (limit - problem.cost_of(assignment, 0) as f64) / limit
}

/// The derivative of [`unused`] for every option.
pub(crate) fn unused_gradient(problem: &Problem) -> Vec<f64> {
    let limit = problem.budgets()[0].limit as f64;
    problem.costs(0).iter().map(|&c| -UNUSED_WEIGHT * c as f64 / limit).collect()
}

/// The random numbers of one draw of a noisy loss.
pub(crate) fn noise(seed: u64, draw: Draw) -> Stream {
    rco_core::rng::stream(seed, rco_core::rng::Purpose::Draw, draw.0)
}
