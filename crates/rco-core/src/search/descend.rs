//! Exact knapsacks on option gradients at the plan.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::SearchError;
use super::method::{Method, Progress, from_json, to_json};
use super::name::MethodName;
use super::oracle::{Measured, Oracle, Sample};
use super::settings::DescendSettings;
use crate::decisions::Decisions;

const NAME: MethodName = MethodName::Descend;

/// From the best plan so far, solves the knapsack of what every change of one decision does to the
/// loss there, and begins anew from the plan that comes out.
///
/// Scores say what choices cost by themselves. What they cost together is in the gradient at the
/// plan: errors of two decisions may add up or make up for each other, on every text alike, and
/// where plans lose much that is as large as the scores. Several draws are averaged, and each
/// entry is drawn towards what the scores say by as much as it is noisy.
///
/// What was drawn at one plan is kept for the next: most of it still holds there.
///
/// Entries hold for one change. What many changes do to each other has no sign that is known
/// beforehand, but the knapsack picks those that look good, so that each is charged for besides:
/// a share of the scores of what goes and of what comes. The nearer the end, the fewer these are:
/// where the plan that comes out is better, the charge is halved; where it is not, the charge is
/// doubled, and more is drawn where it was.
#[derive(Debug)]
pub(crate) struct Descend {
    settings: DescendSettings,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Plan at work, its calibration loss, and what was drawn there.
    current: Option<(Vec<u32>, f64, Draws)>,
    rounds: u64,
    /// Times that the charge was doubled, less those that it was halved.
    doubled: i32,
    finishing: bool,
}

/// What has been drawn so far, as changes from the plan at work: 0 for what is chosen.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Draws {
    count: f64,
    sum: Vec<f64>,
    /// Sums of squares about the mean of each round.
    spread: Vec<f64>,
}

impl Draws {
    /// Adds option gradients at `plan`, which is at work.
    fn add(&mut self, decisions: &Decisions, plan: &[u32], measured: &[Measured]) {
        self.sum.resize(decisions.option_count(), 0.0);
        self.spread.resize(decisions.option_count(), 0.0);
        let count = measured.len() as f64;
        for (d, (&k, start)) in plan.iter().zip(decisions.offsets()).enumerate() {
            let chosen = start + k as usize;
            for j in decisions.options_of(d) {
                let drawn = measured.iter().map(|m| m.gradient[j] - m.gradient[chosen]);
                let total: f64 = drawn.clone().sum();
                self.sum[j] += total;
                self.spread[j] += drawn.map(|g| (g - total / count).powi(2)).sum::<f64>();
            }
        }
        self.count += count;
    }

    /// Says the same of another plan. A change from `c` to `k` and one from `k` to `j` are one from
    /// `c` to `j`, curvature included; only what other decisions have changed is missing.
    fn move_to(&mut self, decisions: &Decisions, plan: &[u32]) {
        for (d, (&k, start)) in plan.iter().zip(decisions.offsets()).enumerate() {
            let chosen = start + k as usize;
            let (origin, noise) = (self.sum[chosen], self.spread[chosen]);
            // Nothing to do for a decision that stays.
            if origin == 0.0 && noise == 0.0 {
                continue;
            }
            for j in decisions.options_of(d) {
                self.sum[j] -= origin;
                self.spread[j] += noise;
            }
            self.spread[chosen] = 0.0;
        }
    }

    /// Mean of an entry, and the variance of that mean: of one draw only its own square, and none
    /// where all draws are alike.
    fn mean(&self, j: usize, alike: bool) -> (f64, f64) {
        let mean = self.sum[j] / self.count;
        let free = self.count - 1.0;
        let noise = match (alike, free > 0.0) {
            (true, _) => 0.0,
            (false, true) => self.spread[j] / (free * self.count),
            (false, false) => mean * mean,
        };
        (mean, noise)
    }
}

/// What every change of one decision of `plan` does to the loss: the mean of the draws, drawn
/// towards the difference of the scores unless all draws are alike. 0 for what is chosen.
fn changes(
    decisions: &Decisions,
    plan: &[u32],
    scores: &[f64],
    draws: &Draws,
    alike: bool,
) -> Vec<f64> {
    let chosen: Vec<usize> =
        plan.iter().zip(decisions.offsets()).map(|(&k, start)| start + k as usize).collect();
    let typical = chosen.iter().map(|&c| scores[c].abs()).sum::<f64>() / chosen.len().max(1) as f64;
    // How far an entry may be from the scores: errors that come and go, times those around.
    let width =
        |c: usize, j: usize| (scores[c].abs() + scores[j].abs()) * (scores[c].abs() + typical);
    let of = |(d, &c): (usize, &usize)| {
        decisions.options_of(d).filter(move |&j| j != c).map(move |j| (c, j))
    };
    let entries: Vec<(usize, usize)> = chosen.iter().enumerate().flat_map(of).collect();
    let (mut excess, mut widths) = (0.0, 0.0);
    for &(c, j) in &entries {
        let (mean, noise) = draws.mean(j, alike);
        excess += (mean - (scores[j] - scores[c])).powi(2) - noise;
        widths += width(c, j);
    }
    let share = if widths > 0.0 { (excess / widths).max(0.0) } else { 0.0 };
    let mut out = vec![0.0; scores.len()];
    for (c, j) in entries {
        let (mean, noise) = draws.mean(j, alike);
        let (expected, variance) = (scores[j] - scores[c], share * width(c, j));
        let trust = if noise > 0.0 { variance / (variance + noise) } else { 1.0 };
        out[j] = expected + trust * (mean - expected);
    }
    out
}

impl Descend {
    pub(crate) fn new(settings: DescendSettings) -> Self {
        Self { settings, state: State::default() }
    }

    /// What a change of one decision is charged for.
    fn charge(&self, decisions: &Decisions, plan: &[u32], scores: &[f64]) -> Vec<f64> {
        let share = 0.5 * self.settings.charge * 2.0_f64.powi(self.state.doubled);
        let mut out = vec![0.0; scores.len()];
        for (d, (&k, start)) in plan.iter().zip(decisions.offsets()).enumerate() {
            let c = start + k as usize;
            for j in decisions.options_of(d).filter(|&j| j != c) {
                out[j] = share * (scores[c].abs() + scores[j].abs());
            }
        }
        out
    }

    /// The best plan so far, measured.
    fn begin(oracle: &mut Oracle<'_>) -> Result<Option<(Vec<u32>, f64, Draws)>, SearchError> {
        let Some(plan) = oracle.best().map(|best| best.choices.clone()) else { return Ok(None) };
        let losses = oracle.losses(NAME, std::slice::from_ref(&plan), Sample::Calibration)?;
        Ok(losses.first().map(|&loss| (plan, loss, Draws::default())))
    }
}

impl Method for Descend {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.settings.rounds + 1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let Some(scores) = oracle.scores().map(<[f64]>::to_vec) else {
            return Ok(Progress::done());
        };
        if self.state.finishing || self.state.rounds >= self.settings.rounds {
            return Ok(Progress::done());
        }
        let begun = match self.state.current.take() {
            Some(current) => Some(current),
            None => Self::begin(oracle)?,
        };
        let Some((plan, loss, mut draws)) = begun else { return Ok(Progress::done()) };
        self.state.rounds += 1;
        let count = if oracle.is_deterministic() { 1 } else { self.settings.draws };
        let measured = oracle.gradients(NAME, &vec![plan.clone(); count as usize])?;
        if measured.is_empty() {
            return Ok(Progress::done());
        }
        draws.add(oracle.decisions(), &plan, &measured);
        let alike = oracle.is_deterministic();
        let changes = changes(oracle.decisions(), &plan, &scores, &draws, alike);
        let charge = self.charge(oracle.decisions(), &plan, &scores);
        let values: Vec<f64> = changes.iter().zip(charge).map(|(g, c)| -(g + c)).collect();
        let next = oracle.knapsack(&values)?;
        if next == plan {
            // Nothing is worth a change.
            return Ok(Progress { done: true, loss: Some(loss), ..Progress::default() });
        }
        oracle.propose(NAME, "knapsack on gradients at the plan", &next)?;
        let found = oracle.losses(NAME, std::slice::from_ref(&next), Sample::Calibration)?;
        let Some(&found) = found.first() else { return Ok(Progress::done()) };
        self.state.current = Some(if found < loss {
            self.state.doubled -= 1;
            draws.move_to(oracle.decisions(), &next);
            (next, found, draws)
        } else {
            self.state.doubled += 1;
            (plan, loss, draws)
        });
        Ok(Progress::measured(found))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::search::testing::{Spec, problem};

    fn measured(gradients: &[Vec<f64>]) -> Vec<Measured> {
        gradients.iter().map(|g| Measured { loss: 0.0, gradient: g.clone() }).collect()
    }

    #[test]
    fn changes_are_what_was_drawn_where_that_is_sure_and_scores_where_it_is_not() {
        let problem = problem(&Spec { groups: 5, options: 3, ..Spec::default() });
        let decisions = problem.decisions();
        let mut random = stream(3, Purpose::Instance, 0);
        let scores: Vec<f64> = (0..15).map(|j| f64::from(3 - j % 3)).collect();
        let plan = [0, 1, 2, 0, 1];
        let truth: Vec<f64> = scores.iter().map(|s| s + 0.5 * random.normal()).collect();
        let mut distances = Vec::new();
        for noise in [1e-9, 1e3] {
            let draw = |_| truth.iter().map(|t| t + noise * random.normal()).collect();
            let drawn: Vec<Vec<f64>> = (0..8).map(draw).collect();
            let mut draws = Draws::default();
            draws.add(decisions, &plan, &measured(&drawn));
            let found = changes(decisions, &plan, &scores, &draws, false);
            let from = |values: &[f64]| -> f64 {
                let of = |(j, found): (usize, &f64)| {
                    let chosen = 3 * (j / 3) + plan[j / 3] as usize;
                    (found - (values[j] - values[chosen])).abs()
                };
                found.iter().enumerate().map(of).fold(0.0, f64::max)
            };
            distances.push([from(&truth), from(&scores)]);
        }
        assert!(distances[0][0] < 1e-6 && distances[0][1] > 0.1, "{distances:?}");
        assert!(distances[1][1] < 0.1 * distances[1][0], "{distances:?}");
    }

    #[test]
    fn one_draw_is_believed_where_all_are_alike() {
        let problem = problem(&Spec { groups: 2, options: 2, ..Spec::default() });
        let decisions = problem.decisions();
        let mut draws = Draws::default();
        draws.add(decisions, &[0, 0], &measured(&[vec![0.0, 5.0, 0.0, -3.0]]));
        let found = |alike| changes(decisions, &[0, 0], &[2.0, 1.0, 2.0, 1.0], &draws, alike);
        assert_eq!(found(true), [0.0, 5.0, 0.0, -3.0]);
        assert_ne!(found(false), found(true));
    }

    #[test]
    fn what_was_drawn_at_one_plan_is_said_of_another() {
        let problem = problem(&Spec { groups: 4, options: 3, ..Spec::default() });
        let decisions = problem.decisions();
        let mut random = stream(4, Purpose::Instance, 0);
        let gradients: Vec<Vec<f64>> =
            (0..3).map(|_| (0..12).map(|_| random.normal()).collect()).collect();
        let (from, to) = ([0, 1, 2, 1], [2, 1, 0, 1]);
        let [mut moved, mut there] = [from, to].map(|plan| {
            let mut draws = Draws::default();
            draws.add(decisions, &plan, &measured(&gradients));
            draws
        });
        moved.move_to(decisions, &to);
        for j in 0..12 {
            assert!((moved.sum[j] - there.sum[j]).abs() < 1e-12, "{j}");
        }
        for (d, k) in to.iter().enumerate() {
            let chosen = 3 * d + *k as usize;
            assert_eq!((moved.sum[chosen], moved.spread[chosen]), (0.0, 0.0));
        }
        // What is drawn there counts as much as what was drawn before.
        moved.add(decisions, &to, &measured(&gradients));
        there.add(decisions, &to, &measured(&gradients));
        assert_eq!(moved.count, 6.0);
        let mean = |draws: &Draws, j| draws.mean(j, false).0;
        assert!((0..12).all(|j| (mean(&moved, j) - mean(&there, j)).abs() < 1e-12));
    }
}
