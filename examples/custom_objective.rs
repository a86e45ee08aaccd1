//! A loss of your own in forty lines: sensors whose readings overlap.
//!
//! Eight sensors can each run at three rates. Faster costs more power and covers
//! more, but neighbours cover the same ground, so no score per sensor tells which
//! mix is best. Run it with `cargo run --release --example custom_objective`.

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use rco_core::search::{
    Draw, Evaluation, Objective, ObjectiveError, SearchSettings, Silent, Split, search,
};
use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem};

const COVER: [f64; 3] = [0.0, 0.5, 0.9];

/// Ground between two neighbouring sensors that neither of them sees.
struct Uncovered;

impl Objective for Uncovered {
    fn evaluate(&mut self, plan: &Assignment, _: Draw) -> Result<Evaluation, ObjectiveError> {
        let cover: Vec<f64> = plan.choices().iter().map(|&k| COVER[k as usize]).collect();
        let missed = |i: usize| if i < cover.len() { 1.0 - cover[i] } else { 1.0 };
        let loss = (0..=cover.len()).map(|i| missed(i.wrapping_sub(1)) * missed(i)).sum();
        // The derivative for option k of sensor i: what its neighbours leave over, times -cover.
        let gradient = (0..cover.len())
            .flat_map(|i| {
                let left_over = missed(i.wrapping_sub(1)) + missed(i + 1);
                COVER.map(|c| -c * left_over)
            })
            .collect();
        Ok(Evaluation { loss, gradient })
    }

    fn loss(&mut self, plan: &Assignment, _: Split) -> Result<f64, ObjectiveError> {
        Ok(self.evaluate(plan, Draw(0))?.loss)
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn fingerprint(&self) -> String {
        "sensors v1".into()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rates = [("off", 0), ("slow", 2), ("fast", 5)];
    let problem = Problem::builder()
        .budget(Budget::at_most("milliwatts", 18))
        .groups((0..8).map(|i| {
            let options = rates.map(|(name, power)| OptionSpec::new(name, [power]));
            GroupSpec::new(format!("sensor {i}"), options)
        }))
        .build()?;
    let outcome = search(&problem, &mut Uncovered, &SearchSettings::default(), &mut Silent)?;
    for (i, &k) in outcome.assignment.choices().iter().enumerate() {
        println!("{}: {}", problem.group_name(i), problem.option_name(i, k as usize));
    }
    println!("uncovered {:.3}, {} mW of 18", outcome.loss_heldout, outcome.costs[0]);
    Ok(())
}
