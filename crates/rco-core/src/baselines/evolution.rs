//! Evolutionary search after EvoPress (Sieberling, Kuznedelev, Kurtic and Alistarh
//! 2024, arXiv 2410.14649).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mutation::Mutator;
use super::uniform::uniform_plan;
use crate::rng::{Purpose, stream};
use crate::search::fill::fill;
use crate::search::settings::at_least_one;
use crate::search::{
    Method, MethodName, Oracle, Progress, Sample, SearchError, from_json, to_json,
};

const NAME: MethodName = MethodName::Evolution;

/// One round of selection: the best `survivors` on `draws` common draws go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Plans that go on to the next round.
    pub survivors: usize,
    /// Draws that each plan is measured on.
    pub draws: u32,
}

/// Settings of [`Evolution`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvolutionSettings {
    /// Offspring λ of each generation, at least 1.
    pub offspring: u64,
    /// Generations without a limit of evaluations, at least 1.
    pub generations: u64,
    /// Level switches of one mutation at most, at least 1: the smaller of two
    /// uniform draws is taken.
    pub switches: usize,
    /// Rounds of selection with growing samples; the parent takes part in the last
    /// one. A deterministic objective has one round.
    pub selection: Vec<Selection>,
    /// The first parent.
    pub start: EvolutionStart,
}

/// The first parent of [`Evolution`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvolutionStart {
    /// The largest uniform plan that fits.
    #[default]
    Uniform,
    /// Of the uniform plan and the plans that the objective knows, all of them filled up to the
    /// budget by the scores at hand, the one with the least loss: where levels lie far apart, a
    /// uniform plan leaves much of the budget, and a few generations do not spend it.
    Best,
}

impl Default for EvolutionSettings {
    fn default() -> Self {
        Self {
            offspring: 16,
            generations: 100,
            switches: 3,
            selection: vec![
                Selection { survivors: 4, draws: 1 },
                Selection { survivors: 2, draws: 4 },
                Selection { survivors: 1, draws: 16 },
            ],
            start: EvolutionStart::default(),
        }
    }
}

impl EvolutionSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SearchError::Setting`].
    pub fn validate(&self) -> Result<(), SearchError> {
        at_least_one("baselines.evolution.offspring", self.offspring)?;
        at_least_one("baselines.evolution.generations", self.generations)?;
        at_least_one("baselines.evolution.switches", self.switches as u64)?;
        at_least_one("baselines.evolution.selection (rounds)", self.selection.len() as u64)?;
        for round in &self.selection {
            at_least_one("baselines.evolution.selection.survivors", round.survivors as u64)?;
            at_least_one("baselines.evolution.selection.draws", u64::from(round.draws))?;
        }
        Ok(())
    }

    /// The range a benchmark should try.
    pub fn tunings() -> Vec<Self> {
        let mut out = Vec::new();
        for offspring in [4, 16, 64] {
            for switches in [1, 3] {
                out.push(Self { offspring, switches, ..Self::default() });
            }
        }
        out
    }

    /// Evaluations of one generation at most.
    pub(crate) fn price(&self, deterministic: bool) -> u64 {
        if deterministic {
            return self.offspring;
        }
        let mut plans = self.offspring;
        let mut total = 0;
        for (n, round) in self.selection.iter().enumerate() {
            let parent = u64::from(n + 1 == self.selection.len());
            total += (plans + parent) * u64::from(round.draws);
            plans = plans.min(round.survivors as u64);
        }
        total
    }
}

/// A (1+λ) strategy: offspring are the parent with a few level switches (one
/// decision up, another down, so that the cost is kept), selected in rounds with
/// fewer plans and more draws each. Where it starts, [`EvolutionStart`] says.
#[derive(Debug)]
pub struct Evolution {
    settings: EvolutionSettings,
    seed: u64,
    generations: u64,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    parent: Vec<u32>,
    generation: u64,
    finishing: bool,
}

impl Evolution {
    /// Runs for `generations`.
    pub fn new(settings: EvolutionSettings, seed: u64, generations: u64) -> Self {
        Self { settings, seed, generations, state: State::default() }
    }

    /// Selects among `plans` in rounds; returns the winner and its last loss, or
    /// `None` when the evaluations have run out.
    fn select(
        &mut self,
        oracle: &mut Oracle<'_>,
        mut plans: Vec<Vec<u32>>,
    ) -> Result<Option<(Vec<u32>, f64)>, SearchError> {
        let rounds = if oracle.is_deterministic() {
            vec![Selection { survivors: 1, draws: 1 }]
        } else {
            self.settings.selection.clone()
        };
        for (n, round) in rounds.iter().enumerate() {
            let last = n + 1 == rounds.len();
            if last && !plans.contains(&self.state.parent) {
                // First, so that the parent stays unless an offspring is better.
                plans.insert(0, self.state.parent.clone());
            }
            let losses = oracle.losses(NAME, &plans, Sample::Draws(round.draws))?;
            if losses.len() < plans.len() {
                self.state.finishing = true;
                if !oracle.is_deterministic() {
                    return Ok(None);
                }
            }
            let mut order: Vec<usize> = (0..losses.len()).collect();
            order.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]).then(a.cmp(&b)));
            if last {
                return Ok(order.first().map(|&best| (plans[best].clone(), losses[best])));
            }
            order.truncate(round.survivors);
            plans = order.into_iter().map(|index| plans[index].clone()).collect();
        }
        Ok(None)
    }
}

/// The best of the plans that need no search, filled up to the budget.
fn best_start(oracle: &mut Oracle<'_>) -> Result<Vec<u32>, SearchError> {
    let mut plans = vec![uniform_plan(oracle)?];
    let known = oracle.known_plans().into_iter().map(|(_, plan)| plan);
    plans.extend(known.filter(|plan| oracle.is_feasible(plan)));
    if let Some(scores) = oracle.scores() {
        let values: Vec<f64> = scores.iter().map(|s| -s).collect();
        for plan in &mut plans {
            fill(oracle, &values, plan);
        }
    }
    let mut distinct: Vec<Vec<u32>> = Vec::with_capacity(plans.len());
    for plan in plans {
        if !distinct.contains(&plan) {
            distinct.push(plan);
        }
    }
    let losses = oracle.losses(NAME, &distinct, Sample::Calibration)?;
    let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(0);
    Ok(distinct.swap_remove(best))
}

impl Method for Evolution {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.generations + 1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        if self.state.parent.is_empty() {
            self.state.parent = match self.settings.start {
                EvolutionStart::Uniform => uniform_plan(oracle)?,
                EvolutionStart::Best => best_start(oracle)?,
            };
        }
        if self.state.finishing || self.state.generation >= self.generations {
            oracle.propose(NAME, "last parent", &self.state.parent)?;
            let plan = std::slice::from_ref(&self.state.parent);
            let loss = oracle.losses(NAME, plan, Sample::Calibration)?.pop();
            return Ok(Progress { done: true, loss, ..Progress::default() });
        }
        let mut mutator = Mutator::new(oracle.problem(), self.settings.switches);
        let mut plans = Vec::with_capacity(self.settings.offspring as usize);
        for n in 0..self.settings.offspring {
            let index = self.state.generation * self.settings.offspring + n;
            let mut stream = stream(self.seed, Purpose::Mutation, index);
            let child = mutator.mutate(&self.state.parent, &mut stream);
            if !plans.contains(&child) {
                plans.push(child);
            }
        }
        let winner = self.select(oracle, plans)?;
        self.state.generation += 1;
        let loss = winner.as_ref().map(|(_, loss)| *loss);
        if let Some((plan, _)) = winner {
            self.state.parent = plan;
        }
        Ok(Progress { done: false, loss, ..Progress::default() })
    }

    fn wind_up(&mut self) {
        self.state.finishing = true;
    }

    fn save(&self) -> Result<Value, SearchError> {
        to_json(NAME, &self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        self.state = from_json(NAME, state)?;
        Ok(())
    }
}
