//! Which methods run in which order, and with how many evaluations each.

use std::sync::Arc;

use rayon::ThreadPool;

use super::descend::Descend;
use super::method::Method;
use super::name::MethodName;
use super::polish::Polish;
use super::rco::RcoMethod;
use super::refine::Refine;
use super::rescore::Rescore;
use super::rounding;
use super::settings::SearchSettings;
use crate::baselines::scores::estimator_price;
use crate::baselines::{
    Augmented, Evolution, Exact, Greedy, Known, Lagrangian, Penalty, Proxy, Random, Reinforce,
    Uniform,
};
use crate::problem::Problem;

/// Evaluations of the evolutionary search after its last generation.
const LAST_PARENT: u64 = 1;
/// Generations are planned for one new plan among so many.
const KNOWN_OFFSPRING: u64 = 8;

/// The stages of a run.
///
/// `gradients`: whether the objective has them.
pub(crate) fn stages(
    settings: &SearchSettings,
    separable: bool,
    known: bool,
    gradients: bool,
) -> Vec<MethodName> {
    let mut out = match settings.method {
        MethodName::Portfolio => {
            let mut all = vec![
                MethodName::Uniform,
                MethodName::Proxy,
                MethodName::Greedy,
                MethodName::Random,
            ];
            if known {
                all.insert(1, MethodName::Known);
            }
            if separable {
                all.push(MethodName::Exact);
            }
            if settings.rescore.rounds > 0 && gradients && !separable {
                all.push(MethodName::Rescore);
            }
            if settings.refine.plans > 0 && !separable {
                all.push(MethodName::Refine);
            }
            if settings.descend.rounds > 0 && gradients && !separable {
                all.push(MethodName::Descend);
            }
            if gradients {
                all.push(MethodName::Rco);
            }
            all
        }
        // There must be scores to measure anew, and a plan to begin from.
        MethodName::Rescore => vec![MethodName::Proxy, MethodName::Rescore],
        MethodName::Descend if settings.rescore.rounds > 0 => {
            vec![MethodName::Proxy, MethodName::Rescore, MethodName::Descend]
        }
        MethodName::Descend => vec![MethodName::Proxy, MethodName::Descend],
        single => vec![single],
    };
    if settings.polishes() && gradients {
        out.push(MethodName::Polish);
    }
    out
}

/// Evaluations that a stage may take when `left` remain.
pub(crate) fn allowance(settings: &SearchSettings, stage: MethodName, left: u64) -> u64 {
    let before_polish = || {
        let share = if settings.polishes() { settings.polish.share } else { 0.0 };
        left - (left as f64 * share) as u64
    };
    if settings.method != MethodName::Portfolio {
        return if stage == MethodName::Polish { left } else { before_polish() };
    }
    let baselines = &settings.baselines;
    match stage {
        MethodName::Uniform => left.min(2),
        MethodName::Proxy => estimator_price(&baselines.scores).min(left.div_ceil(8)),
        MethodName::Greedy | MethodName::Exact => left.min(1),
        MethodName::Known => left / 4,
        MethodName::Random => baselines.random.plans.min(left / 10),
        MethodName::Rescore => {
            let round = settings.rescore.draws + 1;
            (settings.rescore.rounds * round).min(before_polish())
        }
        MethodName::Descend => {
            let round = settings.descend.draws + 1;
            (settings.descend.rounds * round + 1).min(before_polish())
        }
        MethodName::Refine => settings.refine.plans.min(before_polish()),
        MethodName::Rco => before_polish(),
        _ => left,
    }
}

/// What a method is built from, apart from the settings.
pub(crate) struct Context<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) settings: &'a SearchSettings,
    pub(crate) deterministic: bool,
    /// Evaluations it may take; `None` without a limit.
    pub(crate) allowance: Option<u64>,
    pub(crate) pool: &'a Arc<ThreadPool>,
}

impl Context<'_> {
    /// Steps of an iterative method that takes `own` without limits, `price`
    /// evaluations a step and `rest` evaluations besides.
    fn steps(&self, own: u64, price: u64, rest: u64) -> u64 {
        let fit = self.allowance.map(|a| a.saturating_sub(rest) / price.max(1));
        match (self.settings.steps, fit) {
            (Some(steps), Some(fit)) => steps.min(fit),
            (Some(steps), None) => steps,
            (None, Some(fit)) => fit,
            (None, None) => own,
        }
    }

    /// Builds the method of a stage.
    pub(crate) fn build(&self, stage: MethodName) -> Box<dyn Method> {
        let settings = self.settings;
        let baselines = &settings.baselines;
        let seed = settings.seed;
        let kinds = || self.problem.budgets().iter().map(|b| b.kind).collect();
        match stage {
            MethodName::Uniform => Box::new(Uniform),
            MethodName::Exact => Box::new(Exact),
            MethodName::Known => Box::new(Known),
            MethodName::Proxy => Box::new(Proxy::new(baselines.scores.clone())),
            MethodName::Greedy => Box::new(Greedy::new(baselines.scores.clone())),
            MethodName::Random => {
                let plans = if settings.method == MethodName::Portfolio {
                    self.allowance.map_or(baselines.random.plans, |a| a.min(baselines.random.plans))
                } else {
                    self.steps(baselines.random.plans, 1, 0)
                };
                Box::new(Random::new(seed, plans))
            }
            MethodName::Penalty => {
                let own = &baselines.penalty;
                let steps = self.steps(own.relax.steps, own.relax.samples, rounding::EVALUATIONS);
                Box::new(Penalty::new(own, kinds(), seed, steps))
            }
            MethodName::Lagrangian => {
                let own = &baselines.lagrangian;
                let steps = self.steps(own.relax.steps, own.relax.samples, rounding::EVALUATIONS);
                Box::new(Lagrangian::new(own, kinds(), seed, steps))
            }
            MethodName::Augmented => {
                let own = &baselines.augmented;
                let steps = self.steps(own.relax.steps, own.relax.samples, rounding::EVALUATIONS);
                Box::new(Augmented::new(own, kinds(), seed, steps))
            }
            MethodName::Evolution => {
                let own = baselines.evolution.clone();
                let price = own.price(self.deterministic);
                let mut steps = self.steps(own.generations, price, LAST_PARENT);
                if self.deterministic && settings.steps.is_none() && self.allowance.is_some() {
                    // Offspring that are known already cost nothing: the limit ends it.
                    steps = steps.saturating_mul(KNOWN_OFFSPRING);
                }
                Box::new(Evolution::new(own, seed, steps))
            }
            MethodName::Reinforce => {
                let own = baselines.reinforce.clone();
                let steps = self.steps(own.steps, own.samples, rounding::EVALUATIONS);
                Box::new(Reinforce::new(own, seed, steps))
            }
            MethodName::Rescore => Box::new(Rescore::new(settings.rescore.clone())),
            MethodName::Descend => Box::new(Descend::new(settings.descend.clone())),
            MethodName::Refine => Box::new(Refine::new(settings.refine.clone(), seed)),
            MethodName::Polish => Box::new(Polish::new(settings.polish.clone(), seed)),
            MethodName::Rco | MethodName::Portfolio => {
                let mut own = settings.rco.clone();
                own.seed = seed;
                let warm = settings.warm_start.enabled && settings.method != MethodName::Portfolio;
                let start = if warm { estimator_price(&baselines.scores) } else { 0 };
                let rest = rounding::EVALUATIONS + start;
                let steps = self.steps(own.steps, own.samples_per_step as u64, rest);
                Box::new(RcoMethod::new(
                    own,
                    settings.warm_start.clone(),
                    baselines.scores.clone(),
                    steps,
                    settings.steps.is_none() && self.allowance.is_some(),
                    Arc::clone(self.pool),
                ))
            }
        }
    }
}
