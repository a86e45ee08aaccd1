//! The loss at the output: logits by chunks of tokens, never all at once.

mod loss;
mod rows;

pub(crate) use loss::{HeadLoss, Wanted, head_loss};

use candle_core::Tensor;

use crate::error::ModelError;
use crate::ops::{linear, soft_cap};

/// The output matrix of a model and the cap of its logits.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[vocabulary, hidden]`.
    pub(crate) matrix: Tensor,
    pub(crate) cap: Option<f64>,
}

impl Head {
    /// Logits of some rows of normed states.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let logits = linear(hidden, &self.matrix, None)?;
        match self.cap {
            Some(cap) => Ok(soft_cap(&logits, cap)?),
            None => Ok(logits),
        }
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.matrix.dims().first().copied().unwrap_or(0)
    }
}

/// States of a batch after the final norm: with a [`Head`] they hold all logits in a
/// fraction of the space.
#[derive(Debug, Clone)]
pub struct Hidden(pub(crate) Tensor);

impl Hidden {
    /// Number of tokens.
    pub fn rows(&self) -> usize {
        self.0.dims().first().copied().unwrap_or(0)
    }
}

/// What the model is compared with.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Target<'a> {
    /// The next token of the text: cross-entropy over all tokens but the last of each
    /// sequence.
    NextToken,
    /// Another model: KL(teacher ‖ model) of the whole distributions at every token.
    Teacher {
        /// Head of the teacher.
        head: &'a Head,
        /// States of the teacher on the same batch.
        hidden: &'a Hidden,
    },
}

/// Loss of one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLoss {
    /// Row of the token in the batch.
    pub row: usize,
    /// KL or cross-entropy in nats.
    pub loss: f64,
    /// Negative log-likelihood of the next token, if there is one.
    pub nll: Option<f64>,
    /// The teacher's, if there are both.
    pub teacher_nll: Option<f64>,
    /// Whether the most likely token is the teacher's (of equal ones the first).
    pub same_top: Option<bool>,
}

/// Losses of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LossReport {
    /// Mean over the tokens that have a loss.
    pub mean: f64,
    /// The tokens that have a loss, in order.
    pub tokens: Vec<TokenLoss>,
}
