//! Tests of the driver and of all methods through it.

mod limits;
mod methods;
mod quality;
mod resume;

use super::testing::{Spec, Synthetic, problem};
use super::*;
use crate::budget::BudgetKind;
use crate::problem::Problem;

/// Settings under which every method is done quickly.
fn quick(method: MethodName) -> SearchSettings {
    let mut settings = SearchSettings { method, seed: 3, threads: 1, ..SearchSettings::default() };
    settings.rco.steps = 12;
    settings.rco.learning_rate = 0.1;
    settings.rco.samples_per_step = 2;
    let relax = &mut settings.baselines.penalty.relax;
    (relax.steps, relax.samples) = (12, 2);
    settings.baselines.lagrangian.relax = *relax;
    settings.baselines.augmented.relax = *relax;
    settings.baselines.evolution.generations = 6;
    settings.baselines.evolution.offspring = 6;
    settings.baselines.reinforce.steps = 10;
    settings.baselines.reinforce.samples = 4;
    (settings.refine.plans, settings.refine.batch) = (8, 3);
    (settings.descend.rounds, settings.descend.draws) = (2, 2);
    settings.polish.moves = 24;
    settings.polish.batch = 6;
    settings.polish.draws = 3;
    settings
}

/// The methods that do not need a separable objective.
fn general_methods() -> impl Iterator<Item = MethodName> {
    MethodName::SELECTABLE.into_iter().filter(|m| *m != MethodName::Exact)
}

fn run(
    problem: &Problem,
    objective: &mut dyn Objective,
    settings: &SearchSettings,
) -> SearchOutcome {
    search(problem, objective, settings, &mut Silent).unwrap()
}

/// The outcome without what depends on the clock.
fn timeless(mut outcome: SearchOutcome) -> SearchOutcome {
    outcome.seconds = 0.0;
    outcome
}
