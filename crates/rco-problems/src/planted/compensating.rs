//! Errors that add up as vectors and may cancel: the second-order picture of a
//! compressed network, where the loss is a quadratic form of the summed errors.

use rco_core::rng::{Purpose, stream};
use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_core::{Assignment, Problem, ProblemError};

use super::{Planted, Shape, noise, plant, unused, unused_gradient};

/// Settings of [`compensating`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompensatingSettings {
    /// Groups, options and budget.
    pub shape: Shape,
    /// Dimension `d` of the error vectors. Far below `N` many assignments cancel
    /// almost completely; far above `N` errors are orthogonal and the loss nearly
    /// separable.
    pub rank: usize,
    /// Share of an error that all groups have in common, from 0 to 1. It makes
    /// errors add up systematically, so that scores taken one at a time mislead.
    pub common: f64,
    /// Standard deviation of the noise of one draw, relative to the typical size
    /// of a gradient entry. 0: deterministic.
    pub noise: f64,
    /// Seed of the instance.
    pub seed: u64,
}

/// `I(x) = ‖Σ_i (V_i[x_i] − V_i[x*_i])‖²`.
#[derive(Debug, Clone)]
pub struct Compensating {
    problem: Problem,
    rank: usize,
    /// `V_ik − V_i[x*_i]` for every option, `rank` numbers each.
    deviations: Vec<f64>,
    noise: f64,
    seed: u64,
}

/// Draws an instance of the family.
///
/// # Errors
/// [`ProblemError`] if the shape is empty.
pub fn compensating(settings: CompensatingSettings) -> Result<Planted, ProblemError> {
    let mut random = stream(settings.seed, Purpose::Instance, 1);
    let (problem, optimum) = plant(settings.shape, &mut random)?;
    let rank = settings.rank.max(1);
    let unit = |random: &mut rco_core::rng::Stream| -> Vec<f64> {
        (0..rank).map(|_| random.normal() / (rank as f64).sqrt()).collect()
    };
    let common = unit(&mut random);
    let own = (1.0 - settings.common * settings.common).max(0.0).sqrt();
    let mut deviations = Vec::with_capacity(problem.option_count() * rank);
    for group in 0..problem.group_count() {
        // Sensitivities differ by a factor of up to 8; each bit halves the error.
        let scale = (random.uniform() * 3.0).exp2() / (problem.group_count() as f64).sqrt();
        let vectors: Vec<Vec<f64>> = (0..problem.options_of(group).len())
            .map(|k| {
                let size = scale * (-(k as f64)).exp2();
                let noise = unit(&mut random);
                (0..rank).map(|r| size * (settings.common * common[r] + own * noise[r])).collect()
            })
            .collect();
        let planted = vectors[optimum.option(group)].clone();
        for vector in &vectors {
            deviations.extend(vector.iter().zip(&planted).map(|(v, p)| v - p));
        }
    }
    let mut objective = Compensating {
        problem: problem.clone(),
        rank,
        deviations,
        noise: 0.0,
        seed: settings.seed,
    };
    if settings.noise > 0.0 {
        let start = Assignment::new(vec![0; problem.group_count()]);
        let gradient = objective.gradient(&start);
        let mean = gradient.iter().map(|g| g.abs()).sum::<f64>() / gradient.len() as f64;
        objective.noise = settings.noise * mean;
    }
    Ok(Planted { problem, objective: Box::new(objective), optimum })
}

impl Compensating {
    /// `Σ_i (V_i[x_i] − V_i[x*_i])`.
    fn sum(&self, assignment: &Assignment) -> Vec<f64> {
        let mut sum = vec![0.0; self.rank];
        for group in 0..self.problem.group_count() {
            let flat = self.problem.options_of(group).start + assignment.option(group);
            let vector = &self.deviations[flat * self.rank..(flat + 1) * self.rank];
            sum.iter_mut().zip(vector).for_each(|(s, v)| *s += v);
        }
        sum
    }

    fn gradient(&self, assignment: &Assignment) -> Vec<f64> {
        let sum = self.sum(assignment);
        let mut gradient = unused_gradient(&self.problem);
        for (g, vector) in gradient.iter_mut().zip(self.deviations.chunks_exact(self.rank)) {
            *g += 2.0 * vector.iter().zip(&sum).map(|(v, s)| v * s).sum::<f64>();
        }
        gradient
    }

    fn exact_loss(&self, assignment: &Assignment) -> f64 {
        let square: f64 = self.sum(assignment).iter().map(|s| s * s).sum();
        unused(&self.problem, assignment) + square
    }

    /// The linear noise of one draw, one number per option.
    fn noise_of(&self, draw: Draw) -> Vec<f64> {
        let mut random = noise(self.seed, draw);
        (0..self.problem.option_count()).map(|_| self.noise * random.normal()).collect()
    }

    fn noise_at(&self, noise: &[f64], assignment: &Assignment) -> f64 {
        (0..self.problem.group_count())
            .map(|i| noise[self.problem.options_of(i).start + assignment.option(i)])
            .sum()
    }
}

impl Objective for Compensating {
    fn evaluate(
        &mut self,
        assignment: &Assignment,
        draw: Draw,
    ) -> Result<Evaluation, ObjectiveError> {
        let mut loss = self.exact_loss(assignment);
        let mut gradient = self.gradient(assignment);
        if self.noise > 0.0 {
            let noise = self.noise_of(draw);
            loss += self.noise_at(&noise, assignment);
            gradient.iter_mut().zip(&noise).for_each(|(g, n)| *g += n);
        }
        Ok(Evaluation { loss, gradient })
    }

    fn loss(&mut self, assignment: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        let exact = self.exact_loss(assignment);
        let Split::Draws { first, count } = split else { return Ok(exact) };
        if self.noise == 0.0 || count == 0 {
            return Ok(exact);
        }
        let noise: f64 = (0..u64::from(count))
            .map(|i| {
                let noise = self.noise_of(Draw(first.0.wrapping_add(i)));
                self.noise_at(&noise, assignment)
            })
            .sum();
        Ok(exact + noise / f64::from(count))
    }

    fn is_stochastic(&self) -> bool {
        self.noise > 0.0
    }

    fn fingerprint(&self) -> String {
        format!(
            "compensating seed={} rank={} noise={} options={}",
            self.seed,
            self.rank,
            self.noise,
            self.problem.option_count()
        )
    }
}
