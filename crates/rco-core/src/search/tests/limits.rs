//! Stopping rules and the evaluation limit.

use std::io;
use std::time::Duration;

use super::*;

#[test]
fn the_limit_of_evaluations_is_never_exceeded() {
    let problem = problem(&Spec::default());
    for method in general_methods() {
        for limit in [1, 2, 3, 5, 9, 17, 33, 70] {
            for noisy in [false, true] {
                let mut objective = if noisy {
                    Synthetic::noisy(&problem, 5)
                } else {
                    Synthetic::quadratic(&problem, 5)
                };
                let mut settings = quick(method);
                settings.evaluations = Some(limit);
                settings.polish.when = PolishWhen::Always;
                let outcome = run(&problem, &mut objective, &settings);
                let counted = outcome.counts;
                assert!(objective.calls.limited() <= limit, "{method} {limit}: {counted:?}");
                assert_eq!(objective.calls.limited(), counted.limited(), "{method} {limit}");
            }
        }
    }
}

#[test]
fn iterative_methods_use_nearly_all_evaluations_they_may() {
    let problem = problem(&Spec { groups: 24, options: 6, ..Spec::default() });
    let limit = 600;
    let methods = [
        MethodName::Rco,
        MethodName::Penalty,
        MethodName::Lagrangian,
        MethodName::Augmented,
        MethodName::Evolution,
        MethodName::Reinforce,
        MethodName::Random,
    ];
    for method in methods {
        let mut settings = quick(method);
        settings.evaluations = Some(limit);
        let mut objective = Synthetic::noisy(&problem, 5);
        let outcome = run(&problem, &mut objective, &settings);
        assert!(outcome.counts.limited() >= limit * 8 / 10, "{method}: {:?}", outcome.counts);
    }
}

#[test]
fn without_time_a_portfolio_still_returns_the_uniform_plan() {
    let problem = problem(&Spec::default());
    let settings =
        SearchSettings { time_limit: Some(Duration::ZERO), ..quick(MethodName::Portfolio) };
    let outcome = run(&problem, &mut Synthetic::quadratic(&problem, 5), &settings);
    assert_eq!(outcome.stopped, StopReason::Time);
    assert_eq!(outcome.method, MethodName::Uniform);
}

#[test]
fn too_many_steps_without_a_better_plan_end_the_stage() {
    let problem = problem(&Spec::default());
    let mut settings = quick(MethodName::Rco);
    settings.rco.steps = 5000;
    settings.patience = Some(6);
    for mut objective in [Synthetic::quadratic(&problem, 5), Synthetic::noisy(&problem, 5)] {
        let outcome = run(&problem, &mut objective, &settings);
        assert_eq!(outcome.stopped, StopReason::NoImprovement);
        assert!(outcome.steps < 2000);
        let rounded = outcome.candidates.iter().any(|c| c.origin.starts_with("knapsack on log p"));
        assert!(rounded, "the stage still rounds its logits");
    }
}

#[test]
fn the_number_of_steps_can_be_set_for_any_iterative_method() {
    let problem = problem(&Spec::default());
    for method in [MethodName::Rco, MethodName::Penalty, MethodName::Reinforce] {
        let settings = SearchSettings { steps: Some(4), ..quick(method) };
        let mut recorder = Recorder::default();
        let mut objective = Synthetic::noisy(&problem, 5);
        search(&problem, &mut objective, &settings, &mut recorder).unwrap();
        let per_step = if method == MethodName::Reinforce { 4 } else { 2 };
        let iterations = recorder.steps.iter().filter(|s| !s.expected_cost.is_empty()).count();
        assert_eq!(iterations, 4, "{method}");
        let before: u64 = recorder.steps.iter().map(|s| s.evaluations).max().unwrap();
        assert!(before >= 4 * per_step);
    }
}

/// Asks to finish at one step.
struct FinishAt(u64);

impl Observer for FinishAt {
    fn on_step(&mut self, event: &StepEvent) -> io::Result<Control> {
        Ok(if event.step == self.0 { Control::Finish } else { Control::Continue })
    }
}

#[test]
fn an_observer_can_ask_to_finish_at_any_step() {
    let problem = problem(&Spec::default());
    let settings = quick(MethodName::Portfolio);
    let whole = run(&problem, &mut Synthetic::noisy(&problem, 5), &settings);
    for at in 1..whole.steps {
        let mut objective = Synthetic::noisy(&problem, 5);
        let outcome = search(&problem, &mut objective, &settings, &mut FinishAt(at)).unwrap();
        assert_eq!(outcome.stopped, StopReason::Requested);
        assert!(outcome.steps <= at + 3, "{} steps after a request at {at}", outcome.steps);
    }
}

#[test]
fn the_steps_tell_progress() {
    let problem = problem(&Spec::default());
    let mut recorder = Recorder::default();
    let mut objective = Synthetic::quadratic(&problem, 5);
    let settings = quick(MethodName::Portfolio);
    search(&problem, &mut objective, &settings, &mut recorder).unwrap();
    let steps = &recorder.steps;
    assert!(steps.iter().enumerate().all(|(n, s)| s.step == n as u64 + 1));
    assert!(steps.windows(2).all(|w| w[0].evaluations <= w[1].evaluations));
    assert!(steps.windows(2).all(|w| w[0].best.is_none_or(|b| w[1].best.unwrap() <= b)));
    let rco: Vec<_> = steps.iter().filter(|s| s.method == MethodName::Rco).collect();
    assert_eq!(rco.len() as u64, rco[0].planned_steps.unwrap());
    assert!(rco[..rco.len() - 1].iter().all(|s| s.tau.is_some() && s.expected_cost.len() == 1));
}

type Spoil = fn(&mut SearchSettings);

#[test]
fn settings_out_of_range_are_named() {
    let problem = problem(&Spec::default());
    let cases: [(&str, Spoil); 5] = [
        ("memory", |s| s.memory = 0),
        ("polish.share", |s| s.polish.share = 1.0),
        ("warm_start.spread", |s| s.warm_start.spread = f64::NAN),
        ("baselines.reinforce.samples", |s| s.baselines.reinforce.samples = 1),
        ("evaluations", |s| s.evaluations = Some(0)),
    ];
    for (name, spoil) in cases {
        let mut settings = quick(MethodName::Portfolio);
        spoil(&mut settings);
        let mut objective = Synthetic::quadratic(&problem, 5);
        let error = search(&problem, &mut objective, &settings, &mut Silent).unwrap_err();
        match error {
            SearchError::Setting { setting, .. } => assert_eq!(setting, name),
            other => panic!("{name}: {other}"),
        }
    }
}
