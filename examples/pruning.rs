//! Pruning as a 0/1 problem: keep exactly 12 of 32 features.
//!
//! Features come in correlated pairs, so the second of a pair adds little once the
//! first is kept: a ranking by single scores keeps both. Run it with
//! `cargo run --release --example pruning`.

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use rco_core::search::{Objective, SearchSettings, Silent, Split, search};
use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem};
use rco_problems::objectives::{Pair, Quadratic};

const FEATURES: usize = 32;
const KEPT: u64 = 12;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let problem = Problem::builder()
        .budget(Budget::exactly("features", KEPT))
        .groups((0..FEATURES).map(|i| {
            let options = [OptionSpec::new("drop", [0]), OptionSpec::new("keep", [1])];
            GroupSpec::new(format!("feature {i}"), options)
        }))
        .build()?;
    // Keeping feature i gains 1, 0.97, 0.94, ...; keeping both of a pair takes most of
    // the second gain back.
    let gain = |i: usize| 1.0 - 0.03 * i as f64;
    let losses: Vec<f64> = (0..FEATURES).flat_map(|i| [0.0, -gain(i)]).collect();
    let keep = |i: usize| 2 * i + 1;
    let pairs: Vec<Pair> = (0..FEATURES / 2)
        .map(|i| Pair {
            options: [keep(2 * i), keep(2 * i + 1)],
            loss: 0.9 * gain(2 * i + 1),
            heldout_loss: None,
        })
        .collect();
    let mut loss = Quadratic::new(&problem, losses, pairs)?;
    let outcome = search(&problem, &mut loss, &SearchSettings::default(), &mut Silent)?;
    let show = |name: &str, plan: &Assignment, loss: f64| {
        let kept: Vec<usize> = (0..FEATURES).filter(|&i| plan.option(i) == 1).collect();
        println!("{name:<24} loss {loss:.3}, keeps {kept:?}");
    };
    // Gains fall with the index, so the ranking by single scores keeps the first ones.
    let ranking = Assignment::new((0..FEATURES as u64).map(|i| u32::from(i < KEPT)).collect());
    let of_ranking = loss.loss(&ranking, Split::HeldOut)?;
    show("ranking by single scores", &ranking, of_ranking);
    show("search", &outcome.assignment, outcome.loss_heldout);
    Ok(())
}
