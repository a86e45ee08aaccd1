//! The knapsack against oracles: enumeration for tiny instances, HiGHS for middle ones.
#![allow(clippy::unwrap_used)]

use rco_core::knapsack::{KnapsackError, Settings, Solver, Status};
use rco_core::rng::{Purpose, Stream, stream};
use rco_core::{Budget, BudgetKind, Decisions, GroupSpec, OptionSpec, Problem};

/// A random knapsack.
struct Case {
    problem: Problem,
    values: Vec<f64>,
}

impl Case {
    fn decisions(&self) -> &Decisions {
        self.problem.decisions()
    }

    fn scale(&self) -> f64 {
        self.values.iter().map(|v| v.abs()).sum::<f64>().max(1e-300)
    }
}

/// Draws an instance of one of eight kinds, easy and hostile.
fn draw(random: &mut Stream, groups: usize, options: usize, resources: usize) -> Case {
    let n = 1 + random.below(groups);
    let kind = random.below(8);
    let top = [3, 20, 1000, 1_000_000_007][random.below(4)];
    let step = [1, 1, 2, 7][random.below(4)];
    let offset = [0, 0, 5, 1_000_000][random.below(4)];
    let mut specs = Vec::new();
    let mut values = Vec::new();
    for i in 0..n {
        let k = 1 + random.below(options);
        let mut own = Vec::new();
        for j in 0..k {
            let raw = random.below(top) as u64;
            let costs: Vec<u64> = (0..resources)
                .map(|r| if r == 0 { raw } else { random.below(top) as u64 })
                .map(|c| c * step + offset)
                .collect();
            let cost = raw as f64;
            values.push(match kind {
                0 => random.normal(),
                1 => cost + top as f64 * 0.1 * random.uniform(),
                2 => cost + top as f64 * 0.1,
                3 => cost,
                4 => random.below(4) as f64 - 1.0,
                5 => -(10.0 * random.normal()).exp2(),
                6 => 1.0,
                _ => -cost - random.below(3) as f64,
            });
            own.push(OptionSpec::new(format!("{j}"), costs));
        }
        specs.push(GroupSpec::new(format!("{i}"), own));
    }
    let ranges: Vec<(u64, u64)> = (0..resources)
        .map(|r| {
            specs.iter().fold((0, 0), |(low, high), group| {
                let costs = || group.options.iter().map(|o| o.costs[r]);
                (low + costs().min().unwrap(), high + costs().max().unwrap())
            })
        })
        .collect();
    let mut builder = Problem::builder().groups(specs);
    for (r, (low, high)) in ranges.into_iter().enumerate() {
        let limit = low + random.below((high - low + 1) as usize) as u64;
        let exactly = random.below(3) == 0;
        builder = builder.budget(if exactly {
            Budget::exactly(format!("{r}"), limit)
        } else {
            Budget::at_most(format!("{r}"), limit + random.below(2) as u64)
        });
    }
    Case { problem: builder.build().unwrap(), values }
}

/// Calls `visit` with value and totals of every assignment.
fn enumerate(case: &Case, mut visit: impl FnMut(f64, &[u64])) {
    let decisions = case.decisions();
    let resources = decisions.resource_count();
    let mut choices = vec![0_u32; decisions.len()];
    loop {
        let value: f64 = choices
            .iter()
            .enumerate()
            .map(|(i, &k)| case.values[decisions.options_of(i).start + k as usize])
            .sum();
        let totals: Vec<u64> = (0..resources).map(|r| decisions.cost_of(&choices, r)).collect();
        visit(value, &totals);
        let mut i = 0;
        loop {
            if i == choices.len() {
                return;
            }
            choices[i] += 1;
            if (choices[i] as usize) < decisions.options_of(i).len() {
                break;
            }
            choices[i] = 0;
            i += 1;
        }
    }
}

/// Best value under the budgets; with one `exactly` budget that cannot be met, at the
/// nearest total below, with the neighbours.
fn oracle(case: &Case) -> (Option<f64>, Option<(u64, Option<u64>)>) {
    let budgets = case.problem.budgets();
    let mut best: Option<f64> = None;
    let (mut below, mut above) = (None::<u64>, None::<u64>);
    enumerate(case, |value, totals| {
        if budgets.iter().zip(totals).all(|(b, &t)| b.admits(t)) {
            best = Some(best.map_or(value, |old| old.max(value)));
        }
        let limit = budgets[0].limit;
        if totals[0] <= limit {
            below = Some(below.map_or(totals[0], |old| old.max(totals[0])));
        } else {
            above = Some(above.map_or(totals[0], |old| old.min(totals[0])));
        }
    });
    if best.is_some() || budgets.len() > 1 {
        return (best, None);
    }
    let target = below.unwrap();
    enumerate(case, |value, totals| {
        if totals[0] == target {
            best = Some(best.map_or(value, |old| old.max(value)));
        }
    });
    (best, Some((target, above)))
}

#[test]
fn one_budget_equals_enumeration() {
    let mut random = stream(11, Purpose::Instance, 0);
    for number in 0..10_000 {
        let case = draw(&mut random, 6, 5, 1);
        let budget = &case.problem.budgets()[0];
        let mut solver =
            Solver::new(case.decisions(), case.problem.budgets(), Settings::default()).unwrap();
        let mut choices = vec![0; case.decisions().len()];
        let certificate = match solver.solve(&case.values, &mut choices) {
            Ok(certificate) => certificate,
            Err(error) => panic!("case {number}: {error}"),
        };
        let (best, nearest) = oracle(&case);
        let best = best.unwrap();
        let cost = case.decisions().cost_of(&choices, 0);
        assert_eq!(cost, certificate.cost, "case {number}");
        assert_eq!(solver.costs(), [cost]);
        assert!(cost <= budget.limit, "case {number}: over budget");
        assert_eq!(certificate.slack, budget.limit - cost);
        assert_eq!(certificate.gap, 0.0, "case {number}");
        let error = (certificate.value - best).abs();
        assert!(error <= 1e-12 * case.scale(), "case {number}: {certificate:?}, best {best}");
        match nearest {
            None => assert_eq!(certificate.status, Status::Optimal, "case {number}"),
            Some((below, above)) => {
                assert_eq!(certificate.status, Status::Nearest { below, above }, "case {number}");
                assert_eq!(cost, below);
            }
        }
        if budget.kind == BudgetKind::Exactly && nearest.is_none() {
            assert_eq!(cost, budget.limit);
        }
    }
}

#[test]
fn two_and_three_budgets_equal_enumeration() {
    let mut random = stream(12, Purpose::Instance, 0);
    let (mut solved, mut infeasible, mut named) = (0, 0, 0);
    for number in 0..600 {
        let resources = 2 + random.below(2);
        let case = draw(&mut random, 5, 4, resources);
        let budgets = case.problem.budgets();
        let (best, _) = oracle(&case);
        let built = Solver::new(case.decisions(), budgets, Settings::default());
        let mut choices = vec![0; case.decisions().len()];
        let result = built.and_then(|mut solver| {
            let certificate = solver.solve(&case.values, &mut choices)?;
            Ok((certificate, solver.costs().to_vec()))
        });
        match (result, best) {
            (Ok((certificate, costs)), Some(best)) => {
                for (r, (budget, cost)) in budgets.iter().zip(costs).enumerate() {
                    assert_eq!(cost, case.decisions().cost_of(&choices, r));
                    assert!(budget.admits(cost), "case {number}: budget {r} is not met");
                }
                let room = 1e-9 * case.scale();
                assert!(certificate.bound >= best - room, "case {number}: {certificate:?} {best}");
                assert!(certificate.value <= best + room, "case {number}: {certificate:?} {best}");
                if certificate.is_proven() {
                    let error = (certificate.value - best).abs();
                    assert!(error <= room, "case {number}: {certificate:?}, best {best}");
                }
                solved += 1;
            }
            (Err(KnapsackError::JointlyInfeasible { nearest, .. }), None) => {
                infeasible += 1;
                named += usize::from(nearest.len() == resources);
                let totals: Vec<(usize, u64)> =
                    nearest.iter().map(|(name, total)| (name.parse().unwrap(), *total)).collect();
                let mut exists = false;
                enumerate(&case, |_, t| exists |= totals.iter().all(|&(r, total)| t[r] == total));
                // One budget at fault by itself: the multiple of the unit below it.
                assert!(exists || nearest.len() == 1, "case {number}: {nearest:?}");
            }
            (result, best) => {
                // Without HiGHS a feasible solution may be missed, never invented.
                let missed = matches!(result, Err(KnapsackError::Undecided { .. }));
                assert!(missed && !cfg!(feature = "highs"), "case {number}: {result:?} {best:?}");
            }
        }
    }
    assert!(named > 50 || !cfg!(feature = "highs"), "only {named} with the nearest totals");
    assert!(solved > 100, "only {solved} feasible instances, {infeasible} infeasible");
}

#[cfg(feature = "highs")]
mod middle {
    use super::*;
    use highs::{HighsModelStatus, RowProblem, Sense};

    /// Optimum by HiGHS, on the values as they are.
    fn highs_optimum(case: &Case) -> Option<f64> {
        let decisions = case.decisions();
        let budget = &case.problem.budgets()[0];
        let mut problem = RowProblem::default();
        let columns: Vec<_> =
            case.values.iter().map(|&v| problem.add_integer_column(v, 0.0..=1.0)).collect();
        for i in 0..decisions.len() {
            problem.add_row(1.0..=1.0, decisions.options_of(i).map(|j| (columns[j], 1.0)));
        }
        let row = columns.iter().zip(decisions.costs(0)).map(|(&x, &c)| (x, c as f64));
        problem.add_row(..=budget.limit as f64, row);
        let mut model = problem.optimise(Sense::Maximise);
        model.set_option("mip_rel_gap", 0.0);
        model.set_option("mip_abs_gap", 1e-9);
        model.set_option("threads", 1);
        model.set_option("mip_max_nodes", 200);
        let solved = model.solve();
        (solved.status() == HighsModelStatus::Optimal).then(|| solved.objective_value())
    }

    #[test]
    fn one_budget_equals_highs() {
        let mut random = stream(13, Purpose::Instance, 0);
        let mut compared = 0;
        for number in 0..300 {
            let n = 8 + random.below(33);
            let kind = random.below(4);
            let mut specs = Vec::new();
            let mut values = Vec::new();
            for i in 0..n {
                let k = 2 + random.below(7);
                let costs: Vec<u64> = (0..k).map(|_| 1 + random.below(1000) as u64).collect();
                values.extend(costs.iter().map(|&c| match kind {
                    0 => 100.0 * random.uniform(),
                    1 => c as f64 + 100.0 * random.uniform(),
                    2 => -100.0 * (-(c as f64) / 100.0).exp() * random.uniform(),
                    _ => random.below(50) as f64 - 25.0,
                }));
                let options: Vec<_> = costs
                    .iter()
                    .enumerate()
                    .map(|(j, &c)| OptionSpec::new(format!("{j}"), [c]))
                    .collect();
                specs.push(GroupSpec::new(format!("{i}"), options));
            }
            let range = |pick: fn(&[u64]) -> u64| -> u64 {
                let own = |g: &GroupSpec| g.options.iter().map(|o| o.costs[0]).collect::<Vec<_>>();
                specs.iter().map(|g| pick(&own(g))).sum()
            };
            let low = range(|c| c.iter().copied().min().unwrap());
            let high = range(|c| c.iter().copied().max().unwrap());
            let limit = low + random.below((high - low + 1) as usize) as u64;
            let problem = Problem::builder()
                .groups(specs)
                .budget(Budget::at_most("bytes", limit))
                .build()
                .unwrap();
            let case = Case { problem, values };
            let Some(best) = highs_optimum(&case) else { continue };
            let mut solver =
                Solver::new(case.decisions(), case.problem.budgets(), Settings::default()).unwrap();
            let mut choices = vec![0; n];
            let certificate = solver.solve(&case.values, &mut choices).unwrap();
            assert!(certificate.cost <= limit);
            assert!(certificate.is_proven(), "case {number}: {certificate:?}");
            // HiGHS is exact to its tolerance of 1e-6 only.
            let error = (certificate.value - best).abs();
            assert!(error <= 1e-5, "case {number}: {certificate:?}, HiGHS {best}");
            compared += 1;
        }
        assert!(compared >= 200, "HiGHS finished only {compared} instances");
    }
}
