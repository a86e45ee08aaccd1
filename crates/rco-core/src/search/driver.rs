//! Runs the stages: steps, limits, checkpoints, the final choice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::checkpoint::{self, CHECKPOINT_FILE, RunState};
use super::error::SearchError;
use super::fingerprint::Fingerprint;
use super::method::{Method, Progress};
use super::name::MethodName;
use super::objective::Objective;
use super::observer::{CheckpointEvent, Control, Observer, StageEvent, StartEvent, StepEvent};
use super::oracle::Oracle;
use super::outcome::{SearchOutcome, StopReason};
use super::patience::Patience;
use super::select::select;
use super::settings::SearchSettings;
use super::stages::{Context, allowance, stages};
use crate::knapsack::Status;
use crate::problem::Problem;

/// Writing checkpoints takes at most one part in so many of the time.
const CHECKPOINT_SHARE: u32 = 20;

/// Searches for the assignment of `problem` with the smallest loss.
///
/// With [`SearchSettings::checkpoint`] the run saves its state as it goes, and a
/// call that finds the state of the same run goes on from there: the outcome is the
/// same to the bit (but for [`SearchOutcome::seconds`]) as that of an undisturbed
/// run. Limits of time and requests of an observer are the exception: they depend
/// on the clock. They leave the checkpoint from before they took effect, so that a
/// later call with more time continues the search.
///
/// The outcome is never worse on the held-out split than the result of any of the
/// methods that ran.
///
/// # Errors
/// [`SearchError`]: a setting out of range, a failing objective or observer, an
/// `exactly` budget that cannot be met, a checkpoint that is damaged or belongs to
/// another run.
pub fn search(
    problem: &Problem,
    objective: &mut dyn Objective,
    settings: &SearchSettings,
    observer: &mut dyn Observer,
) -> Result<SearchOutcome, SearchError> {
    settings.validate()?;
    let fingerprint = Fingerprint::new(problem, objective.fingerprint(), settings)
        .map_err(|source| SearchError::State { method: settings.method.to_string(), source })?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(settings.threads)
        .build()
        .map_err(|source| SearchError::Threads { threads: settings.threads, source })?;
    let separable = objective.is_separable();
    let knows_plans = !objective.known_plans().is_empty();
    let gradients = objective.has_gradients();
    let mut oracle = Oracle::new(problem, objective, settings.memory)?;
    if settings.polishes() && gradients {
        oracle.keep_gradients();
    }
    // Budgets that cannot be met together are reported before any work is done.
    oracle.knapsack(&vec![0.0; problem.decisions().option_count()])?;

    let saved = match &settings.checkpoint {
        Some(checkpoint) => checkpoint::read(&checkpoint.dir, &fingerprint)?,
        None => None,
    };
    let stages = stages(settings, separable, knows_plans, gradients);
    let start = StartEvent { resumed_at: saved.as_ref().map(|s| s.steps), stages: stages.clone() };
    observer.on_start(&start).map_err(SearchError::Observer)?;
    let mut driver = Driver {
        problem,
        settings,
        observer,
        oracle,
        pool: Arc::new(pool),
        stages,
        fingerprint,
        position: Position::default(),
        method: None,
        restored: Value::Null,
        started: Instant::now(),
        seconds_before: 0.0,
        last_checkpoint: Instant::now(),
        checkpoint_pause: Duration::ZERO,
    };
    if let Some(saved) = saved {
        driver.restore(saved)?;
    }
    driver.run()?;
    driver.finish()
}

/// Where a run stands.
#[derive(Debug, Clone, Default)]
struct Position {
    stage: usize,
    stage_steps: u64,
    allowance: Option<u64>,
    steps: u64,
    winding_up: bool,
    stopped: Option<StopReason>,
    patience: Patience,
}

struct Driver<'a> {
    problem: &'a Problem,
    settings: &'a SearchSettings,
    observer: &'a mut dyn Observer,
    oracle: Oracle<'a>,
    pool: Arc<rayon::ThreadPool>,
    stages: Vec<MethodName>,
    fingerprint: Fingerprint,
    position: Position,
    method: Option<Box<dyn Method>>,
    /// State of the method to be built next; `Null` for a fresh one.
    restored: Value,
    started: Instant,
    seconds_before: f64,
    last_checkpoint: Instant,
    checkpoint_pause: Duration,
}

impl Driver<'_> {
    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Whether the run was stopped by something that depends on the clock. From
    /// then on no checkpoint is written.
    fn cut_short(&self) -> bool {
        matches!(self.position.stopped, Some(StopReason::Time | StopReason::Requested))
    }

    fn restore(&mut self, saved: RunState) -> Result<(), SearchError> {
        if saved.stage > self.stages.len() {
            return Err(self.damaged("it names a stage that does not exist"));
        }
        let decisions = self.problem.decisions();
        let fits = |choices: &[u32]| {
            choices.len() == decisions.len()
                && choices
                    .iter()
                    .enumerate()
                    .all(|(d, &k)| (k as usize) < decisions.options_of(d).len())
        };
        let plans = saved.oracle.memory.plans();
        if !plans.iter().all(|p| fits(&p.choices) && self.oracle.is_feasible(&p.choices)) {
            return Err(self.damaged("it holds a plan that breaks a budget"));
        }
        self.position = Position {
            stage: saved.stage,
            stage_steps: saved.stage_steps,
            allowance: saved.allowance,
            steps: saved.steps,
            winding_up: saved.winding_up,
            stopped: saved.stopped,
            patience: saved.patience,
        };
        self.oracle.state = saved.oracle;
        self.restored = saved.method;
        self.seconds_before = saved.seconds;
        Ok(())
    }

    fn damaged(&self, reason: &str) -> SearchError {
        let dir = self.settings.checkpoint.as_ref().map(|c| c.dir.clone()).unwrap_or_default();
        checkpoint::damaged(&dir.join(CHECKPOINT_FILE), reason)
    }

    /// Runs all stages that are left.
    fn run(&mut self) -> Result<(), SearchError> {
        while self.position.stage < self.stages.len() && !self.cut_short() && !self.proven() {
            self.begin_stage()?;
            while !self.step()? {}
            self.method = None;
            self.position.stage += 1;
            self.position.stage_steps = 0;
            self.position.winding_up = false;
            self.position.patience = Patience::default();
            if !self.cut_short() {
                self.write_checkpoint()?;
            }
        }
        Ok(())
    }

    /// Whether the exact knapsack has solved the problem.
    fn proven(&self) -> bool {
        self.oracle.state.certificate.is_some_and(|c| c.status == Status::Optimal)
    }

    fn begin_stage(&mut self) -> Result<(), SearchError> {
        let stage = self.stages[self.position.stage];
        let resumed = self.position.stage_steps > 0;
        if !resumed {
            let spent = self.oracle.counts().limited();
            self.position.allowance = self
                .settings
                .evaluations
                .map(|limit| allowance(self.settings, stage, limit.saturating_sub(spent)));
            self.oracle.state.ceiling = self.position.allowance.map(|a| spent + a);
        }
        let context = Context {
            problem: self.problem,
            settings: self.settings,
            deterministic: self.oracle.is_deterministic(),
            allowance: self.position.allowance,
            pool: &self.pool,
        };
        let mut method = context.build(stage);
        let state = std::mem::take(&mut self.restored);
        if resumed {
            method.restore(state).map_err(|error| self.damaged(&error.to_string()))?;
        }
        let event = StageEvent {
            index: self.position.stage,
            count: self.stages.len(),
            method: stage,
            planned_steps: method.planned_steps(),
        };
        self.method = Some(method);
        self.observer.on_stage(&event).map_err(SearchError::Observer)
    }

    /// Takes a step of the stage at work; returns whether it was the last one.
    fn step(&mut self) -> Result<bool, SearchError> {
        let time_is_up =
            self.settings.time_limit.is_some_and(|limit| self.seconds() >= limit.as_secs_f64());
        if time_is_up && !self.cut_short() {
            self.cut(StopReason::Time)?;
        }
        let Some(method) = &mut self.method else { return Ok(true) };
        let progress = method.step(&mut self.oracle)?;
        self.position.steps += 1;
        self.position.stage_steps += 1;
        let event = self.event(&progress);
        let control = self.observer.on_step(&event).map_err(SearchError::Observer)?;
        self.watch_improvement(&event);
        if control == Control::Interrupt {
            if !self.cut_short() {
                self.checkpoint_after(progress.done)?;
            }
            return Err(SearchError::Interrupted { steps: self.position.steps });
        }
        if progress.done {
            if control == Control::Finish && !self.cut_short() {
                self.position.stopped = Some(StopReason::Requested);
            }
            return Ok(true);
        }
        if control == Control::Finish && !self.cut_short() {
            self.cut(StopReason::Requested)?;
        }
        if !self.cut_short() && self.last_checkpoint.elapsed() >= self.pause() {
            self.write_checkpoint()?;
        }
        Ok(false)
    }

    /// Ends the search for a reason that depends on the clock.
    fn cut(&mut self, reason: StopReason) -> Result<(), SearchError> {
        self.write_checkpoint()?;
        self.position.stopped = Some(reason);
        self.position.winding_up = true;
        if let Some(method) = &mut self.method {
            method.wind_up();
        }
        Ok(())
    }

    /// Winds an iterative stage up when it has gone too long without a better plan.
    fn watch_improvement(&mut self, event: &StepEvent) {
        let iterative = !matches!(
            event.method,
            MethodName::Uniform
                | MethodName::Known
                | MethodName::Random
                | MethodName::Greedy
                | MethodName::Proxy
                | MethodName::Exact
                | MethodName::Rescore
                | MethodName::Descend
                | MethodName::Refine
                | MethodName::Polish
        );
        let Some(patience) = self.settings.patience.filter(|_| iterative) else { return };
        let deterministic = self.oracle.is_deterministic();
        let stale = self.position.patience.note(deterministic, event.best, event.loss);
        if stale >= patience && !self.position.winding_up {
            self.position.winding_up = true;
            self.position.stopped = Some(StopReason::NoImprovement);
            if let Some(method) = &mut self.method {
                method.wind_up();
            }
        }
    }

    fn event(&self, progress: &Progress) -> StepEvent {
        let best = self.oracle.best();
        let decisions = self.problem.decisions();
        let slack = best.map_or_else(Vec::new, |plan| {
            let budgets = self.problem.budgets().iter().enumerate();
            budgets.map(|(r, b)| b.limit - decisions.cost_of(&plan.choices, r)).collect()
        });
        StepEvent {
            step: self.position.steps,
            stage: self.position.stage,
            stages: self.stages.len(),
            method: self.stages[self.position.stage],
            stage_step: self.position.stage_steps,
            planned_steps: self.method.as_ref().and_then(|m| m.planned_steps()),
            loss: progress.loss,
            best: best.and_then(super::memory::Plan::loss),
            expected_cost: progress.expected_cost.clone(),
            slack,
            tau: progress.tau,
            evaluations: self.oracle.counts().limited(),
            seconds: self.seconds(),
        }
    }

    /// Least time between two checkpoints.
    fn pause(&self) -> Duration {
        let every = self.settings.checkpoint.as_ref().map_or(Duration::MAX, |c| c.every);
        every.max(self.checkpoint_pause)
    }

    /// Writes a checkpoint after a step that may have ended its stage.
    fn checkpoint_after(&mut self, stage_done: bool) -> Result<(), SearchError> {
        if stage_done {
            self.method = None;
            self.position.stage += 1;
            self.position.stage_steps = 0;
            self.position.winding_up = false;
            self.position.patience = Patience::default();
        }
        self.write_checkpoint()
    }

    fn write_checkpoint(&mut self) -> Result<(), SearchError> {
        let Some(settings) = &self.settings.checkpoint else { return Ok(()) };
        let begun = Instant::now();
        let event = CheckpointEvent { step: self.position.steps, counts: self.oracle.counts() };
        self.observer.on_checkpoint(&event).map_err(SearchError::Observer)?;
        let method = match &self.method {
            Some(method) if self.position.stage_steps > 0 => method.save()?,
            _ => Value::Null,
        };
        let position = self.position.clone();
        let state = RunState {
            fingerprint: self.fingerprint.clone(),
            stage: position.stage,
            stage_steps: position.stage_steps,
            allowance: position.allowance,
            steps: position.steps,
            winding_up: position.winding_up,
            stopped: position.stopped,
            patience: position.patience,
            seconds: self.seconds(),
            oracle: self.oracle.state.clone(),
            method,
        };
        checkpoint::write(&settings.dir, &state)?;
        self.checkpoint_pause = begun.elapsed() * CHECKPOINT_SHARE;
        self.last_checkpoint = Instant::now();
        Ok(())
    }

    /// Chooses among the plans found.
    fn finish(mut self) -> Result<SearchOutcome, SearchError> {
        self.oracle.state.ceiling = self.settings.evaluations;
        let candidates = select(&mut self.oracle, self.settings)?;
        let counts = self.oracle.counts();
        let best = candidates[0].clone();
        let budgets = self.problem.budgets().iter();
        let slack = budgets.zip(&best.costs).map(|(b, cost)| b.limit - cost).collect();
        let stopped = if let Some(reason) = self.position.stopped {
            reason
        } else if self.proven() {
            StopReason::Proven
        } else if self.settings.evaluations.is_some_and(|limit| counts.limited() >= limit) {
            StopReason::Evaluations
        } else {
            StopReason::Completed
        };
        let outcome = SearchOutcome {
            assignment: best.assignment,
            method: best.method,
            origin: best.origin,
            loss_heldout: best.loss_heldout,
            loss_calibration: best.loss_calibration,
            costs: best.costs,
            slack,
            candidates,
            raw: std::mem::take(&mut self.oracle.state.raw),
            counts,
            steps: self.position.steps,
            stopped,
            certificate: self.oracle.state.certificate,
            seconds: self.seconds(),
        };
        self.observer.on_finish(&outcome).map_err(SearchError::Observer)?;
        Ok(outcome)
    }
}
