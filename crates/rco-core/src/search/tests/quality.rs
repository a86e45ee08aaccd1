//! What the search finds.

use super::*;
use crate::assignment::Assignment;
use crate::baselines::EvolutionStart;
use crate::search::testing::feasible;

#[test]
fn the_portfolio_is_never_worse_than_a_baseline_on_held_out_data() {
    for seed in 0..6 {
        let problem = problem(&Spec { seed, ..Spec::default() });
        for noisy in [false, true] {
            let make = || {
                if noisy {
                    Synthetic::noisy(&problem, seed)
                } else {
                    Synthetic::quadratic(&problem, seed)
                }
            };
            let best = run(&problem, &mut make(), &quick(MethodName::Portfolio));
            let baselines = [MethodName::Uniform, MethodName::Proxy, MethodName::Greedy];
            for method in baselines {
                let baseline = run(&problem, &mut make(), &quick(method));
                assert!(best.loss_heldout <= baseline.loss_heldout, "{seed} {noisy} {method}");
            }
            let least = best.candidates.iter().map(|c| c.loss_heldout).fold(f64::MAX, f64::min);
            assert_eq!(best.loss_heldout, least);
        }
    }
}

#[test]
fn the_portfolio_finds_the_optimum_of_small_quadratic_problems() {
    for seed in 0..8 {
        let problem = problem(&Spec { groups: 6, options: 4, seed, ..Spec::default() });
        let mut objective = Synthetic::quadratic(&problem, seed);
        let optimum =
            feasible(&problem).iter().map(|a| objective.truth(a)).fold(f64::MAX, f64::min);
        let outcome = run(&problem, &mut objective, &quick(MethodName::Portfolio));
        assert!(outcome.loss_heldout <= optimum + 1e-12 + 0.01 * optimum.abs(), "seed {seed}");
    }
}

#[test]
fn a_separable_problem_is_proven_and_not_searched() {
    let problem = problem(&Spec { groups: 7, ..Spec::default() });
    let mut objective = Synthetic::separable(&problem, 2);
    let optimum = feasible(&problem).iter().map(|a| objective.truth(a)).fold(f64::MAX, f64::min);
    let outcome = run(&problem, &mut objective, &quick(MethodName::Portfolio));
    assert_eq!(outcome.stopped, StopReason::Proven);
    assert!((outcome.loss_heldout - optimum).abs() < 1e-12);
    let certificate = outcome.certificate.unwrap();
    assert_eq!(certificate.gap, 0.0);
    assert!((certificate.value + optimum).abs() < 1e-12);
    assert_eq!(outcome.counts.gradients, 0);
}

#[test]
fn rco_alone_finds_the_separable_optimum() {
    for seed in 0..5 {
        let problem = problem(&Spec { groups: 7, seed, ..Spec::default() });
        let mut objective = Synthetic::separable(&problem, seed);
        let optimum =
            feasible(&problem).iter().map(|a| objective.truth(a)).fold(f64::MAX, f64::min);
        let mut settings = quick(MethodName::Rco);
        settings.warm_start.enabled = false;
        settings.rco.steps = 60;
        let outcome = run(&problem, &mut objective, &settings);
        assert!(outcome.loss_heldout <= optimum * 1.001, "seed {seed}");
    }
}

#[test]
fn polish_ends_in_a_local_optimum_of_moves_and_swaps() {
    let problem = problem(&Spec { groups: 5, options: 3, ..Spec::default() });
    let mut settings = quick(MethodName::Uniform);
    settings.polish.when = PolishWhen::Always;
    settings.polish.moves = 10_000;
    settings.polish.starts = 1;
    let mut objective = Synthetic::quadratic(&problem, 4);
    let outcome = run(&problem, &mut objective, &settings);
    for other in feasible(&problem) {
        let changed = other.choices().iter().zip(outcome.assignment.choices());
        if changed.filter(|(a, b)| a != b).count() <= 1 {
            assert!(objective.truth(&other) >= outcome.loss_heldout - 1e-12);
        }
    }
    let uniform = run(&problem, &mut objective, &quick(MethodName::Uniform));
    assert!(outcome.loss_heldout <= uniform.loss_heldout);
}

#[test]
fn the_same_seed_gives_the_same_bits_on_1_2_and_8_threads() {
    let problem = problem(&Spec { groups: 12, ..Spec::default() });
    for method in [MethodName::Portfolio, MethodName::Reinforce, MethodName::Evolution] {
        let outcomes: Vec<SearchOutcome> = [1, 2, 8]
            .map(|threads| {
                let mut objective = Synthetic::noisy(&problem, 7);
                let mut settings = quick(method);
                settings.threads = threads;
                settings.rco.samples_per_step = 6;
                timeless(run(&problem, &mut objective, &settings))
            })
            .into();
        assert_eq!(outcomes[0], outcomes[1], "{method}");
        assert_eq!(outcomes[0], outcomes[2], "{method}");
    }
}

#[test]
fn another_seed_gives_another_search() {
    let problem = problem(&Spec { groups: 12, ..Spec::default() });
    let run = |seed| {
        let settings = SearchSettings { seed, ..quick(MethodName::Random) };
        run(&problem, &mut Synthetic::noisy(&problem, 7), &settings)
    };
    assert_ne!(run(1).candidates, run(2).candidates);
}

/// How far the plans of given scores and those of `method` are from the optimum, over seeds.
fn gaps(method: MethodName, set: impl Fn(&mut SearchSettings)) -> [f64; 2] {
    let mut gaps = [0.0_f64; 2];
    for seed in 0..6 {
        let problem = problem(&Spec { groups: 24, options: 4, seed, ..Spec::default() });
        let mut separable = Synthetic::separable(&problem, seed);
        let optimum = run(&problem, &mut separable, &quick(MethodName::Exact)).loss_heldout;
        let mut settings = quick(MethodName::Portfolio);
        set(&mut settings);
        // Option gradients would tell the truth.
        settings.baselines.scores.points = 0;
        let outcome = run(&problem, &mut Synthetic::guessed(&problem, seed), &settings);
        for (gap, method) in gaps.iter_mut().zip([MethodName::Proxy, method]) {
            let of_method = outcome.candidates.iter().filter(|c| c.method == method);
            let best = of_method.map(|c| c.loss_heldout).fold(f64::INFINITY, f64::min);
            assert!(best.is_finite(), "{method} has no result");
            *gap += best / optimum - 1.0;
        }
    }
    assert!(gaps[0] > 0.05, "the scores are no test: {gaps:?}");
    gaps
}

#[test]
fn measured_losses_mend_scores_that_are_wrong_by_a_factor() {
    let gaps = gaps(MethodName::Refine, |settings| {
        (settings.refine.plans, settings.refine.batch) = (40, 4);
    });
    assert!(gaps[1] < 0.2 * gaps[0], "{gaps:?}");
}

#[test]
fn scores_measured_at_the_plan_mend_what_is_wrong_by_a_factor() {
    let gaps = gaps(MethodName::Rescore, |settings| settings.rescore.rounds = 3);
    assert!(gaps[1] < 0.2 * gaps[0], "{gaps:?}");
}

#[test]
fn scores_are_measured_at_the_plan_without_the_rest_of_the_portfolio() {
    let problem = problem(&Spec { groups: 24, options: 4, ..Spec::default() });
    let found = [MethodName::Rescore, MethodName::Portfolio].map(|method| {
        let mut settings = quick(method);
        settings.rescore.rounds = 3;
        settings.baselines.scores.points = 0;
        let outcome = run(&problem, &mut Synthetic::guessed(&problem, 1), &settings);
        let mut plans: Vec<_> = outcome
            .candidates
            .into_iter()
            .filter(|c| c.method == MethodName::Rescore)
            .map(|c| c.assignment)
            .collect();
        plans.sort_by(|a, b| a.choices().cmp(b.choices()));
        plans
    });
    assert!(!found[0].is_empty());
    assert_eq!(found[0], found[1]);
}

#[test]
fn gradients_at_the_plan_find_what_scores_cannot_say() {
    let (mut before, mut after) = (0.0, 0.0);
    for seed in 0..8 {
        let problem = problem(&Spec { groups: 24, options: 4, seed, ..Spec::default() });
        let mut settings = quick(MethodName::Descend);
        (settings.descend.rounds, settings.descend.draws) = (4, 2);
        settings.baselines.scores.points = 0;
        let mut objective = Synthetic::tangled(&problem, seed);
        let outcome = run(&problem, &mut objective, &settings);
        let best = |method| {
            let of = outcome.candidates.iter().filter(|c| c.method == method);
            of.map(|c| objective.truth(&c.assignment)).fold(f64::INFINITY, f64::min)
        };
        let (scores, found) = (best(MethodName::Proxy), best(MethodName::Descend));
        assert!(found <= scores, "{seed}: {scores} {found}");
        before += scores;
        after += found;
    }
    assert!(after < before - 0.1 * before.abs(), "{before} {after}");
}

#[test]
fn the_final_choice_weighs_both_splits_as_asked() {
    // The splits differ: what is best on the one is not on the other.
    let mut differ = 0;
    for seed in 0..12 {
        let problem = problem(&Spec { seed, ..Spec::default() });
        let choose = |share: f64| {
            let settings =
                SearchSettings { choose_calibration: share, ..quick(MethodName::Portfolio) };
            run(&problem, &mut Synthetic::obscure(&problem, seed), &settings)
        };
        let by = [choose(0.0), choose(0.5), choose(1.0)];
        for (outcome, share) in by.iter().zip([0.0, 0.5, 1.0]) {
            let judged = |c: &Candidate| {
                let calibration = c.loss_calibration.unwrap_or(c.loss_heldout);
                share * calibration + (1.0 - share) * c.loss_heldout
            };
            let best = judged(&outcome.candidates[0]);
            assert!(outcome.candidates.iter().all(|c| judged(c) >= best), "seed {seed}");
        }
        differ += u32::from(by[0].assignment != by[2].assignment);
    }
    assert!(differ > 0);
}

#[test]
fn plans_that_are_much_worse_on_calibration_are_not_measured_on_held_out_data() {
    let mut left_out = 0;
    for seed in 0..6 {
        let problem = problem(&Spec { seed, ..Spec::default() });
        let all = quick(MethodName::Portfolio);
        let near = SearchSettings { choose_within: Some(1.01), ..all.clone() };
        let all = run(&problem, &mut Synthetic::quadratic(&problem, seed), &all);
        let near = run(&problem, &mut Synthetic::quadratic(&problem, seed), &near);
        let losses = |o: &SearchOutcome| -> Vec<f64> {
            o.candidates.iter().filter_map(|c| c.loss_calibration).collect()
        };
        let least = losses(&all).into_iter().fold(f64::MAX, f64::min);
        if least > 0.0 {
            assert!(losses(&near).iter().all(|&loss| loss <= 1.01 * least), "seed {seed}");
            left_out += all.candidates.len() - near.candidates.len();
        } else {
            // A ratio of losses that may be negative says nothing.
            assert_eq!(all.candidates.len(), near.candidates.len());
        }
        // The objective is the same on both splits: the best is among the nearest.
        assert_eq!(all.assignment, near.assignment);
    }
    assert!(left_out > 0);
}

/// A loss that knows plans from elsewhere.
struct Knowing {
    inner: Synthetic,
    known: Vec<(String, Assignment)>,
}

impl Objective for Knowing {
    fn evaluate(
        &mut self,
        assignment: &Assignment,
        draw: Draw,
    ) -> Result<Evaluation, ObjectiveError> {
        self.inner.evaluate(assignment, draw)
    }

    fn loss(&mut self, assignment: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        self.inner.loss(assignment, split)
    }

    fn known_plans(&self) -> &[(String, Assignment)] {
        &self.known
    }

    fn is_stochastic(&self) -> bool {
        self.inner.is_stochastic()
    }

    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }
}

#[test]
fn evolution_starts_from_the_best_plan_it_knows_when_told_to() {
    let problem = problem(&Spec { groups: 6, options: 4, seed: 3, ..Spec::default() });
    let inner = Synthetic::quadratic(&problem, 3);
    let all = feasible(&problem);
    let best = all.iter().min_by(|a, b| inner.truth(a).total_cmp(&inner.truth(b))).unwrap();
    let known =
        vec![("some plan".to_owned(), all[0].clone()), ("the best plan".to_owned(), best.clone())];
    let found = [EvolutionStart::Uniform, EvolutionStart::Best].map(|start| {
        let mut objective = Knowing { inner: inner.clone(), known: known.clone() };
        let mut settings = quick(MethodName::Evolution);
        settings.baselines.evolution.start = start;
        settings.baselines.evolution.generations = 1;
        run(&problem, &mut objective, &settings).loss_heldout - inner.truth(best)
    });
    assert!(found[0] > 1e-9, "from the uniform plan one generation finds the optimum: no test");
    assert!(found[1].abs() < 1e-12, "{found:?}");
}
