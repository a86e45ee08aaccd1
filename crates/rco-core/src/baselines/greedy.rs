//! Greedy by ratio: the classical heuristic for the multiple-choice knapsack.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scores::{Estimator, ScoreSettings, estimator_price};
use super::uniform::relative_costs;
use crate::search::fill::repair;
use crate::search::{
    Method, MethodName, Oracle, Progress, Sample, SearchError, from_json, to_json,
};

const NAME: MethodName = MethodName::Greedy;

/// Starts from the cheapest options and takes, again and again, the change that
/// saves most score per unit of cost and fits, until none does (Sinha and
/// Zoltners 1979; with several budgets the cost is the sum of the shares of the
/// budgets, after Toyoda 1975). What misses an `exactly` budget is repaired by the
/// exact knapsack with as few changes as possible.
#[derive(Debug)]
pub struct Greedy {
    settings: ScoreSettings,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    scores: Estimator,
}

impl Greedy {
    /// Ready for its first step.
    pub fn new(settings: ScoreSettings) -> Self {
        Self { settings, state: State::default() }
    }
}

impl Method for Greedy {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(estimator_price(&self.settings) + 1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let Some(scores) = oracle.scores() else {
            let (loss, _) = self.state.scores.step(oracle, NAME, self.settings.points)?;
            return Ok(Progress { loss, ..Progress::default() });
        };
        let scores = scores.to_vec();
        let plan = greedy_plan(oracle, &scores)?;
        oracle.propose(NAME, "best ratio first", &plan)?;
        let loss = oracle.losses(NAME, &[plan], Sample::Calibration)?.pop();
        Ok(Progress { done: true, loss, ..Progress::default() })
    }

    fn wind_up(&mut self) {
        self.state.scores.wind_up();
    }

    fn save(&self) -> Result<Value, SearchError> {
        to_json(NAME, &self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        self.state = from_json(NAME, state)?;
        Ok(())
    }
}

/// A change of one decision; the largest ratio comes first, then the smallest index.
struct Change {
    ratio: f64,
    decision: usize,
    option: u32,
}

impl PartialEq for Change {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Change {}

impl PartialOrd for Change {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Change {
    fn cmp(&self, other: &Self) -> Ordering {
        self.ratio
            .total_cmp(&other.ratio)
            .then(other.decision.cmp(&self.decision))
            .then(other.option.cmp(&self.option))
    }
}

fn greedy_plan(oracle: &mut Oracle<'_>, scores: &[f64]) -> Result<Vec<u32>, SearchError> {
    let decisions = oracle.decisions();
    let budgets = oracle.problem().budgets();
    let weight = relative_costs(oracle);
    let mut plan: Vec<u32> = (0..decisions.len())
        .map(|d| {
            let range = decisions.options_of(d);
            let start = range.start;
            let key = |j: &usize| (weight[*j], scores[*j]);
            let cheapest = range.min_by(|a, b| {
                let (a, b) = (key(a), key(b));
                a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
            });
            cheapest.map_or(0, |j| (j - start) as u32)
        })
        .collect();
    let mut total: Vec<u64> = (0..budgets.len()).map(|r| decisions.cost_of(&plan, r)).collect();
    let fits = |plan: &[u32], total: &[u64], d: usize, k: u32| {
        let start = decisions.offsets()[d];
        budgets.iter().enumerate().all(|(r, budget)| {
            let costs = decisions.costs(r);
            total[r] - costs[start + plan[d] as usize] + costs[start + k as usize] <= budget.limit
        })
    };
    let best = |plan: &[u32], total: &[u64], d: usize| -> Option<Change> {
        let start = decisions.offsets()[d];
        let now = start + plan[d] as usize;
        let count = decisions.options_of(d).len() as u32;
        (0..count)
            .filter_map(|k| {
                let j = start + k as usize;
                let (saved, price) = (scores[now] - scores[j], weight[j] - weight[now]);
                (saved > 0.0 && fits(plan, total, d, k)).then(|| Change {
                    ratio: if price > 0.0 { saved / price } else { f64::INFINITY },
                    decision: d,
                    option: k,
                })
            })
            .max()
    };
    let mut heap: BinaryHeap<Change> =
        (0..decisions.len()).filter_map(|d| best(&plan, &total, d)).collect();
    while let Some(change) = heap.pop() {
        let Change { decision: d, option: k, .. } = change;
        if fits(&plan, &total, d, k) {
            let start = decisions.offsets()[d];
            for (r, total) in total.iter_mut().enumerate() {
                let costs = decisions.costs(r);
                *total = *total - costs[start + plan[d] as usize] + costs[start + k as usize];
            }
            plan[d] = k;
        }
        heap.extend(best(&plan, &total, d));
    }
    let preference = preferences(oracle, scores);
    repair(oracle, &plan, &preference)
}

/// Scores turned into preferences from 0 (worst of its decision) to 1 (best).
fn preferences(oracle: &Oracle<'_>, scores: &[f64]) -> Vec<f64> {
    let decisions = oracle.decisions();
    let mut out = vec![0.0; scores.len()];
    for d in 0..decisions.len() {
        let range = decisions.options_of(d);
        let (low, high) = scores[range.clone()]
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &s| (l.min(s), h.max(s)));
        if high > low {
            for j in range {
                out[j] = (high - scores[j]) / (high - low);
            }
        }
    }
    out
}
