//! Tests of the optimiser as a whole.

use rayon::ThreadPoolBuilder;

use super::*;
use crate::budget::{Budget, BudgetKind};
use crate::decisions::Decisions;
use crate::knapsack::Solver;
use crate::manifold::{Direction, RESIDUAL};
use crate::problem::{GroupSpec, OptionSpec, Problem};
use crate::rng::{self, Purpose};

/// Groups of unlike size with separable losses that fall with the cost, as the error of
/// a weight tensor does with its width.
fn separable(seed: u64, count: usize, options: u64, resources: usize) -> (Problem, Vec<f64>) {
    let mut stream = rng::stream(seed, Purpose::Instance, 1);
    let mut groups = Vec::new();
    let mut losses = Vec::new();
    for i in 0..count {
        let size = 64 << stream.below(4);
        let strength = (1.5 * stream.normal()).exp();
        let specs: Vec<OptionSpec> = (0..options)
            .map(|k| {
                let jitter = 1.0 + 0.2 * stream.uniform();
                losses.push(strength * jitter * 3.0_f64.powi(-(k as i32)));
                let cost = |r: u64| (k + 2) * size + offset(size, k, r);
                OptionSpec::new(format!("{k}"), (0..resources as u64).map(cost).collect::<Vec<_>>())
            })
            .collect();
        groups.push(GroupSpec::new(format!("{i}"), specs).size(size));
    }
    let mut builder = Problem::builder();
    for r in 0..resources {
        let largest = |g: &GroupSpec| g.options.iter().map(|o| o.costs[r]).max().unwrap();
        let total: u64 = groups.iter().map(largest).sum();
        builder = builder.budget(Budget::at_most(format!("r{r}"), total * 6 / 10));
    }
    (builder.groups(groups).build().unwrap(), losses)
}

/// A cost that differs between resources without a pattern.
fn offset(size: u64, k: u64, r: u64) -> u64 {
    (size * 7 + k * 13 + r * 5) * (r + 1) % 37
}

fn value(decisions: &Decisions, losses: &[f64], choices: &[u32]) -> f64 {
    choices.iter().zip(decisions.offsets()).map(|(&k, &start)| losses[start + k as usize]).sum()
}

/// One step on a separable loss with noise of the size of the gradient.
fn noisy_step(rco: &mut Rco, losses: &[f64], seed: u64) -> StepReport {
    let samples = rco.sample().unwrap();
    let mut stream = rng::stream(seed, Purpose::Draw, rco.step());
    let gradients: Vec<Vec<f64>> = samples
        .iter()
        .map(|_| losses.iter().map(|x| x + 0.3 * stream.normal()).collect())
        .collect();
    rco.update(&gradients).unwrap()
}

fn settings() -> RcoSettings {
    RcoSettings { steps: 60, seed: 11, ..RcoSettings::default() }
}

fn bits(v: &[f64]) -> Vec<u64> {
    v.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_iterate_is_on_the_manifold_under_stochastic_gradients() {
    for seed in 0..6 {
        for kind in [BudgetKind::AtMost, BudgetKind::Exactly] {
            let (problem, losses) = separable(seed, 30, 5, 1);
            let mut budgets = problem.budgets().to_vec();
            budgets[0].kind = kind;
            let direction = if seed % 2 == 0 { Direction::Cost } else { Direction::CostPerWeight };
            let settings = RcoSettings { direction, ..settings() };
            let start = vec![0.0; problem.decisions().option_count()];
            let mut rco = Rco::new(problem.decisions(), &budgets, settings, &start).unwrap();
            for _ in 0..60 {
                let report = noisy_step(&mut rco, &losses, seed);
                assert!(report.residual <= RESIDUAL, "{report:?}");
                let residual = rco.manifold().residual(rco.probs(), 0);
                assert!(residual <= RESIDUAL);
                if kind == BudgetKind::Exactly || rco.tight()[0] {
                    assert!(residual >= -RESIDUAL);
                }
                for w in problem.decisions().offsets().windows(2) {
                    let top = rco.logits()[w[0]..w[1]].iter().fold(f64::MIN, |a, &z| a.max(z));
                    assert_eq!(top, 0.0);
                }
            }
        }
    }
}

#[test]
fn samples_are_feasible_and_their_pairs_mirror_each_other() {
    let (problem, _) = separable(1, 40, 4, 1);
    let start = vec![0.0; problem.decisions().option_count()];
    let mut rco = Rco::new(problem.decisions(), problem.budgets(), settings(), &start).unwrap();
    let samples = rco.sample().unwrap();
    assert_eq!(samples.len(), 4);
    for sample in &samples {
        let cost = problem.decisions().cost_of(&sample.choices, 0);
        assert!(problem.budgets()[0].admits(cost));
        assert_eq!(sample.certificate.cost, cost);
    }
    let equal = |a: usize, b: usize| {
        let pairs = samples[a].choices.iter().zip(&samples[b].choices);
        pairs.filter(|(x, y)| x == y).count()
    };
    // Mirrored noise prefers other options than independent noise does.
    assert!(equal(0, 1) < equal(0, 2).max(equal(0, 3)).max(equal(1, 2)));
    assert_eq!(rco.sample().unwrap(), samples);
}

#[test]
fn a_run_restored_from_json_continues_to_the_bit() {
    let (problem, losses) = separable(4, 40, 5, 1);
    let start = vec![0.0; problem.decisions().option_count()];
    let new = || Rco::new(problem.decisions(), problem.budgets(), settings(), &start).unwrap();
    let mut whole = new();
    let reports: Vec<_> = (0..20).map(|_| noisy_step(&mut whole, &losses, 4)).collect();

    let mut first = new();
    for _ in 0..10 {
        noisy_step(&mut first, &losses, 4);
    }
    let text = serde_json::to_string(&first.state()).unwrap();
    drop(first);
    let state: RcoState = serde_json::from_str(&text).unwrap();
    let mut resumed =
        Rco::resume(problem.decisions(), problem.budgets(), settings(), state.clone()).unwrap();
    let mut restored = new();
    restored.restore(state).unwrap();
    for expected in &reports[10..] {
        assert_eq!(&noisy_step(&mut resumed, &losses, 4), expected);
        assert_eq!(&noisy_step(&mut restored, &losses, 4), expected);
    }
    for other in [&resumed, &restored] {
        assert_eq!(bits(other.logits()), bits(whole.logits()));
        assert_eq!(other.state(), whole.state());
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let (problem, losses) = separable(5, 40, 5, 1);
    let start = vec![0.0; problem.decisions().option_count()];
    let run = |threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let settings = RcoSettings { samples_per_step: 5, ..settings() };
            let mut rco =
                Rco::new(problem.decisions(), problem.budgets(), settings, &start).unwrap();
            let mut choices = Vec::new();
            for _ in 0..12 {
                noisy_step(&mut rco, &losses, 5);
                choices.push(rco.sample().unwrap());
            }
            (choices, bits(rco.logits()), rco.state())
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(8));
}

#[test]
fn several_limits_hold_at_every_iterate() {
    for seed in 0..4 {
        let (problem, losses) = separable(seed, 20, 4, 2);
        let start = vec![0.0; problem.decisions().option_count()];
        let mut rco = Rco::new(problem.decisions(), problem.budgets(), settings(), &start).unwrap();
        assert!(rco.tight().contains(&true));
        for _ in 0..50 {
            let report = noisy_step(&mut rco, &losses, seed);
            assert!(report.residual <= RESIDUAL, "{report:?}");
            for r in 0..2 {
                let residual = rco.manifold().residual(rco.probs(), r);
                assert!(residual <= RESIDUAL && (!rco.tight()[r] || residual >= -RESIDUAL));
            }
        }
    }
}

#[test]
fn a_limit_is_left_where_less_is_better_and_held_where_more_is() {
    let (problem, losses) = separable(8, 20, 4, 1);
    let start = vec![0.0; losses.len()];
    let run = |losses: &[f64]| {
        let mut rco = Rco::new(problem.decisions(), problem.budgets(), settings(), &start).unwrap();
        assert!(rco.tight()[0]);
        for _ in 0..40 {
            let samples = rco.sample().unwrap();
            rco.update(&vec![losses.to_vec(); samples.len()]).unwrap();
        }
        (rco.tight()[0], rco.manifold().residual(rco.probs(), 0))
    };
    let (tight, residual) = run(&losses);
    assert!(tight && residual.abs() <= RESIDUAL);
    let costly: Vec<f64> = losses.iter().map(|x| -x).collect();
    let (tight, residual) = run(&costly);
    assert!(!tight && residual < -0.05, "{residual}");
}

#[test]
fn an_exact_budget_is_held_even_where_less_is_better() {
    let (problem, losses) = separable(8, 20, 4, 1);
    let start = vec![0.0; losses.len()];
    let mut budgets = problem.budgets().to_vec();
    budgets[0].kind = BudgetKind::Exactly;
    let mut rco = Rco::new(problem.decisions(), &budgets, settings(), &start).unwrap();
    for _ in 0..20 {
        let samples = rco.sample().unwrap();
        rco.update(&vec![losses.iter().map(|x| -x).collect(); samples.len()]).unwrap();
        assert!(rco.tight()[0]);
    }
}

#[test]
fn a_refused_update_leaves_the_state_alone() {
    let (problem, losses) = separable(2, 10, 4, 1);
    let start = vec![0.0; losses.len()];
    let mut rco = Rco::new(problem.decisions(), problem.budgets(), settings(), &start).unwrap();
    let before = rco.state();
    let good = vec![losses.clone(); 4];
    let early = rco.update(&good).unwrap_err();
    assert!(matches!(early, OptimizerError::NoSamples { step: 0 }));
    rco.sample().unwrap();
    let few = rco.update(&good[..3]).unwrap_err();
    assert!(matches!(few, OptimizerError::GradientCount { expected: 4, found: 3 }));
    let mut short = good.clone();
    short[1].pop();
    assert!(matches!(rco.update(&short).unwrap_err(), OptimizerError::Length { .. }));
    let mut nan = good.clone();
    nan[3][5] = f64::NAN;
    let error = rco.update(&nan).unwrap_err();
    assert!(matches!(error, OptimizerError::NotFinite { index: 5, .. }));
    assert_eq!(rco.state(), before);
    rco.update(&good).unwrap();
    assert_eq!(rco.step(), 1);
}

#[test]
fn a_state_of_another_problem_is_refused() {
    let (problem, losses) = separable(2, 10, 4, 1);
    let start = vec![0.0; losses.len()];
    let new = || Rco::new(problem.decisions(), problem.budgets(), settings(), &start).unwrap();
    let mut state = new().state();
    state.adam.second.push(0.0);
    let error = new().restore(state).unwrap_err();
    assert!(matches!(error, OptimizerError::Length { what: "the second moment", .. }));
    let short = Rco::new(problem.decisions(), problem.budgets(), settings(), &start[1..]);
    assert!(matches!(short.unwrap_err(), OptimizerError::Length { .. }));
}

#[test]
fn settings_out_of_range_are_named() {
    let base = RcoSettings::default;
    base().validate().unwrap();
    let bad = [
        ("learning_rate", RcoSettings { learning_rate: 0.0, ..base() }),
        ("tau_start", RcoSettings { tau_start: f64::NAN, ..base() }),
        ("tau_end", RcoSettings { tau_end: 2.0, ..base() }),
        ("steps", RcoSettings { steps: 0, ..base() }),
        ("samples_per_step", RcoSettings { samples_per_step: 0, ..base() }),
        ("logit_span", RcoSettings { logit_span: 1.0, ..base() }),
        (
            "adam.beta1",
            RcoSettings { adam: AdamSettings { beta1: 1.0, ..AdamSettings::default() }, ..base() },
        ),
    ];
    for (expected, settings) in bad {
        match settings.validate().unwrap_err() {
            OptimizerError::Setting { name, .. } => assert_eq!(name, expected),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn reaches_the_optimum_of_a_separable_problem() {
    for seed in 0..3 {
        let (problem, losses) = separable(20 + seed, 50, 6, 1);
        let decisions = problem.decisions();
        let settings = RcoSettings { steps: 100, seed, ..RcoSettings::default() };
        let mut solver =
            Solver::new(decisions, problem.budgets(), settings.solver.clone()).unwrap();
        let values: Vec<f64> = losses.iter().map(|x| -x).collect();
        let mut choices = vec![0; decisions.len()];
        solver.solve(&values, &mut choices).unwrap();
        let optimum = value(decisions, &losses, &choices);

        let start = vec![0.0; decisions.option_count()];
        let mut rco = Rco::new(decisions, problem.budgets(), settings, &start).unwrap();
        for _ in 0..100 {
            let samples = rco.sample().unwrap();
            rco.update(&vec![losses.clone(); samples.len()]).unwrap();
        }
        solver.solve(rco.logits(), &mut choices).unwrap();
        let found = value(decisions, &losses, &choices);
        // Share of the way from the loss at the start to the optimum.
        let uniform = uniform_loss(&problem, &losses);
        let share = (uniform - found) / (uniform - optimum);
        assert!(share >= 0.99, "seed {seed}: {found} against {optimum}, {share}");
    }
}

/// Expected loss of uniform logits put onto the budget.
fn uniform_loss(problem: &Problem, losses: &[f64]) -> f64 {
    let start = vec![0.0; losses.len()];
    let rco = Rco::new(problem.decisions(), problem.budgets(), settings(), &start).unwrap();
    rco.probs().iter().zip(losses).map(|(p, x)| p * x).sum()
}
