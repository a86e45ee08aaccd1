//! What the search tells while it runs.

use std::io;

use serde::Serialize;

use super::counter::Counts;
use super::name::MethodName;
use super::outcome::SearchOutcome;

/// Sent once before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct StartEvent {
    /// Steps that a checkpoint has brought along; `None` for a fresh start.
    pub resumed_at: Option<u64>,
    /// The stages to come, in order.
    pub stages: Vec<MethodName>,
}

/// Sent when a stage begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageEvent {
    /// Position of the stage, counted from 0.
    pub index: usize,
    /// Number of stages.
    pub count: usize,
    /// What runs in it.
    pub method: MethodName,
    /// Steps it is going to take at most, where it knows.
    pub planned_steps: Option<u64>,
}

/// One step of a stage. Its serialised form is a line of the history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepEvent {
    /// Number of this step in the run, counted from 1 over all stages.
    pub step: u64,
    /// Position of the stage, counted from 0.
    pub stage: usize,
    /// Number of stages.
    #[serde(skip)]
    pub stages: usize,
    /// What runs in the stage.
    pub method: MethodName,
    /// Number of this step in the stage, counted from 1.
    pub stage_step: u64,
    /// Steps that the stage takes at most, where it knows.
    #[serde(skip)]
    pub planned_steps: Option<u64>,
    /// Mean loss that this step measured, if it measured one.
    pub loss: Option<f64>,
    /// Smallest loss of a plan so far: on the calibration split where measured
    /// there, otherwise the mean over its draws.
    pub best: Option<f64>,
    /// Expected cost of the relaxation for every resource; empty for methods without one.
    pub expected_cost: Vec<f64>,
    /// What the best plan so far leaves of every budget.
    pub slack: Vec<u64>,
    /// Temperature of the relaxation.
    pub tau: Option<f64>,
    /// Evaluations so far that count against the limit.
    pub evaluations: u64,
    /// Seconds since the run began, those before a resume included.
    pub seconds: f64,
}

/// Sent before a checkpoint is written, so that what an observer has stored is
/// never behind the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointEvent {
    /// Steps done in all stages together.
    pub step: u64,
    /// Evaluations so far.
    pub counts: Counts,
}

/// What the search does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    /// Go on.
    #[default]
    Continue,
    /// Round what there is, choose among the plans so far and return an outcome.
    Finish,
    /// Write a checkpoint and return [`super::SearchError::Interrupted`].
    Interrupt,
}

/// Receives the events of a run. Every method has a default that does nothing.
///
/// An error ends the run with [`super::SearchError::Observer`].
pub trait Observer {
    /// Before the first step.
    ///
    /// # Errors
    /// Whatever the observer meets; it ends the run. So for all methods.
    fn on_start(&mut self, event: &StartEvent) -> io::Result<()> {
        let _ = event;
        Ok(())
    }

    /// When a stage begins, or is taken up again from a checkpoint.
    ///
    /// # Errors
    /// See [`Observer::on_start`].
    fn on_stage(&mut self, event: &StageEvent) -> io::Result<()> {
        let _ = event;
        Ok(())
    }

    /// After every step.
    ///
    /// # Errors
    /// See [`Observer::on_start`].
    fn on_step(&mut self, event: &StepEvent) -> io::Result<Control> {
        let _ = event;
        Ok(Control::Continue)
    }

    /// Before a checkpoint is written.
    ///
    /// # Errors
    /// See [`Observer::on_start`].
    fn on_checkpoint(&mut self, event: &CheckpointEvent) -> io::Result<()> {
        let _ = event;
        Ok(())
    }

    /// When the outcome is known.
    ///
    /// # Errors
    /// See [`Observer::on_start`].
    fn on_finish(&mut self, outcome: &SearchOutcome) -> io::Result<()> {
        let _ = outcome;
        Ok(())
    }
}

/// Ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Collects the steps in memory.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    /// All steps since the start or the resume of the run.
    pub steps: Vec<StepEvent>,
}

impl Observer for Recorder {
    fn on_step(&mut self, event: &StepEvent) -> io::Result<Control> {
        self.steps.push(event.clone());
        Ok(Control::Continue)
    }
}

/// Passes every event on to several observers, in order.
#[derive(Default)]
pub struct Fanout<'a>(pub Vec<&'a mut dyn Observer>);

impl Observer for Fanout<'_> {
    fn on_start(&mut self, event: &StartEvent) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|o| o.on_start(event))
    }

    fn on_stage(&mut self, event: &StageEvent) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|o| o.on_stage(event))
    }

    fn on_step(&mut self, event: &StepEvent) -> io::Result<Control> {
        let mut strongest = Control::Continue;
        for observer in &mut self.0 {
            match observer.on_step(event)? {
                Control::Continue => {}
                Control::Finish if strongest == Control::Interrupt => {}
                control => strongest = control,
            }
        }
        Ok(strongest)
    }

    fn on_checkpoint(&mut self, event: &CheckpointEvent) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|o| o.on_checkpoint(event))
    }

    fn on_finish(&mut self, outcome: &SearchOutcome) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|o| o.on_finish(outcome))
    }
}
