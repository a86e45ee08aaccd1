//! What the knapsack does at its limits and with bad input.
#![allow(clippy::unwrap_used)]

use rco_core::knapsack::{Effort, KnapsackError, Settings, Solver, Status};
use rco_core::rng::{Purpose, stream};
use rco_core::{Budget, GroupSpec, OptionSpec, Problem};

/// Groups of two options with huge costs without common divisor and values equal to
/// them: only the sum counts, and no bound helps.
fn hostile(groups: usize, budget: impl Fn(u64, u64) -> Budget) -> (Problem, Vec<f64>) {
    let mut random = stream(5, Purpose::Instance, 1);
    let costs: Vec<Vec<u64>> = (0..groups)
        .map(|_| (0..6).map(|_| 1_000_000_000_000 + random.below(1 << 40) as u64).collect())
        .collect();
    let low = costs.iter().map(|own| own.iter().min().unwrap()).sum();
    let high = costs.iter().map(|own| own.iter().max().unwrap()).sum();
    let values = costs.concat().iter().map(|&c| c as f64 + 1e10).collect();
    let specs = costs.iter().enumerate().map(|(i, own)| {
        let options = own.iter().enumerate().map(|(k, &c)| OptionSpec::new(format!("{k}"), [c]));
        GroupSpec::new(format!("{i}"), options.collect::<Vec<_>>())
    });
    (Problem::builder().groups(specs).budget(budget(low, high)).build().unwrap(), values)
}

fn small(limit: u64) -> Problem {
    let options = |costs: [u64; 2]| costs.map(|c| OptionSpec::new(format!("{c}"), [c]));
    Problem::builder()
        .group(GroupSpec::new("a", options([2, 5])))
        .group(GroupSpec::new("b", options([1, 8])))
        .budget(Budget::at_most("bytes", limit))
        .build()
        .unwrap()
}

#[test]
fn a_node_limit_ends_the_search_with_a_true_gap() {
    let (problem, values) =
        hostile(60, |low, high| Budget::at_most("bytes", u64::midpoint(low, high)));
    let mut choices = vec![0; 60];
    let mut solve = |max_nodes, max_states| {
        let settings = Settings { max_nodes, max_states, ..Settings::default() };
        let mut solver = Solver::new(problem.decisions(), problem.budgets(), settings).unwrap();
        let certificate = solver.solve(&values, &mut choices).unwrap();
        assert!(certificate.cost <= problem.budgets()[0].limit);
        (certificate, solver.work().states)
    };
    let (short, states) = solve(10_000, 256);
    // One stage may overshoot: the limit is looked at between decisions.
    assert!(states <= 10_000 + 256 * 6, "{states}");
    let (long, _) = solve(2_000_000, 20_000);
    assert!(short.bound >= long.value && long.bound >= short.value);
    assert_eq!(short.status == Status::LimitReached, short.gap > 0.0);
    assert!(short.gap > 0.0 && short.gap < 1e-3, "{short:?}");
}

/// Whether a total is one that `choices` have.
fn is_cost(problem: &Problem, choices: &[u32], total: u64) -> bool {
    problem.decisions().cost_of(choices, 0) == total
}

#[test]
fn an_exactly_budget_beyond_the_limits_is_missed_by_little_and_said_so() {
    let (problem, values) =
        hostile(40, |low, high| Budget::exactly("bytes", u64::midpoint(low, high)));
    let limit = problem.budgets()[0].limit;
    let settings = Settings { max_nodes: 300_000, max_states: 4_000, ..Settings::default() };
    let mut solver = Solver::new(problem.decisions(), problem.budgets(), settings).unwrap();
    let mut choices = [0; 40];
    let certificate = solver.solve(&values, &mut choices).unwrap();
    let Status::Missed { below, above } = certificate.status else { panic!("{certificate:?}") };
    assert!(is_cost(&problem, &choices, below) && certificate.slack == limit - below);
    assert!(below < limit && limit - below < 1_000_000, "{certificate:?}");
    assert!(above.unwrap() > limit && above.unwrap() - limit < 1_000_000, "{certificate:?}");
}

#[test]
fn an_exactly_budget_of_many_huge_costs_is_met() {
    for groups in [40, 300] {
        let (problem, mut values) =
            hostile(groups, |low, high| Budget::exactly("bytes", u64::midpoint(low, high)));
        let mut random = stream(3, Purpose::Instance, 2);
        values.fill_with(|| random.normal());
        let settings = Settings { max_nodes: 300_000, max_states: 1 << 18, ..Settings::default() };
        let mut solver = Solver::new(problem.decisions(), problem.budgets(), settings).unwrap();
        let mut choices = vec![0; groups];
        let certificate = solver.solve(&values, &mut choices).unwrap();
        assert!(is_cost(&problem, &choices, problem.budgets()[0].limit), "{certificate:?}");
        assert_eq!(certificate.status, Status::LimitReached);
        assert!(certificate.bound > certificate.value && certificate.slack == 0);
    }
}

#[test]
fn an_exactly_budget_of_huge_costs_is_proven_where_two_halves_fit() {
    // Six options in 12 groups: two billion assignments, 46,656 sums in each half.
    let (problem, _) = hostile(12, |low, high| Budget::exactly("bytes", u64::midpoint(low, high)));
    let mut random = stream(4, Purpose::Instance, 2);
    let choices: Vec<u32> = (0..12).map(|_| random.below(6) as u32).collect();
    let met = problem.decisions().cost_of(&choices, 0);
    let values: Vec<f64> = (0..72).map(|_| random.normal()).collect();
    let mut found = [0; 12];
    let mut solve = |budget: Budget| {
        let solver = Solver::new(problem.decisions(), &[budget], Settings::default());
        let certificate = solver.unwrap().solve(&values, &mut found).unwrap();
        (certificate, problem.decisions().cost_of(&found, 0))
    };
    let (certificate, cost) = solve(Budget::exactly("bytes", met));
    assert_eq!((certificate.status, certificate.gap, cost), (Status::Optimal, 0.0, met));
    let (certificate, cost) = solve(Budget::exactly("bytes", met + 1));
    let Status::Nearest { below, above } = certificate.status else { panic!("{certificate:?}") };
    assert_eq!((below, cost, certificate.gap), (met, met, 0.0));
    let (certificate, _) = solve(Budget::exactly("bytes", above.unwrap()));
    assert_eq!(certificate.status, Status::Optimal);
}

#[test]
fn a_value_that_is_not_a_number_is_named() {
    let problem = small(9);
    let mut solver =
        Solver::new(problem.decisions(), problem.budgets(), Settings::default()).unwrap();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e301] {
        let error = solver.solve(&[0.0, 1.0, bad, 2.0], &mut [0; 2]).unwrap_err();
        let named = matches!(error, KnapsackError::BadValue { decision: 1, option: 0, .. });
        assert!(named, "{error}");
    }
}

#[test]
fn a_wrong_length_is_named() {
    let problem = small(9);
    let mut solver =
        Solver::new(problem.decisions(), problem.budgets(), Settings::default()).unwrap();
    let error = solver.solve(&[0.0; 3], &mut [0; 2]).unwrap_err();
    assert_eq!(error, KnapsackError::Length { what: "values", expected: 4, found: 3 });
    let error = solver.solve(&[0.0; 4], &mut [0; 3]).unwrap_err();
    assert_eq!(error, KnapsackError::Length { what: "choices", expected: 2, found: 3 });
}

#[test]
fn a_budget_below_the_smallest_total_names_that_total() {
    let problem = small(9);
    let budget = [Budget::at_most("bytes", 2)];
    let error = Solver::new(problem.decisions(), &budget, Settings::default()).unwrap_err();
    let expected = KnapsackError::Infeasible { resource: "bytes".into(), limit: 2, smallest: 3 };
    assert_eq!(error, expected);
}

#[test]
fn one_budget_per_resource_is_demanded() {
    let problem = small(9);
    let error = Solver::new(problem.decisions(), &[], Settings::default()).unwrap_err();
    assert_eq!(error, KnapsackError::BudgetCount { expected: 1, found: 0 });
}

#[test]
fn an_exactly_budget_above_all_totals_names_the_largest() {
    let problem = small(13);
    let budget = [Budget::exactly("bytes", 100)];
    let mut solver = Solver::new(problem.decisions(), &budget, Settings::default()).unwrap();
    let certificate = solver.solve(&[0.0; 4], &mut [0; 2]).unwrap();
    assert_eq!(certificate.status, Status::Nearest { below: 13, above: None });
    assert_eq!(certificate.slack, 87);
}

#[test]
fn huge_penalties_do_not_drown_the_other_values() {
    let problem = small(13);
    let mut solver =
        Solver::new(problem.decisions(), problem.budgets(), Settings::default()).unwrap();
    let mut choices = [0; 2];
    solver.solve(&[1e-9, -1e299, -1e299, 2e-9], &mut choices).unwrap();
    assert_eq!(choices, [0, 1]);
}

#[test]
fn an_incumbent_is_feasible_and_its_bound_holds() {
    let (problem, values) =
        hostile(60, |low, high| Budget::at_most("bytes", low + (high - low) / 3));
    let settings = Settings { effort: Effort::Incumbent, ..Settings::default() };
    let mut solver = Solver::new(problem.decisions(), problem.budgets(), settings).unwrap();
    let certificate = solver.solve(&values, &mut [0; 60]).unwrap();
    assert!(certificate.bound >= certificate.value && certificate.gap < 1e-3);
    assert!(certificate.cost <= problem.budgets()[0].limit);
}

#[test]
fn a_solver_that_is_used_again_gives_the_same_bits_as_a_new_one() {
    let (problem, values) =
        hostile(8, |low, high| Budget::at_most("bytes", u64::midpoint(low, high)));
    let new = || Solver::new(problem.decisions(), problem.budgets(), Settings::default()).unwrap();
    let mut used = new();
    let other: Vec<f64> = values.iter().rev().copied().collect();
    let (mut first, mut second) = ([0; 8], [0; 8]);
    used.solve(&other, &mut first).unwrap();
    let a = used.solve(&values, &mut first).unwrap();
    let b = new().solve(&values, &mut second).unwrap();
    assert_eq!((a, first), (b, second));
}
