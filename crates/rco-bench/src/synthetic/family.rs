//! The families of instances, their optimum and the two ends of the score.

use rco_core::knapsack::{Settings as KnapsackSettings, Solver};
use rco_core::rng::{Purpose, stream};
use rco_core::search::{Objective, Split};
use rco_core::{Assignment, Problem};
use rco_problems::generators::Family as KnapsackFamily;
use rco_problems::objectives::{Pair, Quadratic, Separable};
use rco_problems::planted::{
    CompensatingSettings, PairwiseSettings, Planted, Shape, compensating, pairwise,
};
use serde::Serialize;

use crate::BenchError;

/// Random feasible plans whose mean loss is the score 0.
const ANCHOR_PLANS: u64 = 64;
/// Groups of an instance whose optimum is found by enumeration.
pub(super) const ENUMERATED_GROUPS: usize = 9;
/// Options of each of its groups.
const ENUMERATED_OPTIONS: usize = 4;

/// What kind of instance is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// A separable loss: a multiple-choice knapsack, optimum by the exact solver.
    Separable(KnapsackFamily),
    /// Error vectors that add up and may cancel; optimum planted.
    Compensating,
    /// The same, and every draw of the loss adds noise as large as the gradient.
    CompensatingNoisy,
    /// Tables between neighbours on a chain and random pairs; optimum planted.
    Pairwise,
    /// Few groups, all pairs interact with either sign; optimum by enumeration.
    Enumerated,
}

impl Family {
    /// All families.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = KnapsackFamily::ALL.into_iter().map(Self::Separable).collect();
        all.extend([Self::Compensating, Self::CompensatingNoisy, Self::Pairwise, Self::Enumerated]);
        all
    }

    /// Name in the tables.
    pub fn name(self) -> String {
        match self {
            Self::Separable(family) => family.name().to_owned(),
            Self::Compensating => "compensating".into(),
            Self::CompensatingNoisy => "compensating, noisy".into(),
            Self::Pairwise => "pairwise".into(),
            Self::Enumerated => "enumerated".into(),
        }
    }

    /// Whether the loss is a sum over groups.
    pub fn is_separable(self) -> bool {
        matches!(self, Self::Separable(_))
    }
}

/// One instance.
pub struct Instance {
    /// The problem.
    pub problem: Problem,
    /// Its loss.
    pub objective: Box<dyn Objective + Send>,
    /// Loss of the optimum, score 100.
    pub optimum: f64,
    /// Mean loss of random feasible plans, score 0.
    pub anchor: f64,
}

impl Instance {
    /// `100 (L_random − L) / (L_random − L*)`.
    pub fn score(&self, loss: f64) -> f64 {
        let range = self.anchor - self.optimum;
        // Where random plans are optimal already there is nothing to find.
        if range <= 0.0 { 100.0 } else { 100.0 * (self.anchor - loss) / range }
    }
}

/// Draws an instance.
///
/// # Errors
/// [`BenchError`] if the shape is empty or no plan fits.
pub fn draw(family: Family, shape: Shape, seed: u64) -> Result<Instance, BenchError> {
    let (problem, mut objective, optimum) = match family {
        Family::Separable(kind) => {
            let drawn = kind.generate(shape.groups, shape.options, shape.tightness, seed)?;
            let losses: Vec<f64> = drawn.values.iter().map(|v| -v).collect();
            let mut solver = exact(&drawn.problem)?;
            let mut choices = vec![0; drawn.problem.decisions().len()];
            let certificate = solver.solve(&drawn.values, &mut choices)?;
            let objective: Box<dyn Objective + Send> =
                Box::new(Separable::new(&drawn.problem, losses)?);
            // The bound equals the value wherever the instance is proven.
            (drawn.problem, objective, -certificate.bound)
        }
        Family::Enumerated => enumerated(shape.tightness, seed)?,
        _ => {
            let drawn = planted(family, shape, seed)?;
            (drawn.problem, drawn.objective, 0.0)
        }
    };
    let anchor = anchor(&problem, objective.as_mut(), seed)?;
    Ok(Instance { problem, objective, optimum, anchor })
}

fn planted(family: Family, shape: Shape, seed: u64) -> Result<Planted, BenchError> {
    Ok(if family == Family::Pairwise {
        pairwise(PairwiseSettings { shape, reach: 2, random_pairs: 1.0, seed })?
    } else {
        let noise = if family == Family::CompensatingNoisy { 1.0 } else { 0.0 };
        let rank = (shape.groups / 2).max(2);
        compensating(CompensatingSettings { shape, rank, common: 0.5, noise, seed })?
    })
}

/// A random quadratic loss with pairs of either sign between all groups.
#[allow(clippy::type_complexity)]
fn enumerated(
    tightness: f64,
    seed: u64,
) -> Result<(Problem, Box<dyn Objective + Send>, f64), BenchError> {
    let shape = Shape { groups: ENUMERATED_GROUPS, options: ENUMERATED_OPTIONS, tightness };
    // Only the problem is taken: costs and a budget that some plan meets exactly.
    let drawn = planted(Family::Compensating, shape, seed)?;
    let problem = drawn.problem;
    let mut random = stream(seed, Purpose::Instance, 3);
    let limit = problem.budgets()[0].limit as f64;
    let linear: Vec<f64> = problem
        .costs(0)
        .iter()
        .map(|&cost| random.normal() - 4.0 * ENUMERATED_GROUPS as f64 * cost as f64 / limit)
        .collect();
    let mut pairs = Vec::new();
    for i in 0..problem.group_count() {
        for j in i + 1..problem.group_count() {
            for a in problem.options_of(i) {
                for b in problem.options_of(j) {
                    let loss = random.normal() / (ENUMERATED_GROUPS as f64).sqrt();
                    pairs.push(Pair { options: [a, b], loss, heldout_loss: None });
                }
            }
        }
    }
    let mut objective = Quadratic::new(&problem, linear, pairs)?;
    let mut best = f64::INFINITY;
    let mut choices = vec![0_u32; problem.group_count()];
    loop {
        let plan = Assignment::new(choices.clone());
        if problem.is_feasible(&plan) {
            best = best.min(objective.loss(&plan, Split::Calibration)?);
        }
        let Some(i) = choices.iter().position(|&k| (k as usize) < ENUMERATED_OPTIONS - 1) else {
            break;
        };
        choices[..i].fill(0);
        choices[i] += 1;
    }
    Ok((problem, Box::new(objective), best))
}

fn exact(problem: &Problem) -> Result<Solver, BenchError> {
    let settings = KnapsackSettings::default();
    Ok(Solver::new(problem.decisions(), problem.budgets(), settings)?)
}

/// Mean loss of random plans that fill the budget: uniform values, exact knapsack.
fn anchor(problem: &Problem, objective: &mut dyn Objective, seed: u64) -> Result<f64, BenchError> {
    let mut solver = exact(problem)?;
    let decisions = problem.decisions();
    let mut choices = vec![0; decisions.len()];
    let mut sum = 0.0;
    for plan in 0..ANCHOR_PLANS {
        let mut random = stream(seed, Purpose::Feasible, plan);
        let values: Vec<f64> = (0..decisions.option_count()).map(|_| random.uniform()).collect();
        solver.solve(&values, &mut choices)?;
        sum += objective.loss(&decisions.expand(&choices), Split::HeldOut)?;
    }
    Ok(sum / ANCHOR_PLANS as f64)
}
