//! Separable scores measured anew at the plan that they lead to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::SearchError;
use super::method::{Method, Progress, from_json, to_json};
use super::name::MethodName;
use super::oracle::{Oracle, Sample};
use super::settings::RescoreSettings;
use crate::decisions::Decisions;

const NAME: MethodName = MethodName::Rescore;

/// The factor of a decision is at least this share of that of all.
const LEAST: f64 = 0.25;

/// Measures at the plan of the scores what its choices cost there, and begins anew with scores
/// that agree with that.
///
/// A score is what a choice costs by itself, at the original. In a plan that changes much it costs
/// less or more, because of everything else that the plan changes. That is measured in the size
/// of the error, not along it: where the errors `e` of two options of a decision are as good as
/// independent, `⟨∇L, e⟩` says nothing of another option, but half of it is what the power of the
/// error costs at the plan, `∂L/∂v · v` with `e ∝ √v`; and scores are in proportion to powers.
/// So the scores of a decision are those at hand times one factor, `½ ⟨∇L, e⟩` over the score of
/// the chosen option. One gradient knows it for all decisions, with an error that is small where
/// the choice matters; where it does not, the factor is drawn to that of all decisions together.
#[derive(Debug)]
pub(crate) struct Rescore {
    settings: RescoreSettings,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    rounds: Vec<Round>,
    finishing: bool,
}

/// What was measured at one plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Round {
    /// The scores before, of the options chosen.
    chosen: Vec<f64>,
    /// Half the strain of every decision, for each draw.
    halves: Vec<Vec<f64>>,
}

impl Round {
    fn draws(&self) -> f64 {
        self.halves.len() as f64
    }

    /// Mean of a decision over the draws, and the sum of the squares about it.
    fn spread(&self, decision: usize) -> (f64, f64) {
        let of = || self.halves.iter().map(|half| half[decision]);
        let mean = of().sum::<f64>() / self.draws();
        (mean, of().map(|x| (x - mean).powi(2)).sum())
    }
}

impl Rescore {
    pub(crate) fn new(settings: RescoreSettings) -> Self {
        Self { settings, state: State::default() }
    }

    /// The scores times the factor of their decision.
    fn scores(&self, decisions: &Decisions, given: &[f64]) -> Vec<f64> {
        let mut out = given.to_vec();
        for (d, factor) in factors(&self.state.rounds, self.settings.spread).iter().enumerate() {
            for score in &mut out[decisions.options_of(d)] {
                *score *= factor;
            }
        }
        out
    }

    /// The plan that they lead to.
    fn plan(&self, oracle: &mut Oracle<'_>, given: &[f64]) -> Result<Vec<u32>, SearchError> {
        let scores = self.scores(oracle.decisions(), given);
        oracle.knapsack(&scores.iter().map(|score| -score).collect::<Vec<_>>())
    }
}

/// The factor of every decision, from what was measured so far.
fn factors(rounds: &[Round], spread: f64) -> Vec<f64> {
    let count = rounds.first().map_or(0, |round| round.chosen.len());
    // What all decisions are wrong by together.
    let mut measured = 0.0;
    let mut expected = 0.0;
    for round in rounds {
        for half in &round.halves {
            measured += half.iter().sum::<f64>();
            expected += round.chosen.iter().sum::<f64>();
        }
    }
    let common = if measured > 0.0 && expected > 0.0 { measured / expected } else { 1.0 };
    let deviation = spread * common;
    let free: f64 = rounds.iter().map(|round| round.draws() - 1.0).sum();
    (0..count)
        .map(|d| {
            let found: Vec<(f64, f64)> = rounds.iter().map(|round| round.spread(d)).collect();
            let squares: f64 = found.iter().map(|(_, squares)| squares).sum();
            let mut precision = deviation.powi(-2);
            let mut sum = precision * common;
            for (round, (mean, _)) in rounds.iter().zip(&found) {
                let score = round.chosen[d];
                // As if one draw more had been off by as much as is expected of a factor.
                let noise = (squares + (deviation * score).powi(2)) / (free + 1.0);
                if score > 0.0 && noise > 0.0 {
                    precision += round.draws() * score * score / noise;
                    sum += round.draws() * score * mean / noise;
                }
            }
            (sum / precision).max(LEAST * common)
        })
        .collect()
}

impl Method for Rescore {
    fn name(&self) -> MethodName {
        NAME
    }

    fn planned_steps(&self) -> Option<u64> {
        Some(self.settings.rounds + 1)
    }

    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError> {
        let Some(scores) = oracle.scores().map(<[f64]>::to_vec) else {
            return Ok(Progress::done());
        };
        let plan = self.plan(oracle, &scores)?;
        let left = self.settings.rounds.saturating_sub(self.state.rounds.len() as u64);
        let draws = if self.state.finishing || left == 0 { 0 } else { self.settings.draws };
        let measured = oracle.strains(NAME, &plan, draws)?;
        if measured.is_empty() {
            // The methods that follow start from what was learnt.
            if !self.state.rounds.is_empty() {
                let learnt = self.scores(oracle.decisions(), &scores);
                oracle.set_scores(learnt);
            }
            return Ok(Progress::done());
        }
        let offsets = oracle.decisions().offsets();
        let chosen = plan.iter().zip(offsets).map(|(&k, start)| scores[start + k as usize]);
        let halves = measured.iter().map(|m| m.strain.iter().map(|s| 0.5 * s).collect());
        self.state.rounds.push(Round { chosen: chosen.collect(), halves: halves.collect() });
        let next = self.plan(oracle, &scores)?;
        oracle.propose(NAME, "knapsack on scores at the plan", &next)?;
        let loss = oracle.losses(NAME, std::slice::from_ref(&next), Sample::Calibration)?;
        Ok(Progress { loss: loss.first().copied(), ..Progress::default() })
    }

    fn wind_up(&mut self) {
        self.state.finishing = true;
    }

    fn save(&self) -> Result<Value, SearchError> {
        to_json(NAME, &self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), SearchError> {
        self.state = from_json(NAME, state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    /// Rounds at which every decision costs its score times its own factor, seen through noise.
    fn rounds(truth: &[f64], noise: f64, count: usize, draws: usize) -> Vec<Round> {
        let mut random = stream(9, Purpose::Instance, 0);
        (0..count)
            .map(|_| {
                let chosen: Vec<f64> = truth.iter().map(|_| random.uniform()).collect();
                let mut half = |(s, t): (&f64, &f64)| s * t + noise * random.normal();
                let halves = (0..draws).map(|_| chosen.iter().zip(truth).map(&mut half).collect());
                Round { halves: halves.collect(), chosen: chosen.clone() }
            })
            .collect()
    }

    fn truth() -> Vec<f64> {
        let mut random = stream(8, Purpose::Instance, 0);
        (0..40).map(|_| 3.0 * (0.3 * random.normal()).exp()).collect()
    }

    fn distance(found: &[f64], truth: &[f64]) -> f64 {
        let squares = found.iter().zip(truth).map(|(f, t)| (f - t).powi(2));
        (squares.sum::<f64>() / truth.len() as f64).sqrt()
    }

    #[test]
    fn factors_are_found_through_noise_and_better_with_more_draws() {
        let truth = truth();
        let nothing = distance(&vec![3.0; 40], &truth);
        let few = distance(&factors(&rounds(&truth, 0.4, 1, 4), 0.5), &truth);
        let many = distance(&factors(&rounds(&truth, 0.4, 4, 16), 0.5), &truth);
        assert!(few < nothing && many < 0.5 * few, "{nothing} {few} {many}");
    }

    #[test]
    fn without_noise_a_factor_is_what_was_measured() {
        let truth = truth();
        let found = factors(&rounds(&truth, 0.0, 2, 8), 0.5);
        assert!(distance(&found, &truth) < 0.1, "{found:?} {truth:?}");
    }

    #[test]
    fn noise_alone_leaves_what_all_decisions_have_in_common() {
        // One round in which the first decision counts for nothing but noise.
        let mut rounds = rounds(&truth(), 0.1, 1, 6);
        rounds[0].chosen[0] = 1e-9;
        let found = factors(&rounds, 0.5);
        let (measured, expected) = (&rounds[0].halves, &rounds[0].chosen);
        let common = measured.iter().flatten().sum::<f64>() / 6.0 / expected.iter().sum::<f64>();
        assert!((found[0] / common - 1.0).abs() < 1e-3, "{} {common}", found[0]);
        // Nothing is turned into a gain.
        for half in &mut rounds[0].halves {
            half[1] = -5.0;
        }
        assert!(factors(&rounds, 0.5).iter().all(|&factor| factor > 0.0));
    }
}
