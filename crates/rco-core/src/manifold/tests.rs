//! Tests of the geometry as a whole. Slopes are in `check.rs`.

use proptest::prelude::*;

use super::*;
use crate::problem::{GroupSpec, OptionSpec, Problem};
use crate::relax::softmax;
use crate::rng::{self, Purpose, Stream};

#[test]
fn slopes_and_identities_hold_on_random_problems() {
    for seed in 0..20 {
        let report = check_geometry(seed).unwrap();
        let failed: Vec<_> = report.rows.iter().filter(|row| !row.pass).collect();
        assert!(failed.is_empty(), "seed {seed}: {failed:#?}");
    }
}

/// A random ragged problem whose budgets can be met together: their limits are the
/// expected costs at random probabilities that are all positive. There are groups enough
/// that these lie in the interior, and costs are large enough that they still do after
/// rounding.
struct Case {
    problem: Problem,
    stream: Stream,
}

fn case(seed: u64, resources: usize, sizes: f64, equal: bool) -> Case {
    let mut stream = rng::stream(seed, Purpose::Instance, 0);
    let count = 6 + stream.below(30);
    let mut groups = Vec::new();
    for i in 0..count {
        let size = sizes.powf(stream.uniform()).round();
        let count = if i < 6 { 2 + stream.below(7) } else { 1 + stream.below(8) };
        let options: Vec<OptionSpec> = (0..count)
            .map(|k| {
                let costs: Vec<u64> =
                    (0..resources).map(|_| (size * 1e4 * stream.uniform()) as u64).collect();
                OptionSpec::new(format!("{k}"), costs)
            })
            .collect();
        groups.push(GroupSpec::new(format!("{i}"), options).size(size as u64));
    }
    let mut limits = vec![0.0; resources];
    for group in &groups {
        let weights: Vec<f64> =
            group.options.iter().map(|_| 0.05 + stream.uniform().powi(3)).collect();
        let sum: f64 = weights.iter().sum();
        for (r, limit) in limits.iter_mut().enumerate() {
            for (w, option) in weights.iter().zip(&group.options) {
                *limit += w / sum * option.costs[r] as f64;
            }
        }
    }
    let mut builder = Problem::builder();
    for (r, &limit) in limits.iter().enumerate() {
        let limit = limit as u64;
        let kind = if equal { BudgetKind::Exactly } else { BudgetKind::AtMost };
        builder = builder.budget(Budget { resource: format!("r{r}"), limit, kind });
    }
    Case { problem: builder.groups(groups).build().unwrap(), stream }
}

fn start(stream: &mut Stream, dimension: usize, scale: f64) -> Vec<f64> {
    (0..dimension)
        .map(|_| match stream.below(3) {
            0 => scale,
            1 => -scale,
            _ => scale * (2.0 * stream.uniform() - 1.0),
        })
        .collect()
}

fn direction(per_weight: bool) -> Direction {
    if per_weight { Direction::CostPerWeight } else { Direction::Cost }
}

fn manifold(problem: &Problem, per_weight: bool) -> Manifold {
    Manifold::new(problem.decisions(), problem.budgets(), direction(per_weight)).unwrap()
}

const SCALES: [f64; 4] = [0.1, 5.0, 60.0, 500.0];
const SIZES: [f64; 3] = [1.0, 1e3, 1e9];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn retraction_meets_equal_budgets_from_any_start(
        seed in any::<u64>(), resources in 1_usize..4, per_weight in any::<bool>(),
        scale in prop::sample::select(&SCALES[..]), sizes in prop::sample::select(&SIZES[..]),
    ) {
        let Case { problem, mut stream } = case(seed, resources, sizes, true);
        let mut manifold = manifold(&problem, per_weight);
        let mut logits = start(&mut stream, manifold.dimension(), scale);
        let mut probs = vec![0.0; logits.len()];
        let active = vec![true; resources];
        let done = manifold.retract(&mut logits, &mut probs, &active);
        prop_assert!(done.is_ok(), "{done:?}");
        let done = done.unwrap();
        prop_assert!(done.residual <= RESIDUAL);
        for r in 0..resources {
            let costs = problem.decisions().costs(r);
            let total: f64 = probs.iter().zip(costs).map(|(p, &c)| p * c as f64).sum();
            let limit = problem.budgets()[r].limit as f64;
            prop_assert!((total - limit).abs() <= 1.01e-9 * limit.max(1.0), "{total} {limit}");
        }
    }

    #[test]
    fn nested_search_alone_meets_equal_budgets(
        seed in any::<u64>(), resources in 2_usize..4, per_weight in any::<bool>(),
        scale in prop::sample::select(&SCALES[..]),
    ) {
        let Case { problem, mut stream } = case(seed, resources, 1e9, true);
        let mut manifold = manifold(&problem, per_weight);
        let logits = start(&mut stream, manifold.dimension(), scale);
        manifold.prepare(&vec![true; resources]);
        let mut evaluations = 0;
        manifold.solve_axes(&logits, 0, &mut evaluations);
        prop_assert!(manifold.is_met(1000.0), "{evaluations} evaluations");
    }

    #[test]
    fn inequalities_satisfy_the_optimality_conditions(
        seed in any::<u64>(), resources in 1_usize..4, per_weight in any::<bool>(),
        scale in prop::sample::select(&SCALES[..]),
    ) {
        let Case { problem, mut stream } = case(seed, resources, 1e9, false);
        let mut manifold = manifold(&problem, per_weight);
        let mut logits = start(&mut stream, manifold.dimension(), scale);
        let mut probs = vec![0.0; logits.len()];
        let done = manifold.retract(&mut logits, &mut probs, &vec![false; resources]);
        prop_assert!(done.is_ok(), "{done:?}");
        for r in 0..resources {
            let residual = manifold.residual(&probs, r);
            prop_assert!(residual <= RESIDUAL);
            prop_assert!(manifold.shift_multiplier(r) <= 0.0);
            if manifold.is_tight(r) {
                prop_assert!(residual >= -RESIDUAL);
            } else {
                prop_assert_eq!(manifold.shift_multiplier(r), 0.0);
            }
        }
    }

    #[test]
    fn projection_is_orthogonal_and_idempotent_also_near_one_hot(
        seed in any::<u64>(), resources in 1_usize..4,
        scale in prop::sample::select(&[0.1, 5.0, 60.0, 300.0][..]),
    ) {
        let Case { problem, mut stream } = case(seed, resources, 1e9, true);
        let mut manifold = manifold(&problem, false);
        let logits = start(&mut stream, manifold.dimension(), scale);
        let mut probs = vec![0.0; logits.len()];
        softmax(manifold.offsets(), &logits, &mut probs);
        let active = vec![true; resources];
        let given: Vec<f64> = probs.iter().map(|_| stream.normal()).collect();
        let mut once = given.clone();
        let done = manifold.project(&probs, &active, &mut once);
        prop_assert!(done.rank + done.degenerate <= resources);
        let length = norm(&given);
        let mut normal = vec![0.0; given.len()];
        for r in 0..resources {
            manifold.normal(&probs, r, &mut normal);
            let largest = normal.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
            if largest == 0.0 {
                continue;
            }
            for x in &mut normal {
                *x /= largest;
            }
            let cosine = normal::dot(&normal, &once) / (norm(&normal) * length);
            prop_assert!(cosine.abs() < 1e-7, "cosine {cosine}");
        }
        let mut twice = once.clone();
        manifold.project(&probs, &active, &mut twice);
        let moved = once.iter().zip(&twice).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        prop_assert!(moved <= 1e-12 * length);
        prop_assert_eq!(done.decided, manifold.decided(&probs));
    }

    #[test]
    fn multipliers_give_back_the_normal_part(seed in any::<u64>(), resources in 1_usize..4) {
        let Case { problem, mut stream } = case(seed, resources, 1e3, true);
        let mut manifold = manifold(&problem, false);
        let logits = start(&mut stream, manifold.dimension(), 2.0);
        let mut probs = vec![0.0; logits.len()];
        softmax(manifold.offsets(), &logits, &mut probs);
        let given: Vec<f64> = probs.iter().map(|_| stream.normal()).collect();
        let mut tangent = given.clone();
        manifold.project(&probs, &vec![true; resources], &mut tangent);
        let mut sum = tangent.clone();
        let mut normal = vec![0.0; given.len()];
        for r in 0..resources {
            manifold.normal(&probs, r, &mut normal);
            for (sum, n) in sum.iter_mut().zip(&normal) {
                *sum += manifold.multiplier(r) * n;
            }
        }
        for (a, b) in sum.iter().zip(&given) {
            prop_assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}

fn norm(v: &[f64]) -> f64 {
    normal::dot(v, v).sqrt()
}

fn group(name: &str, size: u64, costs: &[&[u64]]) -> GroupSpec {
    let options = costs.iter().enumerate().map(|(k, c)| OptionSpec::new(format!("{k}"), *c));
    GroupSpec::new(name, options.collect::<Vec<_>>()).size(size)
}

fn retract_from_zero(problem: &Problem, active: &[bool]) -> Result<Vec<f64>, ManifoldError> {
    let mut manifold = manifold(problem, false);
    let mut logits = vec![0.0; manifold.dimension()];
    let mut probs = logits.clone();
    manifold.retract(&mut logits, &mut probs, active).map(|_| probs)
}

#[test]
fn decisions_with_one_option_stay_as_they_are() {
    let problem = Problem::builder()
        .budget(Budget::exactly("bytes", 130))
        .group(group("only", 7, &[&[100]]))
        .group(group("two", 1, &[&[10], &[50]]))
        .build()
        .unwrap();
    let probs = retract_from_zero(&problem, &[true]).unwrap();
    assert_eq!(probs[0], 1.0);
    assert!((probs[1] - 0.5).abs() < 1e-12);
}

#[test]
fn limits_at_the_ends_of_the_range_are_met() {
    for (limit, certain) in [(11, 0), (101, 1)] {
        let problem = Problem::builder()
            .budget(Budget::exactly("bytes", limit))
            .group(group("a", 1, &[&[1], &[51]]))
            .group(group("b", 1, &[&[10], &[50]]))
            .build()
            .unwrap();
        let probs = retract_from_zero(&problem, &[true]).unwrap();
        assert!(probs[certain] > 1.0 - 1e-8 && probs[2 + certain] > 1.0 - 1e-8, "{probs:?}");
    }
}

#[test]
fn a_limit_that_cannot_be_exceeded_is_never_active() {
    let problem = Problem::builder()
        .budget(Budget::at_most("bytes", 51))
        .group(group("a", 1, &[&[1], &[51]]))
        .build()
        .unwrap();
    assert!(manifold(&problem, false).is_vacuous(0));
    assert_eq!(retract_from_zero(&problem, &[true]).unwrap(), [0.5, 0.5]);
    let mut manifold = manifold(&problem, false);
    let mut v = [1.0, 2.0];
    assert_eq!(manifold.project(&[0.5, 0.5], &[true], &mut v).rank, 0);
    assert_eq!(v, [1.0, 2.0]);
}

#[test]
fn budgets_that_exclude_each_other_are_named() {
    let problem = Problem::builder()
        .budget(Budget::exactly("bytes", 90))
        .budget(Budget::exactly("time", 80))
        .group(group("a", 1, &[&[0, 100], &[100, 0]]))
        .build()
        .unwrap();
    let error = retract_from_zero(&problem, &[true, true]).unwrap_err();
    let ManifoldError::NotMet { resource, limit, reached } = error else { panic!("{error}") };
    let total = if resource == "bytes" { 90 } else { 80 };
    assert_eq!(limit, total);
    assert!((reached - total as f64).abs() > 1.0);
}

#[test]
fn budgets_that_always_move_alike_are_met_if_consistent() {
    let problem = Problem::builder()
        .budget(Budget::exactly("bytes", 30))
        .budget(Budget::exactly("bits", 240))
        .group(group("a", 1, &[&[0, 0], &[20, 160]]))
        .group(group("b", 3, &[&[0, 0], &[40, 320]]))
        .build()
        .unwrap();
    retract_from_zero(&problem, &[true, true]).unwrap();
    let mut manifold = manifold(&problem, false);
    let mut v = [1.0, 0.0, 0.5, 0.0];
    let done = manifold.project(&[0.5; 4], &[true, true], &mut v);
    assert_eq!((done.rank, done.degenerate), (1, 1));
}

#[test]
fn limits_outside_of_the_range_are_errors() {
    let problem = Problem::builder()
        .budget(Budget::at_most("bytes", 60))
        .group(group("a", 1, &[&[10], &[50]]))
        .build()
        .unwrap();
    for budget in [Budget::at_most("bytes", 9), Budget::exactly("bytes", 51)] {
        let error = Manifold::new(problem.decisions(), &[budget], Direction::Cost).unwrap_err();
        let smallest_largest =
            matches!(error, ManifoldError::Unreachable { smallest: 10, largest: 50, .. });
        assert!(smallest_largest, "{error}");
    }
    let error = Manifold::new(problem.decisions(), &[], Direction::Cost).unwrap_err();
    assert_eq!(error, ManifoldError::BudgetCount { expected: 1, found: 0 });
}

#[test]
fn lists_of_wrong_length_and_infinite_logits_are_errors() {
    let problem = Problem::builder()
        .budget(Budget::at_most("bytes", 20))
        .group(group("a", 1, &[&[10], &[50]]))
        .build()
        .unwrap();
    let mut manifold = manifold(&problem, false);
    let short = manifold.retract(&mut [0.0], &mut [0.0; 2], &[true]).unwrap_err();
    assert!(matches!(short, ManifoldError::Length { expected: 2, found: 1, .. }));
    let infinite = manifold.retract(&mut [0.0, f64::INFINITY], &mut [0.0; 2], &[true]);
    assert_eq!(infinite.unwrap_err(), ManifoldError::NotFinite { index: 1, value: f64::INFINITY });
}

#[test]
fn near_the_manifold_a_retraction_takes_a_few_evaluations() {
    let Case { problem, mut stream } = case(5, 1, 1e3, true);
    let mut manifold = manifold(&problem, false);
    let mut logits = start(&mut stream, manifold.dimension(), 3.0);
    let mut probs = vec![0.0; logits.len()];
    manifold.retract(&mut logits, &mut probs, &[true]).unwrap();
    for z in &mut logits {
        *z += 0.1 * stream.normal();
    }
    let done = manifold.retract(&mut logits, &mut probs, &[true]).unwrap();
    assert!(done.evaluations <= 6, "{done:?}");
    let again = manifold.retract(&mut logits, &mut probs, &[true]).unwrap();
    assert!(again.unchanged && again.evaluations == 1);
}

/// Logits `−score / s` put onto the budget and rounded down to their largest
/// probability: separable loss of the mixture `Σ p_ik score_ik` as `s → 0`.
fn mixture_loss(per_weight: bool, s: f64) -> (f64, f64) {
    // Groups of unlike size: a bit costs more in the large ones.
    let mut stream = rng::stream(3, Purpose::Instance, 9);
    let mut groups = Vec::new();
    let mut scores = Vec::new();
    for i in 0..60 {
        let size = 1 << (2 * stream.below(6));
        let strength = size as f64 * (2.0 * stream.normal()).exp();
        let costs: Vec<u64> = (2..=8).map(|bits| bits * size).collect();
        scores.extend((2..=8).map(|bits| strength * 4.0_f64.powi(-bits)));
        let options: Vec<_> = costs.iter().map(|&c| OptionSpec::new(format!("{c}"), [c])).collect();
        groups.push(GroupSpec::new(format!("{i}"), options).size(size));
    }
    let sizes: u64 = groups.iter().map(|g| g.size).sum();
    let problem = Problem::builder()
        .budget(Budget::at_most("bits", 4 * sizes))
        .groups(groups)
        .build()
        .unwrap();
    let mut manifold = manifold(&problem, per_weight);
    let mut logits: Vec<f64> = scores.iter().map(|x| -x / s).collect();
    let mut probs = vec![0.0; logits.len()];
    manifold.retract(&mut logits, &mut probs, &[true]).unwrap();
    (normal::dot(&probs, &scores), linear_optimum(&problem, &scores))
}

/// Optimum of the separable problem with fractional choices, by its dual: the largest
/// value over `λ ≥ 0` of `Σ_i min_k (score_ik + λ c_ik) − λ B`, which is concave.
fn linear_optimum(problem: &Problem, scores: &[f64]) -> f64 {
    let costs = problem.costs(0);
    let dual = |lambda: f64| {
        let sum: f64 = (0..problem.group_count())
            .map(|i| {
                let range = problem.options_of(i);
                range.map(|j| scores[j] + lambda * costs[j] as f64).fold(f64::INFINITY, f64::min)
            })
            .sum();
        sum - lambda * problem.budgets()[0].limit as f64
    };
    let (mut low, mut high) = (-30.0_f64, 30.0_f64);
    for _ in 0..200 {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if dual(a.exp()) < dual(b.exp()) {
            low = a;
        } else {
            high = b;
        }
    }
    dual(low.exp())
}

#[test]
fn along_the_cost_logits_of_scores_tend_to_the_separable_optimum() {
    let excess = |s: f64| {
        let (loss, optimum) = mixture_loss(false, s);
        loss / optimum - 1.0
    };
    assert!(excess(1e-1) < excess(1.0));
    assert!(excess(1e-3) < 0.01, "{}", excess(1e-3));
    assert!(excess(1e-6).abs() < 1e-4, "{}", excess(1e-6));
}

#[test]
fn along_the_cost_per_weight_they_do_not() {
    let (loss, optimum) = mixture_loss(true, 1e-6);
    assert!(loss / optimum > 1.2, "{}", loss / optimum);
}
