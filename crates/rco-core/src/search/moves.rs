//! Feasible moves of one decision and swaps of two, ranked by what a model of the loss
//! predicts.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::curvature::Model;
use crate::budget::BudgetKind;
use crate::problem::Problem;

/// Single moves that take part in swaps, for each of the lists they are chosen by.
const PARTNERS: usize = 96;
/// Moves kept for each exact change of cost.
const PARTNERS_EXACT: usize = 4;

/// A change of one or two decisions of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Move {
    /// Decision and its new local option.
    pub(crate) changes: Vec<(usize, u32)>,
    /// Change of the loss that gradient and curvature predict.
    pub(crate) predicted: f64,
}

impl Move {
    /// The plan after the move.
    pub(crate) fn apply(&self, plan: &[u32]) -> Vec<u32> {
        let mut out = plan.to_vec();
        for &(d, k) in &self.changes {
            out[d] = k;
        }
        out
    }
}

struct Single {
    decision: usize,
    option: u32,
    /// Index of the option in the flat order.
    flat: usize,
    predicted: f64,
    /// Change of the cost for every resource.
    change: Vec<i64>,
    /// The same as shares of the budgets, summed.
    weight: f64,
}

/// The `count` moves with the smallest predicted change of the loss that keep every
/// budget: single moves, and swaps of a costlier against a cheaper option. Swaps
/// are formed among the most promising single moves; where a budget has to be met
/// exactly, among those that cancel each other's cost.
pub(crate) fn ranked_moves(
    problem: &Problem,
    plan: &[u32],
    model: &Model,
    count: usize,
) -> Vec<Move> {
    let decisions = problem.decisions();
    let budgets = problem.budgets();
    let total: Vec<i64> =
        (0..budgets.len()).map(|r| decisions.cost_of(plan, r).cast_signed()).collect();
    let fits = |changes: &[&Single]| {
        budgets.iter().enumerate().all(|(r, budget)| {
            let change: i64 = changes.iter().map(|s| s.change[r]).sum();
            budget.admits((total[r] + change).cast_unsigned())
        })
    };
    let singles = single_moves(problem, plan, model);
    let mut out: Vec<Move> = singles
        .iter()
        .filter(|s| fits(&[s]))
        .map(|s| Move { changes: vec![(s.decision, s.option)], predicted: s.predicted })
        .collect();
    let mut swap = |a: &Single, b: &Single| {
        if a.decision != b.decision && fits(&[a, b]) {
            let mut changes = vec![(a.decision, a.option), (b.decision, b.option)];
            changes.sort_unstable();
            out.push(Move { changes, predicted: model.predict(&[a.flat, b.flat]) });
        }
    };
    if budgets.iter().any(|b| b.kind == BudgetKind::Exactly) {
        for (a, b) in cancelling(problem, &singles) {
            swap(a, b);
        }
    } else {
        let (up, down) = promising(&singles);
        for &a in &up {
            for &b in &down {
                swap(a, b);
            }
        }
    }
    let order = |a: &Move, b: &Move| {
        a.predicted.total_cmp(&b.predicted).then_with(|| a.changes.cmp(&b.changes))
    };
    if out.len() > count {
        out.select_nth_unstable_by(count, order);
        out.truncate(count);
    }
    out.sort_by(order);
    out.dedup();
    out
}

fn single_moves(problem: &Problem, plan: &[u32], model: &Model) -> Vec<Single> {
    let decisions = problem.decisions();
    let mut out = Vec::new();
    for (d, &now) in plan.iter().enumerate() {
        let range = decisions.options_of(d);
        let old = range.start + now as usize;
        for (k, j) in range.enumerate().filter(|&(k, _)| k as u32 != now) {
            let change: Vec<i64> = (0..decisions.resource_count())
                .map(|r| {
                    let costs = decisions.costs(r);
                    costs[j].cast_signed() - costs[old].cast_signed()
                })
                .collect();
            let shares = change.iter().zip(problem.budgets());
            out.push(Single {
                decision: d,
                option: k as u32,
                flat: j,
                predicted: model.predict(&[j]),
                weight: shares.map(|(&c, b)| c as f64 / b.limit.max(1) as f64).sum(),
                change,
            });
        }
    }
    out
}

/// Moves worth a swap: those up that promise most in all or for their cost, and
/// those down that are predicted to cost least in all or for what they free.
fn promising(singles: &[Single]) -> (Vec<&Single>, Vec<&Single>) {
    let pick = |up: bool| {
        let side: Vec<&Single> = singles.iter().filter(|s| (s.weight > 0.0) == up).collect();
        let mut chosen: Vec<usize> = Vec::new();
        let by_change = |s: &Single| s.predicted;
        // Down: predicted rise per cost freed. Up: predicted fall per cost taken.
        let by_ratio = |s: &Single| s.predicted / s.weight.abs().max(f64::MIN_POSITIVE);
        for key in [&by_change as &dyn Fn(&Single) -> f64, &by_ratio] {
            let mut order: Vec<usize> = (0..side.len()).collect();
            let compare =
                |a: &usize, b: &usize| key(side[*a]).total_cmp(&key(side[*b])).then(a.cmp(b));
            if order.len() > PARTNERS {
                order.select_nth_unstable_by(PARTNERS, compare);
                order.truncate(PARTNERS);
            }
            chosen.extend(order);
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen.into_iter().map(|index| side[index]).collect::<Vec<_>>()
    };
    (pick(true), pick(false))
}

/// Pairs of moves whose changes of the `exactly` budgets' costs cancel.
fn cancelling<'a>(problem: &Problem, singles: &'a [Single]) -> Vec<(&'a Single, &'a Single)> {
    let key = |s: &Single, sign: i64| -> Vec<i64> {
        let budgets = problem.budgets().iter().zip(&s.change);
        let exact = budgets.filter(|(b, _)| b.kind == BudgetKind::Exactly);
        exact.map(|(_, &c)| sign * c).collect()
    };
    let mut order: Vec<&Single> = singles.iter().collect();
    order.sort_by(|a, b| {
        let places = (a.decision, a.option).cmp(&(b.decision, b.option));
        a.predicted.total_cmp(&b.predicted).then(places)
    });
    // Best moves first, so that each list holds the best of its change.
    let mut by_change: HashMap<Vec<i64>, Vec<&Single>> = HashMap::new();
    for single in &order {
        let list = by_change.entry(key(single, 1)).or_default();
        if list.len() < PARTNERS_EXACT {
            list.push(single);
        }
    }
    let mut out = Vec::new();
    for single in order {
        let place = (single.decision, single.option);
        for partner in by_change.get(&key(single, -1)).into_iter().flatten() {
            // Each pair once where both are listed; a move past the list's end
            // still meets the listed ones.
            if (partner.decision, partner.option) != place {
                out.push((single, *partner));
            }
        }
    }
    out
}
