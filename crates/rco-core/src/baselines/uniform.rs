//! The same option everywhere: the plan that a user picks by hand.

use serde_json::Value;

use crate::decisions::Decisions;
use crate::search::fill::fill;
use crate::search::{Method, MethodName, Oracle, Progress, Sample, SearchError};

const NAME: MethodName = MethodName::Uniform;

/// The largest uniform plan that fits, and the same filled up to the budget.
///
/// Where all decisions have the same number of options, a level is an option
/// index, taken in the order of cost; otherwise a level is a rank among the
/// options of a decision ordered by cost, from 0 (cheapest) to 1 (costliest). A
/// budget that no level meets (an `exactly` budget, mostly) gets the feasible plan
/// nearest to a level in squared rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uniform;

impl Method for Uniform {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let plan = uniform_plan(oracle)?;
        oracle.propose(NAME, "largest level that fits", &plan)?;
        let mut plans = vec![plan];
        let mut filled = plans[0].clone();
        let weight = relative_costs(oracle);
        let values: Vec<f64> = match oracle.scores() {
            Some(scores) => scores.iter().map(|s| -s).collect(),
            None => weight,
        };
        fill(oracle, &values, &mut filled);
        if filled != plans[0] {
            oracle.propose(NAME, "largest level, filled to the budget", &filled)?;
            plans.push(filled);
        }
        let losses = oracle.losses(NAME, &plans, Sample::Calibration)?;
        Ok(Progress { done: true, loss: losses.first().copied(), ..Progress::default() })
    }

    fn wind_up(&mut self) {}

    fn save(&self) -> Result<Value, SearchError> {
        Ok(Value::Null)
    }

    fn restore(&mut self, _state: Value) -> Result<(), SearchError> {
        Ok(())
    }
}

/// Cost of every option as a share of the budgets, summed over the resources.
pub(crate) fn relative_costs(oracle: &Oracle<'_>) -> Vec<f64> {
    let decisions = oracle.decisions();
    let mut out = vec![0.0; decisions.option_count()];
    for (r, budget) in oracle.problem().budgets().iter().enumerate() {
        let unit = 1.0 / budget.limit.max(1) as f64;
        for (value, &cost) in out.iter_mut().zip(decisions.costs(r)) {
            *value += cost as f64 * unit;
        }
    }
    out
}

/// Local option indices of every decision in the order of cost.
fn by_cost(decisions: &Decisions, weight: &[f64]) -> Vec<Vec<u32>> {
    (0..decisions.len())
        .map(|d| {
            let range = decisions.options_of(d);
            let mut order: Vec<u32> = (0..range.len() as u32).collect();
            let cost = |k: u32| weight[range.start + k as usize];
            order.sort_by(|&a, &b| cost(a).total_cmp(&cost(b)).then(a.cmp(&b)));
            order
        })
        .collect()
}

/// The largest uniform plan that fits, or the nearest feasible plan to one.
pub(crate) fn uniform_plan(oracle: &mut Oracle<'_>) -> Result<Vec<u32>, SearchError> {
    let decisions = oracle.decisions();
    let weight = relative_costs(oracle);
    let order = by_cost(decisions, &weight);
    let levels = order.iter().map(Vec::len).max().unwrap_or(1);
    // The rank of `level` in a decision with `count` options; equal option counts
    // give equal ranks.
    let rank = |level: usize, count: usize| {
        if levels == 1 { 0 } else { (level * (count - 1)) / (levels - 1) }
    };
    let at = |level: usize| -> Vec<u32> { order.iter().map(|o| o[rank(level, o.len())]).collect() };
    if let Some(plan) = (0..levels).rev().map(at).find(|plan| oracle.is_feasible(plan)) {
        return Ok(plan);
    }
    // The level whose cost is nearest to the budget, made feasible.
    let target = oracle.problem().budgets().len() as f64;
    let cost = |plan: &[u32]| -> f64 {
        plan.iter().enumerate().map(|(d, &k)| weight[decisions.offsets()[d] + k as usize]).sum()
    };
    let distance = |level: usize| (cost(&at(level)) - target).abs();
    let nearest = (0..levels).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap_or(0);
    let mut values = vec![0.0; decisions.option_count()];
    for (d, order) in order.iter().enumerate() {
        let wanted = rank(nearest, order.len()) as f64;
        for (found, &k) in order.iter().enumerate() {
            values[decisions.offsets()[d] + k as usize] = -(found as f64 - wanted).powi(2);
        }
    }
    oracle.knapsack(&values)
}
