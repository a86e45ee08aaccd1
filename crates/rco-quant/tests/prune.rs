//! Dropping experts: exact numbers, what estimates promise, what is written.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rco_core::rng::{Purpose, stream};
use rco_core::search::{Draw, Objective, Silent, Split};
use rco_core::{Assignment, knapsack};
use rco_model::FlipForm;
use rco_model::config::{MlpConfig, ModelConfig};
use rco_quant::effort::Effort;
use rco_quant::job::Reporter;
use rco_quant::prune::effort::PruneWork;
use rco_quant::prune::experts::{DROP, KEEP};
use rco_quant::prune::reference::Reference;
use rco_quant::prune::{
    Amount, CommonSettings, ExpertBudget, ExpertMap, JudgedText, Kept, PruneError, PruneJob,
    PruneLoss, PruneSettings,
};

struct Quiet;

impl Reporter for Quiet {
    fn stage(&mut self, _: &str, _: Option<u64>) {}
    fn advance(&mut self, _: u64, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn observer(&mut self) -> Box<dyn rco_core::search::Observer + '_> {
        Box::new(Silent)
    }
}

fn asset(name: &str) -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("../../assets").join(name)
}

fn job(amount: &str) -> PruneJob {
    let work = PruneWork { window: 64, calibration: 4, ..PruneWork::new(Effort::Trial) };
    PruneJob::open(PruneSettings {
        common: CommonSettings {
            model: asset("tiny-moe"),
            output: None,
            text: JudgedText::alike(vec![asset("text/scripture.txt")]),
            work,
            seed: 1,
            threads: 1,
            force: false,
            verify: false,
        },
        amount: amount.parse().unwrap(),
        per_layer: false,
        min_experts: None,
        max_spread: None,
    })
    .unwrap()
}

/// The bundled model with other numbers of experts.
fn map(layers: &[(usize, usize)]) -> ExpertMap {
    let json = std::fs::read(asset("tiny-moe/config.json")).unwrap();
    let mut config = ModelConfig::from_hf(&serde_json::from_slice(&json).unwrap()).unwrap();
    let block = config.blocks[0].clone();
    config.blocks = layers.iter().map(|_| block.clone()).collect();
    for (block, &(n, k)) in config.blocks.iter_mut().zip(layers) {
        if let MlpConfig::Experts { experts, per_token, .. } = &mut block.mlp {
            (*experts, *per_token) = (n, k);
        }
    }
    ExpertMap::new(&config).unwrap()
}

#[test]
fn five_hundred_random_budgets_are_met_to_the_expert() {
    let (mut solved, mut spreads, mut case) = ([0; 2], 0, 0);
    while solved.iter().sum::<u32>() < 500 {
        case += 1;
        let mut random = stream(7, Purpose::Instance, case);
        let per_layer = case % 2 == 1;
        let common = 2 + random.below(10);
        let layers: Vec<(usize, usize)> = (0..=random.below(5))
            .map(|_| {
                let experts = if per_layer { common } else { 2 + random.below(10) };
                (experts, 1 + random.below(experts.min(4)))
            })
            .collect();
        let map = map(&layers);
        let total = map.total() as u64;
        let amount = if per_layer {
            Amount::Count((layers.len() * (1 + random.below(common))) as u64)
        } else {
            Amount::Share(1 + random.below(100_000_000) as u64)
        };
        let floor = (random.below(3) == 0).then(|| 1 + random.below(4) as u64);
        let budget = match ExpertBudget::new(&map, amount, per_layer, floor) {
            Ok(budget) => budget,
            Err(
                PruneError::TooMany { .. }
                | PruneError::NotWhole { .. }
                | PruneError::FloorTooLow { .. }
                | PruneError::FloorTooHigh { .. },
            ) => continue,
            Err(other) => panic!("{other}"),
        };
        solved[usize::from(per_layer)] += 1;
        // One in three of the budgets in all has a largest difference between blocks.
        let spread = (!per_layer && random.below(3) == 0).then(|| random.below(4) as u64);
        let budget = match spread.map(|spread| budget.spread(spread)) {
            None => budget,
            Some(Ok(mut ways)) => ways.swap_remove(random.below(ways.len())),
            Some(Err(PruneError::Spread { .. })) => continue,
            Some(Err(other)) => panic!("{other}"),
        };
        spreads += u32::from(spread.is_some());
        let problem = budget.problem(&map).unwrap();
        let options = problem.decisions().option_count();
        let values: Vec<f64> = (0..options).map(|_| random.uniform()).collect();
        let settings = knapsack::Settings::default();
        let mut solver =
            knapsack::Solver::new(problem.decisions(), problem.budgets(), settings).unwrap();
        let mut choices = vec![0; problem.decisions().len()];
        solver.solve(&values, &mut choices).unwrap();
        let scores: Vec<f64> = values.chunks(2).map(|v| v[KEEP] - v[DROP]).collect();
        let ranked = budget.by_rank(&map, &scores);
        for plan in [Assignment::new(choices), ranked.clone()] {
            let kept = map.kept(&plan);
            let counts: Vec<u64> = kept.iter().map(|k| k.len() as u64).collect();
            assert_eq!(counts.iter().sum::<u64>(), budget.total());
            match (&budget.kept, amount) {
                (Kept::PerLayer(wanted), _) => assert_eq!(&counts, wanted),
                (Kept::Total(_), Amount::Share(share)) => {
                    let dropped = u128::from(total - budget.total());
                    let least = u128::from(share) * u128::from(total);
                    assert!(dropped * 100_000_000 >= least, "less than the share goes");
                    assert!((dropped - 1) * 100_000_000 < least, "one more than needed goes");
                }
                _ => {}
            }
            assert!(counts.iter().zip(&budget.floors).all(|(n, floor)| n >= floor));
            if let (Some(spread), Some(most)) = (spread, counts.iter().max()) {
                assert!(counts.iter().all(|n| n + spread >= *most), "{counts:?} {spread}");
            }
            assert_eq!(map.plan(&kept), plan);
        }
        // Ranks are exact: no plan has a larger sum.
        let value = |plan: &Assignment| -> f64 {
            (0..map.total()).map(|g| values[2 * g + plan.option(g)]).sum()
        };
        let best = solver.solve(&values, &mut vec![0; problem.decisions().len()]).unwrap().value;
        assert!((value(&ranked) - best).abs() < 1e-6, "{case}: {} {best}", value(&ranked));
    }
    assert!(solved.iter().all(|&n| n > 100) && spreads > 30, "{solved:?} {spreads}");
}

#[test]
fn the_best_of_all_ways_to_spread_is_the_best_plan_of_that_spread() {
    let map = map(&[(5, 1), (4, 1), (6, 2)]);
    let budget = ExpertBudget::new(&map, "6".parse().unwrap(), false, None).unwrap();
    for case in 0..20 {
        let mut random = stream(11, Purpose::Instance, case);
        let scores: Vec<f64> = (0..map.total()).map(|_| random.uniform()).collect();
        let cost = |plan: &Assignment| -> f64 {
            (0..map.total()).filter(|&g| plan.option(g) == DROP).map(|g| scores[g]).sum()
        };
        for spread in 1..3 {
            let ways = budget.spread(spread).unwrap();
            let found = ways.iter().map(|way| cost(&way.by_rank(&map, &scores)));
            let found = found.fold(f64::INFINITY, f64::min);
            // All plans there are.
            let all = (0..1_u32 << map.total()).filter(|bits| bits.count_ones() == 9);
            let plans = all.map(|bits| {
                Assignment::new((0..map.total()).map(|g| bits >> g & 1).collect::<Vec<u32>>())
            });
            let fits = |plan: &Assignment| {
                let counts: Vec<usize> = map.kept(plan).iter().map(Vec::len).collect();
                let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
                most - least <= spread as usize
                    && counts.iter().zip([1, 1, 2]).all(|(n, f)| *n >= f)
            };
            let best = plans.filter(fits).map(|plan| cost(&plan)).fold(f64::INFINITY, f64::min);
            assert!((found - best).abs() < 1e-12, "{case} {spread}: {found} {best}");
        }
    }
    // Nine can be alike in three blocks, eight cannot.
    assert!(budget.spread(0).is_ok());
    let uneven = ExpertBudget::new(&map, "7".parse().unwrap(), false, None).unwrap();
    let error = uneven.spread(0).unwrap_err().to_string();
    assert!(error.contains("--max-spread"), "{error}");
}

#[test]
fn budgets_that_cannot_be_met_say_what_can() {
    let map = map(&[(8, 2); 4]);
    let error = |amount: &str, per_layer, floor| {
        ExpertBudget::new(&map, amount.parse().unwrap(), per_layer, floor).unwrap_err().to_string()
    };
    assert!(error("20%", true, None).contains("the nearest shares are 12.5% and 25%"));
    assert!(error("6", true, None).contains("the nearest shares are 12.5% and 25%"));
    assert!(error("80%", false, None).contains("at most 24 (75%)"));
    assert!(error("33", false, None).contains("at most 24 (75%)"));
    assert!(error("87.5%", true, None).contains("at most 24 (75%)"));
    assert!(error("0", false, None).contains("at least 1"));
    assert!(error("25%", false, Some(1)).contains("at least 2 have to remain"));
    assert!(error("25%", false, Some(9)).contains("layer 0 has 8"));
}

/// Pearson's coefficient, and the slope of `b` on `a`.
fn fit(a: &[f64], b: &[f64]) -> (f64, f64) {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let cov: f64 = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum();
    let var = |v: &[f64], m: f64| v.iter().map(|x| (x - m).powi(2)).sum::<f64>();
    (cov / (var(a, ma) * var(b, mb)).sqrt(), cov / var(a, ma))
}

#[test]
fn exact_changes_have_the_size_of_measured_ones_and_slopes_of_masks_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let job = job("25%");
    let prepared = job.prepare(folder.path(), &mut Quiet).unwrap();
    // Two experts of every layer are gone.
    let options: Vec<u32> = (0..32).map(|g| u32::from(g % 4 != 1)).collect();
    let plan = Assignment::new(options.clone());
    let loss = |form, curved| {
        let Reference { original, teacher, origin, .. } = &prepared.reference;
        let scores = &prepared.sensitivities;
        PruneLoss::new(original, job.map(), teacher, scores, Vec::new(), origin)
            .with_form(form, curved)
    };
    let mut measure = loss(FlipForm::Exact, false);
    let before = measure.loss(&plan, Split::Calibration).unwrap();
    let mut found = Vec::new();
    for g in 0..32 {
        let mut flipped = options.clone();
        flipped[g] = 1 - flipped[g];
        let after = measure.loss(&Assignment::new(flipped), Split::Calibration).unwrap();
        found.push(after - before);
    }
    let estimate = |form, curved| -> Vec<f64> {
        let gradient = loss(form, curved).evaluate(&plan, Draw(0)).unwrap().gradient;
        (0..32).map(|g| gradient[2 * g + 1 - options[g] as usize]).collect()
    };
    let mut lines = String::new();
    let mut of = |form, curved| {
        let (correlation, slope) = fit(&found, &estimate(form, curved));
        let line =
            writeln!(lines, "{form:?} {curved}: correlation {correlation:.3}, slope {slope:.3}");
        line.unwrap();
        (correlation, slope)
    };
    let curved = of(FlipForm::Exact, true);
    let exact = of(FlipForm::Exact, false);
    let unnormalised = of(FlipForm::Unnormalised, false);
    let renormalised = of(FlipForm::Renormalised, false);
    // A plan far from the original, four samples for the sensitivities: a hard case. Changes
    // have the right size; masks are off by a factor of ten and more.
    assert!(curved.0 > 0.65 && (0.3..1.5).contains(&curved.1), "{lines}");
    assert!(curved.0 > exact.0 + 0.1 && (0.3..1.5).contains(&exact.1), "{lines}");
    for masks in [unnormalised, renormalised] {
        assert!(exact.0 > masks.0 && masks.1 > 5.0, "{lines}");
    }
}
