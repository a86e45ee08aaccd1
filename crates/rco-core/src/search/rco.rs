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

/// Warm start, RCO steps, roundings.
pub(crate) struct RcoMethod {
    settings: RcoSettings,
    warm_start: WarmStartSettings,
    scores: ScoreSettings,
    /// Steps to take; 0 leaves the start to be rounded.
    steps: u64,
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
}

#[derive(Serialize, Deserialize)]
struct Saved<S> {
    state: S,
    rco: Option<RcoState>,
}

impl RcoMethod {
    /// Takes `steps` steps, whatever `settings` says.
    pub(crate) fn new(
        settings: RcoSettings,
        warm_start: WarmStartSettings,
        scores: ScoreSettings,
        steps: u64,
        pool: Arc<ThreadPool>,
    ) -> Self {
        let settings = RcoSettings { steps: steps.max(1), ..settings };
        Self {
            settings,
            warm_start,
            scores,
            steps,
            pool,
            rco: None,
            restored: None,
            state: State::default(),
        }
    }

    fn begin(&mut self, oracle: &Oracle<'_>) -> Result<Rco, SearchError> {
        let decisions = oracle.decisions();
        let budgets = oracle.problem().budgets();
        if let Some(state) = self.restored.take() {
            return Ok(Rco::resume(decisions, budgets, self.settings.clone(), state)?);
        }
        let logits = match oracle.scores() {
            Some(scores) if self.warm_start.enabled => {
                start_logits(decisions, scores, self.warm_start.spread)
            }
            _ => vec![0.0; decisions.option_count()],
        };
        Ok(Rco::new(decisions, budgets, self.settings.clone(), &logits)?)
    }
}

impl Method for RcoMethod {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.steps + 1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        if self.rco.is_none() && self.warm_start.enabled && oracle.scores().is_none() {
            let (loss, _) = self.state.scores.step(oracle, NAME, self.scores.points)?;
            return Ok(Progress { loss, ..Progress::default() });
        }
        let mut rco = match self.rco.take() {
            Some(rco) => rco,
            None => self.begin(oracle)?,
        };
        let finished = self.state.finishing || rco.step() >= self.steps;
        let progress = if finished {
            let gradient = self.state.mean_gradient.as_deref();
            let loss = rounding::propose_all(oracle, NAME, rco.logits(), gradient)?;
            Progress { done: true, loss, ..Progress::default() }
        } else {
            let samples = self.pool.install(|| rco.sample())?;
            let plans: Vec<Vec<u32>> = samples.into_iter().map(|s| s.choices).collect();
            let measured = oracle.gradients(NAME, &plans)?;
            if measured.len() < plans.len() {
                self.state.finishing = true;
                Progress::default()
            } else {
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
                Progress {
                    done: false,
                    loss: Some(loss),
                    expected_cost: expected_costs(oracle, rco.probs()),
                    tau: Some(report.tau),
                }
            }
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
