//! Riemannian constrained optimisation.

use rayon::prelude::*;

use super::state::check_finite;
use super::{Adam, OptimizerError, RcoSettings, RcoState};
use crate::budget::{Budget, BudgetKind};
use crate::decisions::Decisions;
use crate::knapsack::{Certificate, Solver};
use crate::manifold::{Manifold, ManifoldError};
use crate::relax::{add_gumbel, softmax, softmax_backward};

/// A feasible sample of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// One local option index for each decision; see [`Decisions::expand`].
    pub choices: Vec<u32>,
    /// What the knapsack proved about the sample.
    pub certificate: Certificate,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Number of the step, counted from 0.
    pub step: u64,
    /// Temperature that the samples were drawn at.
    pub tau: f64,
    /// Length of the projected gradient.
    pub gradient_norm: f64,
    /// Largest relative residual of the budgets after the step.
    pub residual: f64,
    /// Evaluations of the expected cost in the retraction.
    pub evaluations: usize,
    /// Decisions with one probability above [`crate::manifold::DECIDED`].
    pub decided: usize,
    /// Number of budgets that hold with equality after the step.
    pub tight: usize,
    /// Mean entropy of the decisions' probabilities, in nats.
    pub entropy: f64,
}

/// Riemannian constrained optimisation (RCO, arXiv 2605.00649, Algorithm 1): Adam on
/// the budget manifold, with gradients taken at exactly feasible Gumbel samples.
///
/// A step is [`Rco::sample`], the evaluation of the loss gradient at every sample, and
/// [`Rco::update`]. The same seed gives the same bits for any number of threads, and a
/// run restored from [`RcoState`] continues to the bit.
///
/// Budgets of kind `at most` enter an active set: one that holds with equality stays so
/// while its Lagrange multiplier (a running mean, since gradients are noisy) says that
/// more budget would help, and is let go otherwise. Whatever the step does, the
/// retraction puts the point back within all budgets.
#[derive(Debug, Clone)]
pub struct Rco {
    settings: RcoSettings,
    kinds: Vec<BudgetKind>,
    manifold: Manifold,
    state: RcoState,
    probs: Vec<f64>,
    workers: Vec<Worker>,
    /// Whether the workers hold the samples of the present step.
    sampled: bool,
    active: Vec<bool>,
    gradient: Vec<f64>,
    projected: Vec<f64>,
    moved: Vec<f64>,
}

/// What one sample needs, so that samples run side by side.
#[derive(Debug, Clone)]
struct Worker {
    solver: Solver,
    /// `α + G`.
    perturbed: Vec<f64>,
    /// `softmax((α + G) / τ)`.
    probs: Vec<f64>,
}

impl Rco {
    /// Starts at `start_logits` (flat order of the decisions), put onto the manifold.
    ///
    /// Where the start uses less than an `at most` budget allows, the budget that is
    /// nearest to its limit is filled, if the others permit.
    ///
    /// # Errors
    /// [`OptimizerError::Setting`], [`OptimizerError::Length`],
    /// [`OptimizerError::NotFinite`], or an error of the manifold or the knapsack.
    pub fn new(
        decisions: &Decisions,
        budgets: &[Budget],
        settings: RcoSettings,
        start_logits: &[f64],
    ) -> Result<Self, OptimizerError> {
        let state = RcoState {
            step: 0,
            logits: start_logits.to_vec(),
            adam: Adam::new(start_logits.len()),
            tight: vec![false; budgets.len()],
            price: vec![0.0; budgets.len()],
        };
        let mut rco = Self::resume(decisions, budgets, settings, state)?;
        rco.start()?;
        Ok(rco)
    }

    /// Continues from a stored state. Decisions, budgets and settings must be those of
    /// the run that stored it for the result to be the same.
    ///
    /// # Errors
    /// As [`Rco::new`].
    pub fn resume(
        decisions: &Decisions,
        budgets: &[Budget],
        settings: RcoSettings,
        state: RcoState,
    ) -> Result<Self, OptimizerError> {
        settings.validate()?;
        let manifold = Manifold::new(decisions, budgets, settings.direction)?;
        let dimension = manifold.dimension();
        state.check(dimension, budgets.len())?;
        let solver = Solver::new(decisions, budgets, settings.solver.clone())?;
        let worker =
            Worker { solver, perturbed: vec![0.0; dimension], probs: vec![0.0; dimension] };
        let mut rco = Self {
            workers: vec![worker; settings.samples_per_step],
            settings,
            kinds: budgets.iter().map(|b| b.kind).collect(),
            manifold,
            probs: vec![0.0; dimension],
            sampled: false,
            active: vec![false; budgets.len()],
            gradient: vec![0.0; dimension],
            projected: vec![0.0; dimension],
            moved: vec![0.0; dimension],
            state,
        };
        softmax(rco.manifold.offsets(), &rco.state.logits, &mut rco.probs);
        Ok(rco)
    }

    /// Replaces the state by a stored one of the same problem.
    ///
    /// # Errors
    /// [`OptimizerError::Length`] or [`OptimizerError::NotFinite`].
    pub fn restore(&mut self, state: RcoState) -> Result<(), OptimizerError> {
        state.check(self.manifold.dimension(), self.kinds.len())?;
        self.state = state;
        self.sampled = false;
        softmax(self.manifold.offsets(), &self.state.logits, &mut self.probs);
        Ok(())
    }

    /// The state between two steps.
    pub fn state(&self) -> RcoState {
        self.state.clone()
    }

    /// Settings of the run.
    pub fn settings(&self) -> &RcoSettings {
        &self.settings
    }

    /// The geometry.
    pub fn manifold(&self) -> &Manifold {
        &self.manifold
    }

    /// Logits, on the manifold; the largest of each decision is 0.
    pub fn logits(&self) -> &[f64] {
        &self.state.logits
    }

    /// Probabilities at the logits.
    pub fn probs(&self) -> &[f64] {
        &self.probs
    }

    /// Number of steps taken.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// Temperature of the coming step.
    pub fn tau(&self) -> f64 {
        self.settings.anneal().at(self.state.step)
    }

    /// Which budgets hold with equality.
    pub fn tight(&self) -> &[bool] {
        &self.state.tight
    }

    /// Draws the samples of this step: for each the exact feasible argmax of
    /// `α̂ = (α + G) / τ`. In order; run side by side; the same bits on any number of
    /// threads, and again if called again.
    ///
    /// # Errors
    /// [`OptimizerError::Knapsack`]: the first one in the order of samples.
    pub fn sample(&mut self) -> Result<Vec<Sample>, OptimizerError> {
        let (seed, step, tau) = (self.settings.seed, self.state.step, self.tau());
        let (antithetic, count) = (self.settings.antithetic, self.workers.len() as u64);
        let (logits, offsets) = (&self.state.logits, self.manifold.offsets());
        let samples: Vec<Result<Sample, OptimizerError>> = self
            .workers
            .par_iter_mut()
            .enumerate()
            .map(|(number, worker)| {
                let mirrored = antithetic && number % 2 == 1;
                let index = step * count + (number - usize::from(mirrored)) as u64;
                add_gumbel(seed, index, mirrored, logits, &mut worker.perturbed);
                worker.draw(offsets, tau)
            })
            .collect();
        let samples = samples.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.sampled = true;
        Ok(samples)
    }

    /// Takes a step with one option gradient per sample, in the order of
    /// [`Rco::sample`], each folded into the flat order of the decisions
    /// ([`Decisions::fold`]): straight-through gradient
    /// `(1/τ) p̂_ik (g_ik − Σ_l p̂_il g_il)` through the softmax of the same perturbed
    /// logits, averaged; tangent projection; Adam; projection of its direction;
    /// retraction; transport of the first moment.
    ///
    /// # Errors
    /// [`OptimizerError::NoSamples`], [`OptimizerError::GradientCount`],
    /// [`OptimizerError::Length`], [`OptimizerError::NotFinite`], or an error of the
    /// retraction. The state is unchanged then.
    pub fn update(&mut self, gradients: &[Vec<f64>]) -> Result<StepReport, OptimizerError> {
        self.check_gradients(gradients)?;
        let tau = self.tau();
        self.gradient.fill(0.0);
        let factor = 1.0 / (tau * gradients.len() as f64);
        for (worker, gradient) in self.workers.iter().zip(gradients) {
            let offsets = self.manifold.offsets();
            softmax_backward(offsets, &worker.probs, gradient, factor, &mut self.gradient);
        }
        check_finite("the straight-through gradient", &self.gradient)?;

        let mut next = self.state.clone();
        self.choose_active(&mut next);
        self.manifold.project(&self.probs, &self.active, &mut self.gradient);
        let gradient_norm = self.gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        next.adam.update(&self.settings.adam, &self.gradient, &mut self.projected);
        self.manifold.project(&self.probs, &self.active, &mut self.projected);
        for (z, d) in next.logits.iter_mut().zip(&self.projected) {
            *z -= self.settings.learning_rate * d;
        }
        let (residual, evaluations) = self.settle(&mut next)?;
        self.manifold.transport(&self.probs, &next.tight, &mut next.adam.first);
        next.step += 1;
        let report = StepReport {
            step: self.state.step,
            tau,
            gradient_norm,
            residual,
            evaluations,
            decided: self.manifold.decided(&self.probs),
            tight: next.tight.iter().filter(|&&t| t).count(),
            entropy: entropy(&self.probs, self.manifold.offsets()),
        };
        self.state = next;
        self.sampled = false;
        Ok(report)
    }
}

impl Rco {
    /// Puts the start onto the manifold.
    fn start(&mut self) -> Result<(), OptimizerError> {
        let mut state = self.state.clone();
        self.active.fill(false);
        self.settle(&mut state)?;
        let exact = self.kinds.contains(&BudgetKind::Exactly);
        if !exact && !state.tight.contains(&true) {
            let used = |r: &usize| self.manifold.residual(&self.probs, *r);
            let nearest = (0..self.kinds.len())
                .filter(|&r| !self.manifold.is_vacuous(r))
                .max_by(|a, b| used(a).total_cmp(&used(b)));
            if let Some(r) = nearest {
                self.active[r] = true;
                let mut filled = state.clone();
                match self.settle(&mut filled) {
                    Ok(_) => state = filled,
                    // Another budget is in the way: the start stays below both.
                    Err(OptimizerError::Manifold(ManifoldError::NotMet { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.state = state;
        Ok(())
    }

    fn check_gradients(&self, gradients: &[Vec<f64>]) -> Result<(), OptimizerError> {
        if !self.sampled {
            return Err(OptimizerError::NoSamples { step: self.state.step });
        }
        if gradients.len() != self.workers.len() {
            return Err(OptimizerError::GradientCount {
                expected: self.workers.len(),
                found: gradients.len(),
            });
        }
        for gradient in gradients {
            let (expected, found) = (self.manifold.dimension(), gradient.len());
            if found != expected {
                return Err(OptimizerError::Length { what: "an option gradient", expected, found });
            }
            check_finite("an option gradient", gradient)?;
        }
        Ok(())
    }

    /// Decides which tight `at most` budgets stay: those whose price, the running mean
    /// of `∂loss / ∂B`, is not positive. The worst is dropped first, since the others'
    /// multipliers change with it.
    fn choose_active(&mut self, next: &mut RcoState) {
        let keep = self.settings.adam.beta1;
        for r in 0..self.kinds.len() {
            self.active[r] = self.state.tight[r] || self.kinds[r] == BudgetKind::Exactly;
        }
        loop {
            self.projected.copy_from_slice(&self.gradient);
            self.manifold.project(&self.probs, &self.active, &mut self.projected);
            let mut worst = None;
            for r in 0..self.kinds.len() {
                if !self.active[r] {
                    continue;
                }
                let (old, now) = (self.state.price[r], self.manifold.multiplier(r));
                // One noisy gradient is no reason to leave a budget just reached.
                let old = if old == 0.0 { -now.abs() } else { old };
                next.price[r] = keep * old + (1.0 - keep) * now;
                let price = next.price[r];
                if self.kinds[r] == BudgetKind::AtMost
                    && price > 0.0
                    && worst.is_none_or(|(_, largest)| price > largest)
                {
                    worst = Some((r, price));
                }
            }
            let Some((r, _)) = worst else { break };
            // The price stays: should the step's curvature lead back to the limit at once,
            // the next one leaves it again.
            self.active[r] = false;
        }
    }

    /// Retracts a state's logits, with the budgets of `active` held with equality, and
    /// brings them into their standard form. Returns residual and evaluations; on
    /// success the probabilities are those of the state.
    fn settle(&mut self, state: &mut RcoState) -> Result<(f64, usize), OptimizerError> {
        let retraction = self.manifold.retract(&mut state.logits, &mut self.moved, &self.active)?;
        recentre(self.manifold.offsets(), self.settings.logit_span, &mut state.logits);
        softmax(self.manifold.offsets(), &state.logits, &mut self.moved);
        std::mem::swap(&mut self.probs, &mut self.moved);
        let mut residual = 0.0_f64;
        for r in 0..self.kinds.len() {
            let tight = self.manifold.is_tight(r);
            if !(tight && self.state.tight[r]) {
                state.price[r] = 0.0;
            }
            state.tight[r] = tight;
            if !self.manifold.is_vacuous(r) {
                let own = self.manifold.residual(&self.probs, r);
                residual = residual.max(if tight { own.abs() } else { own });
            }
        }
        Ok((residual, retraction.evaluations))
    }
}

impl Worker {
    fn draw(&mut self, offsets: &[usize], tau: f64) -> Result<Sample, OptimizerError> {
        // The argmax does not depend on the temperature; the backward pass does.
        let mut choices = vec![0; offsets.len() - 1];
        let certificate = self.solver.solve(&self.perturbed, &mut choices)?;
        for z in &mut self.perturbed {
            *z /= tau;
        }
        softmax(offsets, &self.perturbed, &mut self.probs);
        Ok(Sample { choices, certificate })
    }
}

/// Moves the largest logit of every decision to 0, which softmax does not see, so that
/// logits do not drift, and the others to within `span` of it.
fn recentre(offsets: &[usize], span: f64, logits: &mut [f64]) {
    for w in offsets.windows(2) {
        let own = &mut logits[w[0]..w[1]];
        let top = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for z in own {
            *z = (*z - top).max(-span);
        }
    }
}

/// Mean entropy of the decisions, in nats.
fn entropy(probs: &[f64], offsets: &[usize]) -> f64 {
    let sum: f64 = probs.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
    sum / (offsets.len() - 1).max(1) as f64
}
