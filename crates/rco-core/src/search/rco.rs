//! Riemannian Constrained Optimization as a method.

use std::sync::Arc;

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::SearchError;
use super::method::{Method, Progress, from_json, to_json};
use super::name::MethodName;
use super::oracle::Oracle;
use super::rounding;
use super::settings::WarmStartSettings;
use super::warm::start_logits;
use crate::baselines::relaxed::{expected_costs, remember_mean};
use crate::baselines::scores::{Estimator, ScoreSettings};
use crate::optimizer::{Rco, RcoSettings, RcoState};

const NAME: MethodName = MethodName::Rco;

/// A round with fewer steps is not worth its roundings.
const LEAST_STEPS: u64 = 8;
/// Most rounds.
const MOST_ROUNDS: u64 = 16;
/// Start logit of the options of the best plan in every second further round.
const BEST_PLAN_LOGIT: f64 = 2.0;
/// Keeps the noise of the rounds apart.
const ROUND_SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// Rounds of a start, RCO steps and roundings.
///
/// The first round starts warm. A deterministic objective is asked only once for
/// equal samples of a step, which leaves evaluations of a limit over: further
/// rounds spend them, by turns from equal logits and from the best plan so far.
pub(crate) struct RcoMethod {
    settings: RcoSettings,
    warm_start: WarmStartSettings,
    scores: ScoreSettings,
    /// Whether further rounds may follow the first.
    restarts: bool,
    pool: Arc<ThreadPool>,
    rco: Option<Rco>,
    /// State that the optimiser is to continue from.
    restored: Option<RcoState>,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    scores: Estimator,
    mean_gradient: Option<Vec<f64>>,
    finishing: bool,
    /// Number of this round, counted from 0.
    round: u64,
    /// Steps of this round; 0 leaves the start to be rounded.
    steps: u64,
    /// Steps taken before this round.
    earlier: u64,
    /// Steps taken, those of all rounds, roundings and scores.
    taken: u64,
}

#[derive(Serialize, Deserialize)]
struct Saved<S> {
    state: S,
    rco: Option<RcoState>,
}

impl RcoMethod {
    /// Takes `steps` steps in the first round, whatever `settings` says.
    pub(crate) fn new(
        settings: RcoSettings,
        warm_start: WarmStartSettings,
        scores: ScoreSettings,
        steps: u64,
        restarts: bool,
        pool: Arc<ThreadPool>,
    ) -> Self {
        let state = State { steps, ..State::default() };
        Self { settings, warm_start, scores, restarts, pool, rco: None, restored: None, state }
    }

    fn begin(&mut self, oracle: &Oracle<'_>) -> Result<Rco, SearchError> {
        let decisions = oracle.decisions();
        let budgets = oracle.problem().budgets();
        let settings = RcoSettings {
            steps: self.state.steps.max(1),
            seed: self.settings.seed.wrapping_add(self.state.round.wrapping_mul(ROUND_SEED)),
            ..self.settings.clone()
        };
        if let Some(state) = self.restored.take() {
            return Ok(Rco::resume(decisions, budgets, settings, state)?);
        }
        let mut logits = vec![0.0; decisions.option_count()];
        if self.state.round == 0 {
            if let Some(scores) = oracle.scores().filter(|_| self.warm_start.enabled) {
                logits = start_logits(decisions, scores, self.warm_start.spread);
            }
        } else if self.state.round.is_multiple_of(2)
            && let Some(best) = oracle.best()
        {
            for (start, &k) in decisions.offsets().iter().zip(&best.choices) {
                logits[start + k as usize] = BEST_PLAN_LOGIT;
            }
        }
        Ok(Rco::new(decisions, budgets, settings, &logits)?)
    }

    /// Ends a round; returns whether another one follows.
    fn next_round(&mut self, oracle: &Oracle<'_>) -> bool {
        let left = oracle.remaining().saturating_sub(rounding::EVALUATIONS);
        let steps = left / self.settings.samples_per_step as u64;
        let another = self.restarts
            && !self.state.finishing
            && self.state.round + 1 < MOST_ROUNDS
            && steps >= LEAST_STEPS;
        if another {
            self.state.round += 1;
            self.state.steps = steps;
            self.state.earlier = self.state.taken;
            self.state.mean_gradient = None;
        }
        another
    }
}

impl Method for RcoMethod {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some((self.state.earlier + self.state.steps + 1).max(self.state.taken))
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        self.state.taken += 1;
        if self.rco.is_none() && self.warm_start.enabled && oracle.scores().is_none() {
            let (loss, _) = self.state.scores.step(oracle, NAME, self.scores.points)?;
            self.state.earlier = self.state.taken;
            return Ok(Progress { loss, ..Progress::default() });
        }
        let mut rco = match self.rco.take() {
            Some(rco) => rco,
            None => self.begin(oracle)?,
        };
        let finished = self.state.finishing || rco.step() >= self.state.steps;
        if finished {
            let gradient = self.state.mean_gradient.as_deref();
            let loss = rounding::propose_all(oracle, NAME, rco.logits(), gradient)?;
            let done = !self.next_round(oracle);
            return Ok(Progress { done, loss, ..Progress::default() });
        }
        let samples = self.pool.install(|| rco.sample())?;
        let plans: Vec<Vec<u32>> = samples.into_iter().map(|s| s.choices).collect();
        let measured = oracle.gradients(NAME, &plans)?;
        if measured.len() < plans.len() {
            self.state.finishing = true;
            self.rco = Some(rco);
            return Ok(Progress::default());
        }
        let share = 1.0 / measured.len() as f64;
        let loss = measured.iter().map(|m| m.loss).sum::<f64>() * share;
        let gradients: Vec<Vec<f64>> = measured.into_iter().map(|m| m.gradient).collect();
        let mut mean = vec![0.0; oracle.decisions().option_count()];
        for gradient in &gradients {
            for (mean, g) in mean.iter_mut().zip(gradient) {
                *mean += share * g;
            }
        }
        remember_mean(&mut self.state.mean_gradient, &mean);
        let report = rco.update(&gradients)?;
        let progress = Progress {
            done: false,
            loss: Some(loss),
            expected_cost: expected_costs(oracle, rco.probs()),
            tau: Some(report.tau),
        };
        self.rco = Some(rco);
        Ok(progress)
    }

    fn wind_up(&mut self) {
        self.state.scores.wind_up();
        self.state.finishing = true;
    }

    fn save(&self) -> Result<Value, SearchError> {
        let rco = self.rco.as_ref().map(Rco::state).or_else(|| self.restored.clone());
        to_json(NAME, &Saved { state: &self.state, rco })
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        let saved: Saved<State> = from_json(NAME, state)?;
        self.state = saved.state;
        self.restored = saved.rco;
        Ok(())
    }
}
