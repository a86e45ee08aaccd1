//! What a plan is judged by: the mean KL of the domains, each as heavy as asked, and limits on
//! what protected domains may lose.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rco_core::search::Split;
use rco_model::head::LossReport;

use super::settings::JudgedText;
use crate::teacher::Taught;

/// Nats of the loss for each nat above a limit, on the text that the search learns from: the
/// way back below the limit leads downhill wherever the search stands.
const PENALTY: f64 = 10.0;

/// The loss of a plan above a limit on held-out text is this and more: it comes after every
/// plan that keeps to the limits.
pub const OVER_LIMIT: f64 = 1e6;

/// Weights and limits of the domains. Window `i` of a text is of domain `i mod domains`.
#[derive(Debug, Clone, PartialEq)]
pub struct Aim {
    /// Weight of each domain; zero for those that only have a limit.
    weights: Vec<f64>,
    /// Mean KL that a domain may have at most.
    limits: Vec<Option<f64>>,
}

/// Losses of a plan by domain.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainSums {
    /// Sum of the losses of all tokens.
    losses: Vec<f64>,
    tokens: Vec<u64>,
}

impl DomainSums {
    /// Mean loss of a domain; `None` without tokens.
    pub fn mean(&self, domain: usize) -> Option<f64> {
        let tokens = self.tokens[domain];
        (tokens > 0).then(|| self.losses[domain] / tokens as f64)
    }
}

impl Default for Aim {
    /// All text alike.
    fn default() -> Self {
        Self { weights: vec![1.0], limits: vec![None] }
    }
}

impl Aim {
    /// What a user has asked for.
    pub(super) fn new(text: &JudgedText) -> Self {
        let mut weights = text.weights.clone();
        weights.resize(text.files.len().max(1), 1.0);
        let mut limits = vec![None; weights.len()];
        for _ in &text.protected {
            weights.push(0.0);
            limits.push(text.limit);
        }
        Self { weights, limits }
    }

    /// Number of domains.
    pub fn domains(&self) -> usize {
        self.weights.len()
    }

    /// Domain of a window.
    pub(super) fn domain(&self, window: usize) -> usize {
        window % self.weights.len()
    }

    /// Weight of a domain.
    pub(super) fn weight(&self, domain: usize) -> f64 {
        self.weights[domain]
    }

    /// Limit of a domain.
    pub fn limit(&self, domain: usize) -> Option<f64> {
        self.limits[domain]
    }

    /// Losses by domain of the first batches of a text.
    pub fn sums(&self, taught: &Taught, reports: &[LossReport]) -> DomainSums {
        let domains = self.domains();
        let mut sums = DomainSums { losses: vec![0.0; domains], tokens: vec![0; domains] };
        let mut before = 0;
        for (n, report) in reports.iter().enumerate() {
            let batch = taught.batch(n);
            let mut own = vec![0.0; domains];
            for token in &report.tokens {
                let domain = self.domain(before + token.row / batch.sequence_len());
                own[domain] += token.loss;
                sums.tokens[domain] += 1;
            }
            for (sum, own) in sums.losses.iter_mut().zip(own) {
                *sum += own;
            }
            before += batch.sequences();
        }
        sums
    }

    /// Weight of the domains that have tokens.
    fn heavy(&self, sums: &DomainSums) -> f64 {
        let weights = self.weights.iter().zip(&sums.tokens);
        weights.filter(|(_, tokens)| **tokens > 0).map(|(weight, _)| weight).sum()
    }

    /// Nats above the limits, summed over the domains.
    pub fn excess(&self, sums: &DomainSums) -> f64 {
        let above = |d: usize| Some((sums.mean(d)? - self.limits[d]?).max(0.0));
        (0..self.domains()).filter_map(above).sum()
    }

    /// The loss of a plan: the weighted mean over the domains, and what it pays for being above
    /// a limit.
    pub fn loss(&self, sums: &DomainSums, split: Split) -> f64 {
        let total = self.heavy(sums);
        let share = |d: usize| Some(sums.mean(d)? * self.weights[d]);
        let mean = (0..self.domains()).filter_map(share).sum::<f64>() / total;
        let excess = self.excess(sums);
        match split {
            _ if excess == 0.0 => mean,
            Split::HeldOut => OVER_LIMIT * (1.0 + excess),
            _ => mean + PENALTY * excess,
        }
    }

    /// Derivative of the loss on the calibration text with regard to the loss of one token of
    /// each domain.
    pub fn slopes(&self, sums: &DomainSums) -> Vec<f64> {
        let total = self.heavy(sums);
        let slope = |d: usize| {
            let Some(mean) = sums.mean(d) else { return 0.0 };
            let is_above = self.limits[d].is_some_and(|limit| mean > limit);
            let of_mean = self.weights[d] / total + if is_above { PENALTY } else { 0.0 };
            of_mean / sums.tokens[d] as f64
        };
        (0..self.domains()).map(slope).collect()
    }

    /// The folder of a search for this aim in that of a run: another limit is another search.
    pub(super) fn search_folder(&self, run: &Path) -> PathBuf {
        match self.limits.iter().flatten().next() {
            None => run.join("search"),
            Some(limit) => run.join(format!("search-{limit}")),
        }
    }

    /// Adds what tells this aim from others to a description.
    pub(super) fn describe(&self, text: &mut String) {
        if *self != Self::default() {
            let _ = write!(text, " {:?} {:?}", self.weights, self.limits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(weights: &[f64], limit: Option<f64>) -> Aim {
        let files = |n| vec![PathBuf::from("some"); n];
        Aim::new(&JudgedText {
            files: files(2),
            weights: weights.to_vec(),
            protected: files(usize::from(limit.is_some())),
            limit,
        })
    }

    fn sums(means: &[f64], tokens: &[u64]) -> DomainSums {
        let losses = means.iter().zip(tokens).map(|(m, &t)| m * t as f64).collect();
        DomainSums { losses, tokens: tokens.to_vec() }
    }

    #[test]
    fn domains_count_as_much_as_asked_whatever_their_tokens() {
        let found = sums(&[0.1, 0.4], &[300, 100]);
        let mean = aim(&[3.0, 1.0], None).loss(&found, Split::HeldOut);
        assert!((mean - 0.175).abs() < 1e-15, "{mean}");
        let mean = aim(&[], None).loss(&found, Split::Calibration);
        assert!((mean - 0.25).abs() < 1e-15, "{mean}");
        // A domain that has no window counts for nothing.
        let mean = aim(&[], None).loss(&sums(&[0.1, 0.0], &[5, 0]), Split::Calibration);
        assert!((mean - 0.1).abs() < 1e-15, "{mean}");
    }

    #[test]
    fn a_plan_above_a_limit_comes_after_all_others() {
        let aim = aim(&[], Some(0.2));
        let within = sums(&[5.0, 5.0, 0.2], &[4; 3]);
        assert!((aim.loss(&within, Split::HeldOut) - 5.0).abs() < 1e-15);
        let above = sums(&[0.1, 0.1, 0.3], &[4; 3]);
        assert!(aim.loss(&above, Split::HeldOut) > OVER_LIMIT);
        let learnt = aim.loss(&above, Split::Calibration);
        assert!((learnt - 1.1).abs() < 1e-12, "{learnt}");
        assert!((aim.excess(&above) - 0.1).abs() < 1e-15);
    }

    #[test]
    fn slopes_are_those_of_the_loss() {
        let step = 1e-6;
        for limit in [None, Some(0.2), Some(0.5)] {
            let aim = aim(&[2.0, 1.0], limit);
            let tokens = [30, 10, 20];
            let at = |means: &[f64]| {
                let n = aim.domains();
                aim.loss(&sums(&means[..n], &tokens[..n]), Split::Calibration)
            };
            let means = [0.1, 0.2, 0.3];
            let slopes = aim.slopes(&sums(&means[..aim.domains()], &tokens[..aim.domains()]));
            for (d, slope) in slopes.iter().enumerate() {
                let (mut up, mut down) = (means, means);
                up[d] += step;
                down[d] -= step;
                // A token's loss moves the mean by one part in all tokens.
                let expected = (at(&up) - at(&down)) / (2.0 * step) / tokens[d] as f64;
                assert!((slope - expected).abs() < 1e-7, "{limit:?} {d}: {slope} {expected}");
            }
        }
    }
}
