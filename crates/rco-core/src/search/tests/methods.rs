//! Every method on every kind of problem.

use super::*;
use crate::search::testing::feasible;

/// Runs every method and checks every plan it returns.
fn all_methods_are_feasible(spec: &Spec) {
    let problem = problem(spec);
    for method in general_methods() {
        for noisy in [false, true] {
            let mut objective = if noisy {
                Synthetic::noisy(&problem, 5)
            } else {
                Synthetic::quadratic(&problem, 5)
            };
            let outcome = run(&problem, &mut objective, &quick(method));
            assert!(!outcome.candidates.is_empty(), "{method}");
            for candidate in &outcome.candidates {
                problem.check(&candidate.assignment).unwrap();
                assert!(problem.is_feasible(&candidate.assignment), "{method}: {candidate:?}");
                assert_eq!(candidate.costs, problem.cost(&candidate.assignment));
            }
            assert_eq!(outcome.costs, problem.cost(&outcome.assignment));
            let limited = outcome.counts.limited() + outcome.counts.heldout;
            assert_eq!(limited, objective.calls.limited() + objective.calls.heldout, "{method}");
            assert_eq!(outcome.counts.gradients, objective.calls.gradients, "{method}");
            assert_eq!(outcome.counts.draws, objective.calls.draws, "{method}");
        }
    }
}

#[test]
fn all_methods_keep_an_upper_limit() {
    all_methods_are_feasible(&Spec::default());
}

#[test]
fn all_methods_meet_an_equation() {
    all_methods_are_feasible(&Spec { kind: BudgetKind::Exactly, ..Spec::default() });
}

#[test]
fn all_methods_keep_two_budgets() {
    all_methods_are_feasible(&Spec { resources: 2, ..Spec::default() });
}

#[test]
fn all_methods_keep_an_equation_beside_a_limit() {
    all_methods_are_feasible(&Spec { resources: 2, kind: BudgetKind::Exactly, ..Spec::default() });
}

#[test]
fn ties_and_fixed_choices_are_respected() {
    let spec = Spec { groups: 6, ..Spec::default() };
    let free = problem(&spec);
    let mut builder = Problem::builder().budget(free.budgets()[0].clone());
    for group in 0..free.group_count() {
        let options = free.options_of(group).enumerate().map(|(k, flat)| {
            let cost = vec![free.costs(0)[flat]];
            crate::OptionSpec::new(free.option_name(group, k), cost)
        });
        let options: Vec<_> = options.collect();
        builder = builder.group(crate::GroupSpec::new(free.group_name(group), options));
    }
    let tied = builder.tie(["g0", "g3"]).fix("g1", "o0").build().unwrap();
    for method in general_methods() {
        let mut objective = Synthetic::quadratic(&tied, 5);
        let outcome = run(&tied, &mut objective, &quick(method));
        for candidate in &outcome.candidates {
            tied.check(&candidate.assignment).unwrap();
            assert!(tied.is_feasible(&candidate.assignment));
        }
    }
}

#[test]
fn penalty_methods_report_their_raw_plan() {
    let problem = problem(&Spec::default());
    for method in [MethodName::Penalty, MethodName::Lagrangian, MethodName::Augmented] {
        let outcome = run(&problem, &mut Synthetic::quadratic(&problem, 5), &quick(method));
        assert_eq!(outcome.raw.len(), 1);
        assert_eq!(outcome.raw[0].method, method);
        let fits = problem.budgets()[0].admits(outcome.raw[0].costs[0]);
        assert_eq!(outcome.raw[0].feasible, fits);
    }
}

#[test]
fn an_equation_that_no_plan_meets_is_refused_with_its_neighbours() {
    let options = |a: u64, b: u64| {
        vec![crate::OptionSpec::new("a", vec![a]), crate::OptionSpec::new("b", vec![b])]
    };
    let problem = Problem::builder()
        .budget(crate::Budget::exactly("bytes", 11))
        .group(crate::GroupSpec::new("x", options(2, 8)))
        .group(crate::GroupSpec::new("y", options(2, 6)))
        .build()
        .unwrap();
    let mut objective = Synthetic::quadratic(&problem, 1);
    let settings = quick(MethodName::Portfolio);
    let error = search(&problem, &mut objective, &settings, &mut Silent).unwrap_err();
    match error {
        SearchError::Unreachable { resource, limit, below, .. } => {
            assert_eq!((resource.as_str(), limit, below), ("bytes", 11, 10));
        }
        other => panic!("{other}"),
    }
    assert_eq!(objective.calls.limited(), 0);
}

#[test]
fn the_exact_method_needs_a_separable_objective() {
    let problem = problem(&Spec::default());
    let mut objective = Synthetic::quadratic(&problem, 1);
    let settings = quick(MethodName::Exact);
    let error = search(&problem, &mut objective, &settings, &mut Silent).unwrap_err();
    assert!(matches!(error, SearchError::NotSeparable));
}

#[test]
fn a_loss_that_is_no_number_is_refused() {
    struct Broken(Synthetic);
    impl Objective for Broken {
        fn evaluate(
            &mut self,
            assignment: &crate::Assignment,
            draw: Draw,
        ) -> Result<Evaluation, ObjectiveError> {
            let mut out = self.0.evaluate(assignment, draw)?;
            out.gradient[5] = f64::NAN;
            Ok(out)
        }
        fn loss(
            &mut self,
            assignment: &crate::Assignment,
            split: Split,
        ) -> Result<f64, ObjectiveError> {
            self.0.loss(assignment, split)
        }
        fn fingerprint(&self) -> String {
            self.0.fingerprint()
        }
    }
    let problem = problem(&Spec::default());
    let mut objective = Broken(Synthetic::quadratic(&problem, 1));
    let settings = quick(MethodName::Rco);
    let error = search(&problem, &mut objective, &settings, &mut Silent).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SearchError::NotFinite { .. }));
    assert!(text.contains("`o1` of group `g1`"), "{text}");
}

#[test]
fn method_names_read_back_as_they_are_written() {
    for method in MethodName::SELECTABLE {
        assert_eq!(method.to_string().parse::<MethodName>().unwrap(), method);
        assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
    }
    let error = "annealing".parse::<MethodName>().unwrap_err().to_string();
    assert!(error.contains("annealing") && error.contains("evolution"), "{error}");
}

#[test]
fn iterative_methods_beat_the_average_feasible_plan() {
    let problem = problem(&Spec { groups: 6, options: 3, ..Spec::default() });
    let truth = Synthetic::quadratic(&problem, 5);
    let mut losses: Vec<f64> = feasible(&problem).iter().map(|a| truth.truth(a)).collect();
    losses.sort_by(f64::total_cmp);
    let median = losses[losses.len() / 2];
    for method in general_methods().filter(|m| *m != MethodName::Uniform) {
        let outcome = run(&problem, &mut truth.clone(), &quick(method));
        assert!(outcome.loss_heldout < median, "{method}: {} {median}", outcome.loss_heldout);
    }
}
