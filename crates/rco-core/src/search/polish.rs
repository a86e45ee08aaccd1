//! Discrete polish: local search by measured loss.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::SearchError;
use super::method::{Method, Progress, from_json, to_json};
use super::moves::{Move, ranked_moves};
use super::name::MethodName;
use super::oracle::{Oracle, Sample};
use super::settings::PolishSettings;

const NAME: MethodName = MethodName::Polish;

/// Improves the best plans so far by moves of one decision and swaps of two.
///
/// Moves are ranked by the option gradient at the plan, measured in batches, and
/// accepted only if the measured calibration loss falls. After a batch with several
/// falls their union is tried as well. A plan is a local optimum when none of the
/// moves that were ranked first improves it.
#[derive(Debug)]
pub(crate) struct Polish {
    settings: PolishSettings,
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
}

impl Polish {
    pub(crate) fn new(settings: PolishSettings) -> Self {
        Self { settings, state: State::default() }
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

    /// Ranks the moves of the plan by its option gradient.
    fn rank(&mut self, oracle: &mut Oracle<'_>, plan: &[u32]) -> Result<Progress, SearchError> {
        let draws = if oracle.is_deterministic() { 1 } else { self.settings.draws };
        let plans = vec![plan.to_vec(); draws as usize];
        let measured = oracle.gradients(NAME, &plans)?;
        if measured.is_empty() {
            self.state.finishing = true;
            return Ok(Progress::default());
        }
        let share = 1.0 / measured.len() as f64;
        let mut gradient = vec![0.0; oracle.decisions().option_count()];
        for one in &measured {
            for (mean, g) in gradient.iter_mut().zip(&one.gradient) {
                *mean += share * g;
            }
        }
        let mut moves = ranked_moves(oracle.problem(), plan, &gradient, self.settings.moves);
        moves.reverse();
        self.state.moves = Some(moves);
        Ok(Progress::measured(measured.iter().map(|m| m.loss).sum::<f64>() * share))
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
        self.rank(oracle, &plan)
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
