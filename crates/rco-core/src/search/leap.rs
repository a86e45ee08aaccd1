//! Plans that the quadratic model of the loss promises: simulated annealing on the model.

use super::curvature::Model;
use crate::problem::Problem;
use crate::rng::Stream;

/// Proposals for each decision, and at most.
const PROPOSALS: usize = 4_000;
const MOST_PROPOSALS: usize = 400_000;
/// Bound of proposals times rank of the model.
const MOST_WORK: usize = 1 << 25;
/// Proposals that set the first temperature.
const PROBES: usize = 256;
/// First temperature, relative to the mean change that a proposal makes, and last one.
const HOT: f64 = 0.5;
const COLD: f64 = 1e-4;

/// The plan with the smallest predicted loss among those met on the way, which differ
/// from `base` in no more than `radius` decisions and keep every budget; `None` if no
/// change is predicted to help.
pub(crate) fn leap(
    problem: &Problem,
    model: &Model,
    base: &[u32],
    radius: usize,
    random: &mut Stream,
) -> Option<Vec<u32>> {
    let mut walk = Walk::new(problem, model, base, radius)?;
    let mut sum = 0.0;
    for _ in 0..PROBES {
        if let Some(change) = walk.propose(random) {
            sum += change.abs();
        }
    }
    let scale = sum / PROBES as f64;
    if scale <= 0.0 {
        return None;
    }
    let rank = model.signs.len().max(1);
    let count = (PROPOSALS * base.len()).min(MOST_PROPOSALS).min(MOST_WORK / rank).max(PROBES);
    let cooling = (COLD / HOT).powf(1.0 / count as f64);
    let mut temperature = HOT * scale;
    let mut best = (0.0, None);
    for _ in 0..count {
        temperature *= cooling;
        let Some(change) = walk.propose(random) else { continue };
        if change > 0.0 && random.uniform() >= (-change / temperature).exp() {
            continue;
        }
        walk.accept(change);
        if walk.predicted < best.0 - 1e-12 * scale {
            best = (walk.predicted, Some(walk.choices.clone()));
        }
    }
    best.1
}

/// A plan on its way over the model.
struct Walk<'a> {
    problem: &'a Problem,
    model: &'a Model,
    base: &'a [u32],
    radius: usize,
    /// Decisions with a choice.
    free: Vec<usize>,
    choices: Vec<u32>,
    /// Total cost in every resource.
    totals: Vec<i64>,
    /// `⟨f_m, x − base⟩`.
    along: Vec<f64>,
    /// Decisions that differ from the base.
    distance: usize,
    predicted: f64,
    /// The proposal: decisions and options, and the sum of its `f`.
    changes: Vec<(usize, u32)>,
    step: Vec<f64>,
}

impl<'a> Walk<'a> {
    fn new(problem: &'a Problem, model: &'a Model, base: &'a [u32], radius: usize) -> Option<Self> {
        let decisions = problem.decisions();
        let free: Vec<usize> =
            (0..base.len()).filter(|&d| decisions.options_of(d).len() > 1).collect();
        if free.is_empty() {
            return None;
        }
        let rank = model.signs.len();
        Some(Self {
            problem,
            model,
            base,
            radius,
            free,
            choices: base.to_vec(),
            totals: (0..problem.budgets().len())
                .map(|r| decisions.cost_of(base, r).cast_signed())
                .collect(),
            along: vec![0.0; rank],
            distance: 0,
            predicted: 0.0,
            changes: Vec::with_capacity(2),
            step: vec![0.0; rank],
        })
    }

    /// Draws a change of one decision or of two; the change of the predicted loss if it
    /// keeps budgets and radius.
    fn propose(&mut self, random: &mut Stream) -> Option<f64> {
        self.changes.clear();
        self.draw(random);
        // Alone where that fits, for one half; else with another decision.
        if random.uniform() < 0.5 || !self.fits() {
            self.draw(random);
            if self.changes.len() < 2 || !self.fits() {
                return None;
            }
        }
        let mut distance = self.distance;
        for &(d, k) in &self.changes {
            distance += usize::from(k != self.base[d]);
            distance -= usize::from(self.choices[d] != self.base[d]);
        }
        if distance > self.radius && distance >= self.distance {
            return None;
        }
        self.step.fill(0.0);
        let mut change = 0.0;
        for &(d, k) in &self.changes {
            let start = self.problem.decisions().offsets()[d];
            let (old, new) = (start + self.choices[d] as usize, start + k as usize);
            change += self.model.gradient[new] - self.model.gradient[old];
            let pairs = self.model.vector(new).iter().zip(self.model.vector(old));
            self.step.iter_mut().zip(pairs).for_each(|(s, (n, o))| *s += n - o);
        }
        let terms = self.model.signs.iter().zip(&self.along).zip(&self.step);
        Some(change + terms.map(|((sign, z), s)| sign * s * (z + 0.5 * s)).sum::<f64>())
    }

    /// Adds a random change of a decision that the proposal does not touch yet.
    fn draw(&mut self, random: &mut Stream) {
        let d = self.free[random.below(self.free.len())];
        if self.changes.iter().any(|&(other, _)| other == d) {
            return;
        }
        let count = self.problem.decisions().options_of(d).len();
        let k = random.below(count - 1) as u32;
        self.changes.push((d, k + u32::from(k >= self.choices[d])));
    }

    fn fits(&self) -> bool {
        let budgets = self.problem.budgets().iter().enumerate();
        budgets.into_iter().all(|(r, b)| b.admits((self.totals[r] + self.price(r)).cast_unsigned()))
    }

    /// Cost of the proposal in one resource.
    fn price(&self, resource: usize) -> i64 {
        let decisions = self.problem.decisions();
        let costs = decisions.costs(resource);
        let price = |&(d, k): &(usize, u32)| {
            let start = decisions.offsets()[d];
            let old = costs[start + self.choices[d] as usize];
            costs[start + k as usize].cast_signed() - old.cast_signed()
        };
        self.changes.iter().map(price).sum()
    }

    fn accept(&mut self, change: f64) {
        for r in 0..self.totals.len() {
            self.totals[r] += self.price(r);
        }
        for &(d, k) in &self.changes {
            self.distance += usize::from(k != self.base[d]);
            self.distance -= usize::from(self.choices[d] != self.base[d]);
            self.choices[d] = k;
        }
        self.along.iter_mut().zip(&self.step).for_each(|(z, s)| *z += s);
        self.predicted += change;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::search::testing::{Spec, feasible, problem};

    /// A model of rank 2 around all cheapest options.
    fn model(options: usize, seed: u64) -> Model {
        let mut random = stream(seed, Purpose::Instance, 8);
        Model {
            gradient: (0..options).map(|_| random.normal()).collect(),
            vectors: (0..2 * options).map(|_| random.normal()).collect(),
            signs: vec![1.0, -0.2],
        }
    }

    /// Predicted change of a plan against `base`, relative to whose options the model
    /// need not be.
    fn value(problem: &Problem, model: &Model, base: &[u32], plan: &[u32]) -> f64 {
        let at = |d: usize, k: u32| problem.decisions().offsets()[d] + k as usize;
        let mut linear = 0.0;
        let mut along = [0.0; 2];
        for d in 0..plan.len() {
            let (new, old) = (at(d, plan[d]), at(d, base[d]));
            linear += model.gradient[new] - model.gradient[old];
            for (m, z) in along.iter_mut().enumerate() {
                *z += model.vector(new)[m] - model.vector(old)[m];
            }
        }
        linear + 0.5 * along.iter().zip(&model.signs).map(|(z, s)| s * z * z).sum::<f64>()
    }

    #[test]
    fn the_leap_goes_to_the_best_plan_of_the_model() {
        for seed in 0..10 {
            let problem = problem(&Spec { groups: 6, options: 4, seed, ..Spec::default() });
            let plans = feasible(&problem);
            let base = problem.decisions().restrict(&plans[0]);
            let model = model(problem.option_count(), seed);
            let of = |plan: &[u32]| value(&problem, &model, &base, plan);
            let least = plans.iter().map(|a| of(a.choices())).fold(f64::MAX, f64::min);
            let found = leap(&problem, &model, &base, 6, &mut stream(seed, Purpose::Polish, 0));
            let found = found.unwrap_or_else(|| base.clone());
            assert!(problem.is_feasible(&problem.decisions().expand(&found)));
            assert!((of(&found) - least).abs() < 1e-9, "{seed}: {} {least}", of(&found));
        }
    }

    #[test]
    fn the_radius_is_kept() {
        let problem = problem(&Spec { groups: 12, ..Spec::default() });
        let base = problem.decisions().restrict(&feasible(&problem)[0]);
        let model = model(problem.option_count(), 3);
        for radius in 1..6 {
            let random = &mut stream(1, Purpose::Polish, 0);
            let Some(found) = leap(&problem, &model, &base, radius, random) else { continue };
            let changed = found.iter().zip(&base).filter(|(a, b)| a != b).count();
            assert!((1..=radius).contains(&changed), "{changed} {radius}");
        }
    }

    #[test]
    fn there_is_no_leap_where_nothing_can_improve() {
        let problem = problem(&Spec { groups: 4, ..Spec::default() });
        let base = problem.decisions().restrict(&feasible(&problem)[0]);
        let count = problem.option_count();
        let flat = Model { gradient: vec![0.0; count], vectors: Vec::new(), signs: Vec::new() };
        assert_eq!(leap(&problem, &flat, &base, 4, &mut stream(1, Purpose::Polish, 0)), None);
    }
}
