//! Choosing the next token.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;

use crate::GgmlError;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most likely one.
    Greedy,
    /// By its probability, with logits divided by the temperature.
    Temperature {
        /// Greater than 0; 1 samples from the model itself.
        temperature: f32,
        /// The same seed draws the same tokens.
        seed: u32,
    },
}

/// A sampler of llama.cpp.
pub(super) struct Sampler(LlamaSampler);

impl Sampling {
    pub(super) fn sampler(self) -> Result<Sampler, GgmlError> {
        match self {
            Self::Greedy => Ok(Sampler(LlamaSampler::greedy())),
            Self::Temperature { temperature, seed } => {
                if !(temperature.is_finite() && temperature > 0.0) {
                    return Err(GgmlError::Setting {
                        what: "the temperature",
                        found: temperature.to_string(),
                        expected: "a number above 0",
                    });
                }
                let steps = [LlamaSampler::temp(temperature), LlamaSampler::dist(seed)];
                Ok(Sampler(LlamaSampler::chain_simple(steps)))
            }
        }
    }
}

impl Sampler {
    /// The token after position `index` of the last batch, whose logits must be finite.
    pub(super) fn next(&mut self, context: &LlamaContext<'_>, index: i32) -> LlamaToken {
        self.0.sample(context, index)
    }
}
