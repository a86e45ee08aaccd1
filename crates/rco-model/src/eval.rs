//! Statistics of a comparison with a teacher, each with its standard error.
//!
//! Standard errors take tokens as independent draws; neighbouring tokens are not quite, so
//! they are somewhat too small.

use serde::Serialize;

use crate::head::{LossReport, TokenLoss};

/// A number and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// Statistics over tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Number of tokens with a divergence.
    pub tokens: usize,
    /// Mean KL(teacher ‖ student) in nats.
    pub kl_mean: Estimate,
    /// Median KL. Its error is half the distance between the order statistics one
    /// standard deviation of the rank below and above.
    pub kl_median: Estimate,
    /// KL that 99 % of the tokens stay below; error as for the median.
    pub kl_99: Estimate,
    /// Share of tokens with the same most likely token.
    pub same_top: Estimate,
    /// Perplexity of the student on the text; `None` without a next token. Its error is
    /// that of the mean log-likelihood, carried over to first order.
    pub perplexity: Option<Estimate>,
    /// The teacher's.
    pub teacher_perplexity: Option<Estimate>,
}

/// Tokens compared so far.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    tokens: Vec<TokenLoss>,
}

impl Comparison {
    /// Adds a batch whose target was a teacher.
    pub fn add(&mut self, report: &LossReport) {
        self.tokens.extend_from_slice(&report.tokens);
    }

    /// The statistics; `None` if no token was added.
    pub fn summary(&self) -> Option<Summary> {
        if self.tokens.is_empty() {
            return None;
        }
        let mut kl: Vec<f64> = self.tokens.iter().map(|t| t.loss).collect();
        let kl_mean = mean(&kl)?;
        kl.sort_by(f64::total_cmp);
        let same = |t: &TokenLoss| t.same_top.map(|same| if same { 1.0 } else { 0.0 });
        Some(Summary {
            tokens: kl.len(),
            kl_mean,
            kl_median: quantile(&kl, 0.5),
            kl_99: quantile(&kl, 0.99),
            same_top: mean(&self.each(same))?,
            perplexity: perplexity(&self.each(|t| t.nll)),
            teacher_perplexity: perplexity(&self.each(|t| t.teacher_nll)),
        })
    }

    fn each(&self, value: impl Fn(&TokenLoss) -> Option<f64>) -> Vec<f64> {
        self.tokens.iter().filter_map(value).collect()
    }
}

fn mean(values: &[f64]) -> Option<Estimate> {
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let value = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    // One value says nothing about the spread.
    let error = if values.len() > 1 { (squares / (n - 1.0) / n).sqrt() } else { f64::INFINITY };
    Some(Estimate { value, error })
}

fn perplexity(nll: &[f64]) -> Option<Estimate> {
    let Estimate { value, error } = mean(nll)?;
    Some(Estimate { value: value.exp(), error: value.exp() * error })
}

/// Quantile of ascending values by linear interpolation between order statistics.
fn quantile(sorted: &[f64], share: f64) -> Estimate {
    let last = sorted.len() - 1;
    let at = |rank: f64| {
        let rank = rank.clamp(0.0, last as f64);
        let low = rank.floor() as usize;
        let high = (low + 1).min(last);
        sorted[low] + (sorted[high] - sorted[low]) * (rank - low as f64)
    };
    let rank = share * last as f64;
    let spread = (sorted.len() as f64 * share * (1.0 - share)).sqrt();
    Estimate { value: at(rank), error: (at(rank + spread) - at(rank - spread)) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, quantile};
    use crate::head::{LossReport, TokenLoss};

    fn report(losses: &[f64]) -> LossReport {
        let token = |(row, &loss): (usize, &f64)| TokenLoss {
            row,
            loss,
            nll: (row > 0).then_some(2.0),
            teacher_nll: (row > 0).then_some(1.0),
            same_top: Some(row % 2 == 0),
        };
        LossReport { mean: 0.0, tokens: losses.iter().enumerate().map(token).collect() }
    }

    #[test]
    fn statistics_of_a_known_sample() {
        let mut comparison = Comparison::default();
        assert_eq!(comparison.summary(), None);
        comparison.add(&report(&[1.0, 2.0]));
        comparison.add(&report(&[3.0, 6.0]));
        let summary = comparison.summary().unwrap();
        assert_eq!((summary.tokens, summary.kl_mean.value), (4, 3.0));
        // Variance 14 / 3, over four values.
        assert!((summary.kl_mean.error - (14.0_f64 / 12.0).sqrt()).abs() < 1e-15);
        assert_eq!((summary.kl_median.value, summary.same_top.value), (2.5, 0.5));
        let ppl = summary.perplexity.unwrap();
        assert_eq!((ppl.value, ppl.error), (2.0_f64.exp(), 0.0));
        assert_eq!(summary.teacher_perplexity.unwrap().value, 1.0_f64.exp());
    }

    #[test]
    fn the_error_of_a_median_is_that_of_order_statistics() {
        // Evenly spread over [0, 1]: the median of n values has the error 1 / (2 √n).
        let values: Vec<f64> = (0..=10_000).map(|i| f64::from(i) / 10_000.0).collect();
        let median = quantile(&values, 0.5);
        assert_eq!(median.value, 0.5);
        assert!((median.error - 0.005).abs() < 1e-4, "{}", median.error);
    }
}
