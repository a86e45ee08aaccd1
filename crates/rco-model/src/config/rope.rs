//! Rotary position embedding: frequencies and their scaling.

use std::f64::consts::PI;
use std::sync::Arc;

/// Which coordinates of a head form a pair that is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeOrder {
    /// `(i, i + head size / 2)`: Hugging Face files.
    Halves,
    /// `(2i, 2i + 1)`: GGUF files of the `llama` architecture, original Llama files.
    Interleaved,
}

/// How frequencies are stretched for long contexts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a smooth change between.
    Llama3 {
        /// The divisor.
        factor: f64,
        /// Wavelengths above `original_context / low` are divided.
        low: f64,
        /// Wavelengths below `original_context / high` are kept.
        high: f64,
        /// Context length of the first training.
        original_context: f64,
    },
    /// Each divided by a number of its own: `rope_freqs.weight` of GGUF files, which holds
    /// the divisors of Llama 3.
    Divisors {
        /// One for each pair of a head.
        divisors: Arc<[f64]>,
    },
    /// `YaRN` (arXiv 2309.00071).
    Yarn {
        /// The divisor.
        factor: f64,
        /// Turns within the original context above which a frequency is kept.
        beta_fast: f64,
        /// Turns below which it is divided.
        beta_slow: f64,
        /// Context length of the first training.
        original_context: f64,
        /// Factor of cosine and sine.
        attention_factor: f64,
        /// Whether the ends of the ramp are rounded to whole pairs.
        truncate: bool,
    },
}

impl RopeScaling {
    pub(crate) fn has_divisors(&self) -> bool {
        matches!(self, Self::Divisors { .. })
    }
}

/// Rotary position embedding of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric sequence of wavelengths.
    pub base: f64,
    /// Scaling.
    pub scaling: RopeScaling,
    /// Pairs.
    pub order: RopeOrder,
}

impl Rope {
    /// Radians per token of each of the `dim / 2` pairs, slowest last.
    pub fn frequencies(&self, dim: usize) -> Vec<f64> {
        let pairs = dim / 2;
        let plain = (0..pairs).map(|i| self.base.powf(-2.0 * i as f64 / dim as f64));
        match &self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
            RopeScaling::Divisors { divisors } => {
                plain.zip(divisors.iter()).map(|(f, divisor)| f / divisor).collect()
            }
            &RopeScaling::Llama3 { factor, low, high, original_context } => plain
                .map(|f| {
                    let turns = original_context * f / (2.0 * PI);
                    let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    f * (keep + (1.0 - keep) / factor)
                })
                .collect(),
            &RopeScaling::Yarn {
                factor, beta_fast, beta_slow, original_context, truncate, ..
            } => {
                let pair_of = |turns: f64| {
                    dim as f64 * (original_context / (turns * 2.0 * PI)).ln()
                        / (2.0 * self.base.ln())
                };
                let (mut first, mut last) = (pair_of(beta_fast), pair_of(beta_slow));
                if truncate {
                    (first, last) = (first.floor(), last.ceil());
                }
                first = first.max(0.0);
                last = last.min(dim as f64 - 1.0);
                if first == last {
                    last += 0.001;
                }
                plain
                    .enumerate()
                    .map(|(i, f)| {
                        let divide = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
                        f * (1.0 - divide + divide / factor)
                    })
                    .collect()
            }
        }
    }

    /// Factor of cosine and sine.
    pub fn amplitude(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rope, RopeOrder, RopeScaling};

    fn frequencies(scaling: RopeScaling) -> Vec<f64> {
        Rope { base: 10_000.0, scaling, order: RopeOrder::Halves }.frequencies(64)
    }

    #[test]
    fn llama3_keeps_fast_pairs_and_divides_slow_ones() {
        let plain = frequencies(RopeScaling::None);
        let scaled = frequencies(RopeScaling::Llama3 {
            factor: 8.0,
            low: 1.0,
            high: 4.0,
            original_context: 8192.0,
        });
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[31] * 8.0 - plain[31]).abs() < 1e-15);
        assert!(scaled.windows(2).all(|w| w[0] > w[1]));
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let plain = frequencies(RopeScaling::None);
        let scaled = frequencies(RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_context: 4096.0,
            attention_factor: 1.1,
            truncate: true,
        });
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[31] * 4.0 - plain[31]).abs() < 1e-15);
    }
}
