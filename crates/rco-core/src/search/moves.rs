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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::problem::{GroupSpec, OptionSpec};
    use crate::rng::{Purpose, stream};
    use crate::search::testing::{Spec, feasible, problem};

    /// A linear model with given derivatives relative to `plan`.
    fn linear(problem: &Problem, plan: &[u32], mut gradient: Vec<f64>) -> Model {
        for (d, &k) in plan.iter().enumerate() {
            let range = problem.decisions().options_of(d);
            let own = gradient[range.start + k as usize];
            gradient[range].iter_mut().for_each(|g| *g -= own);
        }
        Model { gradient, vectors: Vec::new(), signs: Vec::new() }
    }

    /// All feasible plans that differ from `plan` in one or two decisions.
    fn neighbours(problem: &Problem, plan: &[u32]) -> Vec<Vec<u32>> {
        let all = feasible(problem).into_iter().map(|a| problem.decisions().restrict(&a));
        let differ = |other: &Vec<u32>| other.iter().zip(plan).filter(|(a, b)| a != b).count();
        all.filter(|other| (1..=2).contains(&differ(other))).collect()
    }

    #[test]
    fn moves_are_feasible_in_order_and_start_with_the_best() {
        for (seed, kind) in (0..8).flat_map(|s| [(s, BudgetKind::AtMost), (s, BudgetKind::Exactly)])
        {
            let problem = problem(&Spec { groups: 6, options: 3, seed, kind, ..Spec::default() });
            let plan = problem.decisions().restrict(&feasible(&problem)[0]);
            let mut random = stream(seed, Purpose::Instance, 6);
            let gradient = (0..problem.option_count()).map(|_| random.normal()).collect();
            let model = linear(&problem, &plan, gradient);
            let value = |other: &[u32]| -> f64 {
                let start = |d: usize| problem.decisions().offsets()[d];
                (0..other.len()).map(|d| model.gradient[start(d) + other[d] as usize]).sum()
            };
            let moves = ranked_moves(&problem, &plan, &model, 20);
            assert!(moves.len() <= 20);
            assert!(moves.windows(2).all(|w| w[0].predicted <= w[1].predicted));
            for one in &moves {
                let moved = one.apply(&plan);
                assert!(problem.is_feasible(&problem.decisions().expand(&moved)));
                assert!((value(&moved) - one.predicted).abs() < 1e-12);
            }
            let near = neighbours(&problem, &plan);
            let least = near.iter().map(|other| value(other)).fold(f64::INFINITY, f64::min);
            let first = moves.first().map_or(f64::INFINITY, |m| m.predicted);
            // An `at most` budget gets no pairs that both save cost or both take it.
            if kind == BudgetKind::Exactly {
                assert!((first - least).abs() < 1e-12, "{seed}: {first} {least}");
            }
        }
    }

    #[test]
    fn curvature_changes_the_order() {
        // Two groups alike: either may grow. The gradient says the first, curvature that
        // it overshoots.
        let options = || [0, 1].map(|c| OptionSpec::new(format!("{c}"), [c]));
        let problem = Problem::builder()
            .groups(["a", "b"].map(|name| GroupSpec::new(name, options())))
            .budget(Budget::at_most("bytes", 1))
            .build()
            .unwrap();
        let gradient = vec![0.0, -2.0, 0.0, -1.0];
        let flat = linear(&problem, &[0, 0], gradient.clone());
        let bent = Model { vectors: vec![0.0, 2.0, 0.0, 0.1], signs: vec![1.0], gradient };
        let first = |model: &Model| ranked_moves(&problem, &[0, 0], model, 4)[0].changes.clone();
        assert_eq!(first(&flat), [(0, 1)]);
        assert_eq!(first(&bent), [(1, 1)]);
    }

    #[test]
    fn an_exactly_budget_leaves_only_changes_that_cancel() {
        let options = |top| [0, 1, top].map(|c| OptionSpec::new(format!("{c}"), [c]));
        let problem = Problem::builder()
            .groups([GroupSpec::new("a", options(5)), GroupSpec::new("b", options(9))])
            .budget(Budget::exactly("bytes", 1))
            .build()
            .unwrap();
        let model = linear(&problem, &[1, 0], vec![0.0; 6]);
        let moves = ranked_moves(&problem, &[1, 0], &model, 10);
        assert_eq!(moves.len(), 1);
        assert_eq!(moves[0].changes, [(0, 0), (1, 1)]);
    }
}
