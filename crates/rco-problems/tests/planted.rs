//! The planted assignment really is the optimum, and the gradients are derivatives.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use rco_core::Assignment;
use rco_core::search::{Draw, Split};
use rco_problems::planted::{
    CompensatingSettings, PairwiseSettings, Planted, Shape, compensating, pairwise,
};

fn instances(groups: usize, options: usize) -> Vec<Planted> {
    (0..12)
        .flat_map(|seed| {
            let shape = Shape { groups, options, tightness: 0.25 + 0.05 * seed as f64 };
            let settings = CompensatingSettings { shape, rank: 3, common: 0.5, noise: 0.0, seed };
            let pairs = PairwiseSettings { shape, reach: 2, random_pairs: 1.0, seed };
            [compensating(settings).unwrap(), pairwise(pairs).unwrap()]
        })
        .collect()
}

#[test]
fn no_feasible_assignment_beats_the_planted_one() {
    for mut planted in instances(6, 4) {
        let best = planted.objective.loss(&planted.optimum, Split::Calibration).unwrap();
        assert!(best.abs() < 1e-12 && planted.problem.is_feasible(&planted.optimum));
        for code in 0..4_usize.pow(6) {
            let choices = (0..6).map(|i| (code / 4_usize.pow(i) % 4) as u32).collect();
            let other = Assignment::new(choices);
            if planted.problem.is_feasible(&other) {
                let loss = planted.objective.loss(&other, Split::Calibration).unwrap();
                assert!(loss >= best - 1e-12);
            }
        }
    }
}

#[test]
fn pairwise_gradient_predicts_single_moves_exactly() {
    for mut planted in instances(7, 5).into_iter().skip(1).step_by(2) {
        let start = Assignment::new((0..7).map(|i| i % 5).collect());
        let at = planted.objective.evaluate(&start, Draw(0)).unwrap();
        for group in 0..7 {
            let range = planted.problem.options_of(group);
            for option in 0..5 {
                let mut choices = start.choices().to_vec();
                choices[group] = option;
                let moved = Assignment::new(choices);
                let loss = planted.objective.loss(&moved, Split::HeldOut).unwrap();
                let change = at.gradient[range.start + option as usize]
                    - at.gradient[range.start + start.option(group)];
                assert!((loss - at.loss - change).abs() < 1e-12);
            }
        }
    }
}

/// The loss of the mixed errors is quadratic along a line, so the derivative at a
/// corner follows from the losses at three points: the gradient is exact for it.
#[test]
fn compensating_gradient_misses_a_move_by_its_own_square() {
    for mut planted in instances(7, 5).into_iter().step_by(2) {
        let start = Assignment::new((0..7).map(|i| (i * 3) % 5).collect());
        let at = planted.objective.evaluate(&start, Draw(0)).unwrap();
        for group in 0..7 {
            let range = planted.problem.options_of(group);
            for option in 0..5 {
                let mut choices = start.choices().to_vec();
                choices[group] = option;
                let back = planted.objective.evaluate(&Assignment::new(choices), Draw(0)).unwrap();
                let (to, from) = (range.start + option as usize, range.start + start.option(group));
                let forth = at.gradient[to] - at.gradient[from];
                let hither = back.gradient[to] - back.gradient[from];
                // Trapezoid rule, exact for quadratics.
                assert!((back.loss - at.loss - 0.5 * (forth + hither)).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn noise_depends_on_the_draw_alone_and_averages_out() {
    let shape = Shape { groups: 10, options: 4, tightness: 0.5 };
    let settings = CompensatingSettings { shape, rank: 5, common: 0.5, noise: 1.0, seed: 3 };
    let mut planted = compensating(settings).unwrap();
    let start = Assignment::new(vec![1; 10]);
    let one = planted.objective.evaluate(&start, Draw(7)).unwrap();
    assert_eq!(one, planted.objective.evaluate(&start, Draw(7)).unwrap());
    assert_ne!(one, planted.objective.evaluate(&start, Draw(8)).unwrap());
    let exact = planted.objective.loss(&start, Split::Calibration).unwrap();
    let mean = |first, count| Split::Draws { first: Draw(first), count };
    let square = |error: f64| error * error;
    let single: f64 = (0..200)
        .map(|i| square(planted.objective.loss(&start, mean(i, 1)).unwrap() - exact))
        .sum::<f64>()
        / 200.0;
    let many = planted.objective.loss(&start, mean(0, 4000)).unwrap() - exact;
    assert!(single > 0.0 && many.abs() < 5.0 * (single / 4000.0).sqrt(), "{many} {single}");
}
