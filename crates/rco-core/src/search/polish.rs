//! Discrete polish: local search by measured loss.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::curvature::Model;
use super::error::SearchError;
use super::leap::leap;
use super::method::{Method, Progress, from_json, to_json};
use super::moves::{Move, ranked_moves};
use super::name::MethodName;
use super::oracle::{Oracle, Sample};
use super::settings::PolishSettings;
use crate::rng::{Purpose, stream};

const NAME: MethodName = MethodName::Polish;

/// Leaps in a row that do not help before single moves are tried.
const LEAPS: u64 = 8;
/// Smallest number of decisions that a leap may change.
const LEAST_RADIUS: usize = 4;

/// Improves the best plans so far by moves of one decision and swaps of two.
///
/// Where the objective is deterministic, a quadratic model of the loss is fitted to the
/// gradients so far, and the plan that it promises most of is measured; that goes on,
/// each time with one more gradient, until [`LEAPS`] such leaps in a row do not help.
///
/// Moves are ranked by the option gradient at the plan and the curvature of the model,
/// measured in batches, and accepted only if the measured calibration loss falls. After a batch with several
/// falls their union is tried as well. A plan is a local optimum when none of the
/// moves that were ranked first improves it.
#[derive(Debug)]
pub(crate) struct Polish {
    settings: PolishSettings,
    seed: u64,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Plans still to start from, the next one last.
    starts: Option<Vec<Vec<u32>>>,
    /// Plan at work and its calibration loss.
    current: Option<(Vec<u32>, f64)>,
    /// Changes accepted since the start.
    accepted: u64,
    /// Moves still to be measured, the next one last; `None` before the gradient.
    moves: Option<Vec<Move>>,
    finishing: bool,
    /// Leaps tried since the start, and those in a row that did not help.
    leaps: u64,
    failed: u64,
    /// Decisions that the next leap may change; `None` for all.
    radius: Option<usize>,
}

impl Polish {
    pub(crate) fn new(settings: PolishSettings, seed: u64) -> Self {
        Self { settings, seed, state: State::default() }
    }

    /// Measures the plans to start from and keeps the best.
    fn begin(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let memory = &oracle.state.memory;
        // Twice as many as wanted: draws may have flattered some of them.
        let ranked = memory.ranked().into_iter().take(2 * self.settings.starts);
        let plans: Vec<Vec<u32>> =
            ranked.map(|index| memory.plans()[index].choices.clone()).collect();
        let losses = oracle.losses(NAME, &plans, Sample::Calibration)?;
        let mut measured: Vec<(f64, Vec<u32>)> = losses.iter().copied().zip(plans).collect();
        measured.sort_by(|a, b| a.0.total_cmp(&b.0));
        measured.truncate(self.settings.starts);
        let loss = measured.first().map(|(loss, _)| *loss);
        self.state.starts = Some(measured.into_iter().rev().map(|(_, plan)| plan).collect());
        Ok(Progress { done: loss.is_none(), loss, ..Progress::default() })
    }

    /// Takes up the next plan to start from.
    fn next_start(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        self.finish_current(oracle)?;
        let Some(plan) = self.state.starts.as_mut().and_then(Vec::pop) else {
            return Ok(Progress::done());
        };
        let losses = oracle.losses(NAME, std::slice::from_ref(&plan), Sample::Calibration)?;
        let Some(&loss) = losses.first() else { return Ok(Progress::done()) };
        self.state.current = Some((plan, loss));
        self.state.accepted = 0;
        self.state.moves = None;
        self.state.failed = 0;
        self.state.radius = None;
        Ok(Progress::measured(loss))
    }

    fn finish_current(&mut self, oracle: &mut Oracle<'_>) -> Result<(), SearchError> {
        if let Some((plan, _)) = self.state.current.take()
            && self.state.accepted > 0
        {
            oracle.propose(NAME, "moves and swaps", &plan)?;
        }
        Ok(())
    }

    /// Leaps to the plan that a model of the loss promises; without a model, or once
    /// leaps do not help, ranks the moves of the plan by option gradient and curvature.
    fn rank(
        &mut self,
        oracle: &mut Oracle<'_>,
        plan: &[u32],
        loss: f64,
    ) -> Result<Progress, SearchError> {
        let known = oracle.state.history.find(plan).map(<[f64]>::to_vec);
        let (gradient, progress) = if let Some(gradient) = known {
            (gradient, Progress::default())
        } else if let Some((gradient, loss)) = self.gradient(oracle, plan)? {
            (gradient, Progress::measured(loss))
        } else {
            self.state.finishing = true;
            return Ok(Progress::default());
        };
        let problem = oracle.problem();
        let history = &oracle.state.history;
        let model = Model::fit(oracle.decisions(), history, plan, &gradient);
        if history.is_kept() && self.state.failed < LEAPS {
            return self.leap(oracle, &model, plan, loss);
        }
        let mut moves = ranked_moves(problem, plan, &model, self.settings.moves);
        moves.reverse();
        self.state.moves = Some(moves);
        Ok(progress)
    }

    /// Mean option gradient and loss at a plan; `None` at the limit of evaluations.
    fn gradient(
        &self,
        oracle: &mut Oracle<'_>,
        plan: &[u32],
    ) -> Result<Option<(Vec<f64>, f64)>, SearchError> {
        let draws = if oracle.is_deterministic() { 1 } else { self.settings.draws };
        let plans = vec![plan.to_vec(); draws as usize];
        let measured = oracle.gradients(NAME, &plans)?;
        if measured.is_empty() {
            return Ok(None);
        }
        let share = 1.0 / measured.len() as f64;
        let mut gradient = vec![0.0; oracle.decisions().option_count()];
        for one in &measured {
            for (mean, g) in gradient.iter_mut().zip(&one.gradient) {
                *mean += share * g;
            }
        }
        Ok(Some((gradient, measured.iter().map(|m| m.loss).sum::<f64>() * share)))
    }

    /// Measures the plan that the model promises most of.
    fn leap(
        &mut self,
        oracle: &mut Oracle<'_>,
        model: &Model,
        plan: &[u32],
        loss: f64,
    ) -> Result<Progress, SearchError> {
        let radius = self.state.radius.unwrap_or(plan.len());
        let mut random = stream(self.seed, Purpose::Polish, self.state.leaps);
        self.state.leaps += 1;
        let found = leap(oracle.problem(), model, plan, radius, &mut random)
            .filter(|target| oracle.state.history.find(target).is_none());
        let measured = match found {
            Some(target) => {
                let Some((_, found)) = self.gradient(oracle, &target)? else {
                    self.state.finishing = true;
                    return Ok(Progress::default());
                };
                Some((target, found))
            }
            None => None,
        };
        let progress = Progress { loss: measured.as_ref().map(|m| m.1), ..Progress::default() };
        match measured {
            Some((target, found)) if found < loss => {
                self.state.current = Some((target, found));
                self.state.accepted += 1;
                self.state.failed = 0;
                self.state.radius = self.state.radius.map(|radius| 2 * radius);
            }
            _ => {
                self.state.failed += 1;
                if self.state.failed.is_multiple_of(2) {
                    self.state.radius = Some((radius.min(plan.len()) / 2).max(LEAST_RADIUS));
                }
            }
        }
        Ok(progress)
    }

    /// Measures the next batch of moves and accepts the best if it improves the plan.
    fn measure(
        &mut self,
        oracle: &mut Oracle<'_>,
        plan: &[u32],
        loss: f64,
    ) -> Result<Progress, SearchError> {
        let moves = self.state.moves.get_or_insert_default();
        let batch: Vec<Move> = (0..self.settings.batch).map_while(|_| moves.pop()).collect();
        if batch.is_empty() {
            return self.next_start(oracle);
        }
        let plans: Vec<Vec<u32>> = batch.iter().map(|m| m.apply(plan)).collect();
        let losses = oracle.losses(NAME, &plans, Sample::Calibration)?;
        self.state.finishing |= losses.len() < plans.len();
        let mut better: Vec<usize> = (0..losses.len()).filter(|&n| losses[n] < loss).collect();
        better.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]).then(a.cmp(&b)));
        let Some(&first) = better.first() else {
            return Ok(Progress { loss: losses.first().copied(), ..Progress::default() });
        };
        let mut accepted = (plans[first].clone(), losses[first]);
        if better.len() > 1 {
            let union = union(oracle, plan, better.iter().map(|&n| &batch[n]));
            if union != accepted.0
                && let Some(&found) =
                    oracle.losses(NAME, std::slice::from_ref(&union), Sample::Calibration)?.first()
                && found < accepted.1
            {
                accepted = (union, found);
            }
        }
        let found = accepted.1;
        self.state.current = Some(accepted);
        self.state.moves = None;
        self.state.accepted += 1;
        self.state.failed = 0;
        Ok(Progress::measured(found))
    }
}

/// All `moves` that fit together, the earlier ones first.
fn union<'m>(oracle: &Oracle<'_>, plan: &[u32], moves: impl Iterator<Item = &'m Move>) -> Vec<u32> {
    let mut out = plan.to_vec();
    for candidate in moves {
        let untouched = candidate.changes.iter().all(|&(d, _)| out[d] == plan[d]);
        if untouched {
            let next = candidate.apply(&out);
            if oracle.is_feasible(&next) {
                out = next;
            }
        }
    }
    out
}

impl Method for Polish {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        None
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        if self.state.finishing {
            self.finish_current(oracle)?;
            return Ok(Progress::done());
        }
        if self.state.starts.is_none() {
            return self.begin(oracle);
        }
        let Some((plan, loss)) = self.state.current.clone() else {
            return self.next_start(oracle);
        };
        if self.state.moves.is_some() {
            return self.measure(oracle, &plan, loss);
        }
        if self.state.accepted >= self.settings.rounds {
            return self.next_start(oracle);
        }
        self.rank(oracle, &plan, loss)
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
