//! Groups on a chain whose options fit their neighbours' options better or worse.

use rco_core::rng::{Purpose, stream};
use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_core::{Assignment, Problem, ProblemError};

use super::{Planted, Shape, plant, unused, unused_gradient};

/// Settings of [`pairwise`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairwiseSettings {
    /// Groups, options and budget.
    pub shape: Shape,
    /// Each group interacts with this many groups that follow it on the chain.
    pub reach: usize,
    /// Further pairs, as a multiple of the number of groups, drawn at random.
    pub random_pairs: f64,
    /// Seed of the instance.
    pub seed: u64,
}

/// `I(x) = (1/N) Σ_{ij} T_ij[x_i, x_j]` with `T_ij` uniform in (0, 1) and 0 at the
/// planted pair.
#[derive(Debug, Clone)]
pub struct Pairwise {
    problem: Problem,
    /// First group, second group, and the table in row order.
    pairs: Vec<(usize, usize, Vec<f64>)>,
    weight: f64,
    seed: u64,
}

/// Draws an instance of the family.
///
/// # Errors
/// [`ProblemError`] if the shape is empty.
pub fn pairwise(settings: PairwiseSettings) -> Result<Planted, ProblemError> {
    let mut random = stream(settings.seed, Purpose::Instance, 2);
    let (problem, optimum) = plant(settings.shape, &mut random)?;
    let n = problem.group_count();
    let mut ends: Vec<(usize, usize)> = (0..n)
        .flat_map(|i| (1..=settings.reach).map(move |step| (i, i + step)))
        .filter(|&(_, j)| j < n)
        .collect();
    if n > 1 {
        for _ in 0..(settings.random_pairs * n as f64) as usize {
            let i = random.below(n);
            let j = (i + 1 + random.below(n - 1)) % n;
            ends.push((i.min(j), i.max(j)));
        }
    }
    let pairs = ends
        .into_iter()
        .map(|(i, j)| {
            let (rows, columns) = (problem.options_of(i).len(), problem.options_of(j).len());
            let mut table: Vec<f64> = (0..rows * columns).map(|_| random.uniform()).collect();
            table[optimum.option(i) * columns + optimum.option(j)] = 0.0;
            (i, j, table)
        })
        .collect();
    let weight = 1.0 / n as f64;
    let objective = Pairwise { problem: problem.clone(), pairs, weight, seed: settings.seed };
    Ok(Planted { problem, objective: Box::new(objective), optimum })
}

impl Pairwise {
    fn exact_loss(&self, assignment: &Assignment) -> f64 {
        let sum: f64 = self
            .pairs
            .iter()
            .map(|(i, j, table)| {
                let columns = self.problem.options_of(*j).len();
                table[assignment.option(*i) * columns + assignment.option(*j)]
            })
            .sum();
        unused(&self.problem, assignment) + self.weight * sum
    }
}

impl Objective for Pairwise {
    fn evaluate(
        &mut self,
        assignment: &Assignment,
        _draw: Draw,
    ) -> Result<Evaluation, ObjectiveError> {
        let mut gradient = unused_gradient(&self.problem);
        for (i, j, table) in &self.pairs {
            let (first, second) = (self.problem.options_of(*i), self.problem.options_of(*j));
            let columns = second.len();
            let (a, b) = (assignment.option(*i), assignment.option(*j));
            for (row, flat) in first.enumerate() {
                gradient[flat] += self.weight * table[row * columns + b];
            }
            for (column, flat) in second.enumerate() {
                gradient[flat] += self.weight * table[a * columns + column];
            }
        }
        Ok(Evaluation { loss: self.exact_loss(assignment), gradient })
    }

    fn loss(&mut self, assignment: &Assignment, _split: Split) -> Result<f64, ObjectiveError> {
        Ok(self.exact_loss(assignment))
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn fingerprint(&self) -> String {
        format!(
            "pairwise seed={} pairs={} options={}",
            self.seed,
            self.pairs.len(),
            self.problem.option_count()
        )
    }
}
