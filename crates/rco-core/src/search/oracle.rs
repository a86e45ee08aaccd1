//! The objective as methods see it: counted, limited, checked and remembered.

use serde::{Deserialize, Serialize};

use super::counter::Counts;
use super::curvature::GradientHistory;
use super::error::SearchError;
use super::memo::Memo;
use super::memory::{Measurement, Plan, PlanMemory};
use super::name::MethodName;
use super::objective::{Draw, Evaluation, Objective, Split, Strain};
use super::outcome::RawResult;
use crate::decisions::Decisions;
use crate::knapsack::{Certificate, Effort, Settings as KnapsackSettings, Solver, Status};
use crate::problem::Problem;

/// Loss and option gradient of one plan on one draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The loss.
    pub loss: f64,
    /// The option gradient, one entry for each option of each decision.
    pub gradient: Vec<f64>,
}

/// Loss and strain of one plan on one draw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Strained {
    /// The loss.
    pub(crate) loss: f64,
    /// The sum of [`super::Strain::groups`] over the groups of every decision.
    pub(crate) strain: Vec<f64>,
}

/// What a loss without gradient is averaged over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// The same fresh draws for all plans of a batch. A deterministic objective
    /// takes this as [`Sample::Calibration`].
    Draws(u32),
    /// The calibration split.
    Calibration,
}

/// All that an oracle remembers. Two runs with equal states go on equally.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OracleState {
    pub(crate) counts: Counts,
    pub(crate) ceiling: Option<u64>,
    pub(crate) next_draw: u64,
    pub(crate) memory: PlanMemory,
    pub(crate) memo: Memo,
    /// Gradients of a deterministic objective, where a polish will ask for them.
    pub(crate) history: GradientHistory,
    /// The best separable scores, one for each option of each decision.
    pub(crate) scores: Option<Vec<f64>>,
    pub(crate) raw: Vec<RawResult>,
    pub(crate) certificate: Option<Certificate>,
}

/// Wraps an objective for the methods of one run.
///
/// It counts every evaluation, answers no more of a batch than the limit permits,
/// refuses numbers that are not finite, remembers the best feasible plans, and
/// holds the exact solver of the problem. Plans are given as one local option
/// index for each decision.
pub struct Oracle<'a> {
    problem: &'a Problem,
    objective: &'a mut dyn Objective,
    deterministic: bool,
    solver: Solver,
    pub(crate) state: OracleState,
}

impl<'a> Oracle<'a> {
    /// An oracle with an empty memory for `memory` plans.
    ///
    /// # Errors
    /// [`SearchError::Knapsack`] if the exact solver refuses the problem.
    pub(crate) fn new(
        problem: &'a Problem,
        objective: &'a mut dyn Objective,
        memory: usize,
    ) -> Result<Self, SearchError> {
        let settings = KnapsackSettings { effort: Effort::Proven, ..KnapsackSettings::default() };
        let solver = Solver::new(problem.decisions(), problem.budgets(), settings)?;
        let deterministic = !objective.is_stochastic();
        Ok(Self {
            problem,
            objective,
            deterministic,
            solver,
            state: OracleState {
                counts: Counts::default(),
                ceiling: None,
                next_draw: 0,
                memory: PlanMemory::new(memory),
                memo: Memo::default(),
                history: GradientHistory::default(),
                scores: None,
                raw: Vec::new(),
                certificate: None,
            },
        })
    }

    /// From now on remembers the gradients of a deterministic objective.
    pub(crate) fn keep_gradients(&mut self) {
        if self.deterministic {
            self.state.history = GradientHistory::new(self.decisions().option_count());
        }
    }

    /// The problem.
    pub fn problem(&self) -> &'a Problem {
        self.problem
    }

    /// The decisions of the problem.
    pub fn decisions(&self) -> &'a Decisions {
        self.problem.decisions()
    }

    /// Whether every draw gives the same loss.
    pub fn is_deterministic(&self) -> bool {
        self.deterministic
    }

    /// Evaluations so far.
    pub fn counts(&self) -> Counts {
        self.state.counts
    }

    /// Evaluations left in this stage; `u64::MAX` without a limit.
    pub fn remaining(&self) -> u64 {
        let spent = self.state.counts.limited();
        self.state.ceiling.map_or(u64::MAX, |ceiling| ceiling.saturating_sub(spent))
    }

    /// The separable scores that the caller of the search knows, one for each option
    /// of each decision.
    ///
    /// # Errors
    /// [`SearchError::Count`] or [`SearchError::NotFinite`].
    pub fn proxy_scores(&self) -> Result<Option<Vec<f64>>, SearchError> {
        self.objective.proxy_scores().map(|scores| self.fold(scores, "proxy score")).transpose()
    }

    /// Plans that the objective knows, for the decisions of this problem. Those of
    /// another length are left out; of tied groups the first decides.
    pub fn known_plans(&self) -> Vec<(String, Vec<u32>)> {
        let groups = self.problem.group_count();
        let known = self.objective.known_plans().iter();
        let fits = known.filter(|(_, plan)| {
            plan.choices().len() == groups
                && (0..groups).all(|g| plan.option(g) < self.problem.options_of(g).len())
        });
        fits.map(|(origin, plan)| (origin.clone(), self.decisions().restrict(plan))).collect()
    }

    /// Whether the sum of [`Oracle::proxy_scores`] is the loss.
    pub fn is_separable(&self) -> bool {
        self.objective.is_separable()
    }

    fn fold(&self, values: &[f64], what: &str) -> Result<Vec<f64>, SearchError> {
        if values.len() != self.problem.option_count() {
            return Err(SearchError::Count {
                what: if what == "derivative" { "derivatives" } else { "proxy scores" },
                expected: self.problem.option_count(),
                found: values.len(),
            });
        }
        if let Some(flat) = values.iter().position(|v| !v.is_finite()) {
            let group = self.problem.offsets().partition_point(|&start| start <= flat) - 1;
            let option = flat - self.problem.offsets()[group];
            return Err(SearchError::NotFinite {
                what: format!(
                    "{what} of option `{}` of group `{}`",
                    self.problem.option_name(group, option),
                    self.problem.group_name(group)
                ),
                value: values[flat],
            });
        }
        let mut out = vec![0.0; self.decisions().option_count()];
        self.decisions().fold(self.problem, values, &mut out);
        Ok(out)
    }

    /// Whether plans satisfy every budget, in integer arithmetic.
    pub fn is_feasible(&self, choices: &[u32]) -> bool {
        let budgets = self.problem.budgets().iter().enumerate();
        budgets.into_iter().all(|(r, b)| b.admits(self.decisions().cost_of(choices, r)))
    }

    /// The feasible plan with the largest sum of `values`, which holds one finite
    /// value for each option of each decision.
    ///
    /// # Errors
    /// [`SearchError::Unreachable`] if no plan meets an `exactly` budget,
    /// [`SearchError::Missed`] if none was found that does, and
    /// [`SearchError::Knapsack`].
    pub fn knapsack(&mut self, values: &[f64]) -> Result<Vec<u32>, SearchError> {
        self.certified_knapsack(values).map(|(choices, _)| choices)
    }

    /// As [`Oracle::knapsack`], with the certificate.
    ///
    /// # Errors
    /// See [`Oracle::knapsack`].
    pub fn certified_knapsack(
        &mut self,
        values: &[f64],
    ) -> Result<(Vec<u32>, Certificate), SearchError> {
        let mut choices = vec![0; self.decisions().len()];
        let certificate = self.solver.solve(values, &mut choices)?;
        if let Status::Nearest { below, above } | Status::Missed { below, above } =
            certificate.status
        {
            let decisions = self.decisions();
            let budgets = self.problem.budgets().iter().enumerate();
            let missed =
                budgets.into_iter().find(|(r, b)| !b.admits(decisions.cost_of(&choices, *r)));
            let budget = missed.map_or(&self.problem.budgets()[0], |(_, budget)| budget);
            let (resource, limit) = (budget.resource.clone(), budget.limit);
            return Err(if matches!(certificate.status, Status::Missed { .. }) {
                SearchError::Missed { resource, limit, below, above }
            } else {
                SearchError::Unreachable { resource, limit, below, above }
            });
        }
        Ok((choices, certificate))
    }

    /// Losses and option gradients of several plans, each on a fresh draw, in order.
    /// Answers only as many from the front as the limit permits. The plans may
    /// break the budget; those that do are not remembered.
    ///
    /// # Errors
    /// [`SearchError::Objective`], [`SearchError::Count`], [`SearchError::NotFinite`].
    pub fn gradients(
        &mut self,
        method: MethodName,
        plans: &[Vec<u32>],
    ) -> Result<Vec<Measured>, SearchError> {
        // A deterministic objective is asked once for equal plans of a batch.
        let mut unique: Vec<usize> = Vec::with_capacity(plans.len());
        let mut source: Vec<usize> = Vec::with_capacity(plans.len());
        let room = usize::try_from(self.remaining()).unwrap_or(usize::MAX);
        for (index, plan) in plans.iter().enumerate() {
            let twin = if self.deterministic {
                unique.iter().position(|&first| plans[first] == *plan)
            } else {
                None
            };
            if twin.is_none() && unique.len() == room {
                break;
            }
            source.push(twin.unwrap_or(unique.len()));
            if twin.is_none() {
                unique.push(index);
            }
        }
        let requests: Vec<_> = unique
            .iter()
            .enumerate()
            .map(|(n, &index)| {
                (self.decisions().expand(&plans[index]), Draw(self.state.next_draw + n as u64))
            })
            .collect();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let evaluations = self.objective.evaluate_batch(&requests)?;
        check_count("evaluations", requests.len(), evaluations.len())?;
        self.state.next_draw += requests.len() as u64;
        self.state.counts.gradients += requests.len() as u64;
        let mut measured = Vec::with_capacity(unique.len());
        for (&index, Evaluation { loss, gradient }) in unique.iter().zip(evaluations) {
            check_loss(loss)?;
            let gradient = self.fold(&gradient, "derivative")?;
            let found = if self.deterministic {
                Measurement::Calibration(loss)
            } else {
                Measurement::Draws { sum: loss, count: 1 }
            };
            self.remember(&plans[index], method, found);
            self.state.history.record(&plans[index], &gradient);
            measured.push(Measured { loss, gradient });
        }
        Ok(source.into_iter().map(|n| measured[n].clone()).collect())
    }

    /// Losses and strains of a plan on so many fresh draws, or on fewer where the limit permits no
    /// more or all draws are alike; none where the objective knows no strain. Each counts as a
    /// gradient.
    ///
    /// # Errors
    /// [`SearchError::Objective`], [`SearchError::Count`], [`SearchError::NotFinite`].
    pub(crate) fn strains(
        &mut self,
        method: MethodName,
        plan: &[u32],
        draws: u64,
    ) -> Result<Vec<Strained>, SearchError> {
        let draws = if self.deterministic { draws.min(1) } else { draws };
        let assignment = self.decisions().expand(plan);
        let mut out = Vec::new();
        for _ in 0..draws.min(self.remaining()) {
            let draw = Draw(self.state.next_draw);
            let Some(Strain { loss, groups }) = self.objective.strain(&assignment, draw)? else {
                break;
            };
            check_loss(loss)?;
            self.state.next_draw += 1;
            self.state.counts.gradients += 1;
            let strain = self.of_decisions(&groups)?;
            let found = if self.deterministic {
                Measurement::Calibration(loss)
            } else {
                Measurement::Draws { sum: loss, count: 1 }
            };
            self.remember(plan, method, found);
            out.push(Strained { loss, strain });
        }
        Ok(out)
    }

    /// The sum over the groups of every decision.
    fn of_decisions(&self, groups: &[f64]) -> Result<Vec<f64>, SearchError> {
        check_count("strains", self.problem.group_count(), groups.len())?;
        if let Some(group) = groups.iter().position(|v| !v.is_finite()) {
            return Err(SearchError::NotFinite {
                what: format!("strain of group `{}`", self.problem.group_name(group)),
                value: groups[group],
            });
        }
        let decisions = self.decisions();
        let of = |d: usize| decisions.members(d).iter().map(|&g| groups[g as usize]).sum();
        Ok((0..decisions.len()).map(of).collect())
    }

    /// Losses of several plans on the same sample, in order. Answers only as many
    /// from the front as the limit permits. The plans may break the budget; those
    /// that do are not remembered.
    ///
    /// # Errors
    /// [`SearchError::Objective`], [`SearchError::Count`], [`SearchError::NotFinite`].
    pub fn losses(
        &mut self,
        method: MethodName,
        plans: &[Vec<u32>],
        sample: Sample,
    ) -> Result<Vec<f64>, SearchError> {
        let (split, price) = match sample {
            Sample::Draws(count) if !self.deterministic => {
                let count = count.max(1);
                (Split::Draws { first: Draw(self.state.next_draw), count }, u64::from(count))
            }
            _ => (Split::Calibration, 1),
        };
        let mut room = self.remaining() / price;
        // Where the loss is known, or asked for by an earlier plan of this batch, the
        // objective is not asked.
        let mut asked: Vec<usize> = Vec::new();
        let mut answers: Vec<Answer> = Vec::with_capacity(plans.len());
        for (index, plan) in plans.iter().enumerate() {
            let known = self.known(plan, split);
            if let Some(loss) = known {
                answers.push(Answer::Known(loss));
            } else if let Some(n) = asked.iter().position(|&first| plans[first] == *plan) {
                answers.push(Answer::Asked(n));
            } else if room > 0 {
                room -= 1;
                answers.push(Answer::Asked(asked.len()));
                asked.push(index);
            } else {
                break;
            }
        }
        let requests: Vec<_> =
            asked.iter().map(|&index| self.decisions().expand(&plans[index])).collect();
        let found = if requests.is_empty() {
            Vec::new()
        } else {
            self.objective.loss_batch(&requests, split)?
        };
        check_count("losses", requests.len(), found.len())?;
        for (&index, &loss) in asked.iter().zip(&found) {
            check_loss(loss)?;
            let measured = match split {
                Split::Draws { count, .. } => {
                    Measurement::Draws { sum: loss * f64::from(count), count: u64::from(count) }
                }
                _ => Measurement::Calibration(loss),
            };
            self.remember(&plans[index], method, measured);
        }
        if let Split::Draws { count, .. } = split {
            self.state.counts.draws += requests.len() as u64 * price;
            if !requests.is_empty() {
                self.state.next_draw += u64::from(count);
            }
        } else {
            self.state.counts.calibration += requests.len() as u64;
        }
        Ok(answers
            .into_iter()
            .map(|answer| match answer {
                Answer::Known(loss) => loss,
                Answer::Asked(n) => found[n],
            })
            .collect())
    }

    /// Held-out losses of several plans, in order. Not limited.
    pub(crate) fn heldout(&mut self, plans: &[Vec<u32>]) -> Result<Vec<f64>, SearchError> {
        let requests: Vec<_> = plans.iter().map(|plan| self.decisions().expand(plan)).collect();
        let losses = self.objective.loss_batch(&requests, Split::HeldOut)?;
        check_count("losses", requests.len(), losses.len())?;
        losses.iter().try_for_each(|&loss| check_loss(loss))?;
        self.state.counts.heldout += requests.len() as u64;
        Ok(losses)
    }

    fn known(&self, plan: &[u32], split: Split) -> Option<f64> {
        if self.deterministic {
            return self.state.memo.get(plan);
        }
        if split != Split::Calibration {
            return None;
        }
        let memory = &self.state.memory;
        memory.find(plan).and_then(|index| memory.plans()[index].calibration)
    }

    fn remember(&mut self, plan: &[u32], method: MethodName, measured: Measurement) {
        if let (true, Measurement::Calibration(loss)) = (self.deterministic, measured) {
            self.state.memo.insert(plan, loss);
        }
        if self.is_feasible(plan) {
            self.state.memory.record(plan, method, "sample", measured);
        }
    }

    /// Makes a plan a result of `method`: it enters the held-out choice whatever is
    /// found later. `origin` says how it was made.
    ///
    /// # Errors
    /// [`SearchError::PlanOverBudget`] if it breaks a budget.
    pub fn propose(
        &mut self,
        method: MethodName,
        origin: &str,
        plan: &[u32],
    ) -> Result<(), SearchError> {
        for (r, budget) in self.problem.budgets().iter().enumerate() {
            let cost = self.decisions().cost_of(plan, r);
            if !budget.admits(cost) {
                return Err(SearchError::PlanOverBudget {
                    method: method.to_string(),
                    resource: budget.resource.clone(),
                    limit: budget.limit,
                    cost,
                });
            }
        }
        let known = if self.deterministic { self.state.memo.get(plan) } else { None };
        self.state.memory.keep(plan, method, origin);
        if let Some(loss) = known {
            let measured = Measurement::Calibration(loss);
            self.state.memory.record(plan, method, origin, measured);
        }
        Ok(())
    }

    /// Notes what a method ended with before its result was made feasible.
    pub fn report_raw(&mut self, method: MethodName, plan: &[u32]) {
        let decisions = self.decisions();
        let costs = (0..decisions.resource_count()).map(|r| decisions.cost_of(plan, r)).collect();
        let feasible = self.is_feasible(plan);
        self.state.raw.push(RawResult { method, costs, feasible });
    }

    /// The best separable scores so far, one for each option of each decision.
    pub fn scores(&self) -> Option<&[f64]> {
        self.state.scores.as_deref()
    }

    /// Hands separable scores on to the methods that follow.
    pub(crate) fn set_scores(&mut self, scores: Vec<f64>) {
        self.state.scores = Some(scores);
    }

    /// Notes the proof of a separable problem.
    pub(crate) fn set_certificate(&mut self, certificate: Certificate) {
        self.state.certificate = Some(certificate);
    }

    /// Best plan so far: of those measured on the calibration split, if there are any.
    pub(crate) fn best(&self) -> Option<&Plan> {
        self.state.memory.best()
    }
}

/// Where the answer to one plan of a batch comes from.
enum Answer {
    Known(f64),
    Asked(usize),
}

fn check_loss(loss: f64) -> Result<(), SearchError> {
    if loss.is_finite() {
        return Ok(());
    }
    Err(SearchError::NotFinite { what: "loss".into(), value: loss })
}

fn check_count(what: &'static str, expected: usize, found: usize) -> Result<(), SearchError> {
    if expected == found {
        return Ok(());
    }
    Err(SearchError::Count { what, expected, found })
}
