//! Two budgets at once: bytes and microseconds.
//!
//! Sixteen layers can be stored in four formats. The small ones are slow to decode,
//! the fast ones large; the file must fit in 26 kB and a step must take at most
//! 21 µs. Run it with `cargo run --release --example two_resources`.

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use rco_core::search::{SearchSettings, Silent, search};
use rco_core::{Budget, GroupSpec, OptionSpec, Problem};
use rco_problems::objectives::Separable;

/// Name, bytes per weight times 16, nanoseconds per weight times 16, relative error.
const FORMATS: [(&str, u64, u64, f64); 4] =
    [("2 bit", 5, 11, 0.20), ("3 bit", 7, 14, 0.05), ("4 bit", 9, 6, 0.012), ("8 bit", 17, 8, 0.0)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let weights = |layer: u64| 2_048 + 512 * (layer % 5);
    let problem = Problem::builder()
        .budget(Budget::at_most("bytes", 26_000))
        .budget(Budget::at_most("nanoseconds", 21_000))
        .groups((0..16).map(|layer| {
            let options = FORMATS.map(|(name, bytes, time, _)| {
                OptionSpec::new(name, [weights(layer) * bytes / 16, weights(layer) * time / 16])
            });
            GroupSpec::new(format!("layer {layer}"), options).size(weights(layer))
        }))
        .build()?;
    // The first and the last layers matter most.
    let losses = (0..16_u64)
        .flat_map(|layer| {
            let sensitivity = if layer.is_multiple_of(15) { 4.0 } else { 1.0 };
            FORMATS.map(|(_, _, _, error)| sensitivity * error)
        })
        .collect();
    let mut loss = Separable::new(&problem, losses)?;
    let outcome = search(&problem, &mut loss, &SearchSettings::default(), &mut Silent)?;
    for (layer, &k) in outcome.assignment.choices().iter().enumerate() {
        println!("{}: {}", problem.group_name(layer), problem.option_name(layer, k as usize));
    }
    for (budget, used) in problem.budgets().iter().zip(&outcome.costs) {
        println!("{used} of {} {}", budget.limit, budget.resource);
    }
    if let Some(certificate) = outcome.certificate {
        println!(
            "loss {:.4}, at least {:.4} for any plan that fits",
            outcome.loss_heldout, -certificate.bound
        );
    }
    Ok(())
}
