//! The methods that are compared, each with its fixed setting and its tuning range.

use rco_core::baselines::{
    AugmentedSettings, EvolutionSettings, LagrangianSettings, PenaltySettings, ReinforceSettings,
};
use rco_core::search::{MethodName, PolishWhen, SearchSettings};

/// A method with one or more settings. With several, the best result of all of
/// them counts: each is run with the full number of evaluations, which favours it.
pub struct Contender {
    /// Name in the tables.
    pub name: &'static str,
    /// The settings to try.
    pub settings: Vec<SearchSettings>,
}

/// Every contender, in the order of the table.
pub fn contenders() -> Vec<Contender> {
    use MethodName as M;
    let one = |name, method| Contender { name, settings: vec![single(method)] };
    let tuned = |name, settings| Contender { name, settings };
    vec![
        one("uniform", M::Uniform),
        one("random", M::Random),
        one("greedy", M::Greedy),
        one("proxy", M::Proxy),
        one("penalty", M::Penalty),
        tuned(
            "penalty, tuned",
            with(M::Penalty, PenaltySettings::tunings(), |s, t| s.baselines.penalty = t),
        ),
        one("lagrangian", M::Lagrangian),
        tuned(
            "lagrangian, tuned",
            with(M::Lagrangian, LagrangianSettings::tunings(), |s, t| s.baselines.lagrangian = t),
        ),
        one("augmented", M::Augmented),
        tuned(
            "augmented, tuned",
            with(M::Augmented, AugmentedSettings::tunings(), |s, t| s.baselines.augmented = t),
        ),
        one("evolution", M::Evolution),
        tuned(
            "evolution, tuned",
            with(M::Evolution, EvolutionSettings::tunings(), |s, t| s.baselines.evolution = t),
        ),
        one("reinforce", M::Reinforce),
        tuned(
            "reinforce, tuned",
            with(M::Reinforce, ReinforceSettings::tunings(), |s, t| s.baselines.reinforce = t),
        ),
        Contender { name: "rco, cold", settings: vec![cold_rco()] },
        one("rco", M::Rco),
        Contender { name: "rco, polished", settings: vec![polished_rco()] },
        one("portfolio", M::Portfolio),
    ]
}

/// One method by itself, one thread: the benchmark runs instances side by side.
fn single(method: MethodName) -> SearchSettings {
    SearchSettings { threads: 1, ..SearchSettings::for_method(method) }
}

fn with<T>(
    method: MethodName,
    tunings: Vec<T>,
    set: impl Fn(&mut SearchSettings, T),
) -> Vec<SearchSettings> {
    tunings
        .into_iter()
        .map(|tuning| {
            let mut settings = single(method);
            set(&mut settings, tuning);
            settings
        })
        .collect()
}

/// RCO as the paper starts it: from equal logits, no scores.
fn cold_rco() -> SearchSettings {
    let mut settings = single(MethodName::Rco);
    settings.warm_start.enabled = false;
    settings
}

fn polished_rco() -> SearchSettings {
    let mut settings = single(MethodName::Rco);
    settings.polish.when = PolishWhen::Always;
    settings
}
