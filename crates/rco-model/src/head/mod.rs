//! The loss at the output: logits by chunks of tokens, never all at once.

mod loss;
mod rows;
mod streamed;

pub(crate) use loss::{HeadLoss, Wanted, head_loss};
pub(crate) use streamed::{PIECE, ROWS as PIECE_ROWS};

use candle_core::Tensor;

use crate::error::ModelError;
use crate::ops::{ActivationRounding, linear, round_activations, soft_cap};

/// Tokens whose logits are computed together at least, where memory is short.
pub(crate) const ROWS_AT_A_TIME: usize = 8;

/// The output matrix of a model and the cap of its logits.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[vocabulary, hidden]`.
    pub(crate) matrix: Tensor,
    pub(crate) cap: Option<f64>,
    pub(crate) rounding: ActivationRounding,
}

impl Head {
    /// Logits of some rows of normed states.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        self.piece(&self.rounded(hidden)?, 0, self.vocabulary())
    }

    /// States as the output matrix is multiplied with them.
    fn rounded(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        Ok(round_activations(hidden, self.rounding)?)
    }

    /// Logits of `count` tokens of the vocabulary (or those that are left of it) from `first`
    /// on, from rounded states.
    fn piece(&self, rounded: &Tensor, first: usize, count: usize) -> Result<Tensor, ModelError> {
        let count = count.min(self.vocabulary() - first);
        let logits = linear(rounded, &self.matrix.narrow(0, first, count)?, None)?;
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
    /// States from their values: `rows × hidden`, row after row, on the processor.
    ///
    /// # Errors
    /// [`ModelError::WrongLength`] if the values are no whole number of rows.
    pub fn from_values(values: Vec<f32>, hidden: usize) -> Result<Self, ModelError> {
        let rows = values.len().checked_div(hidden).unwrap_or(0);
        if rows * hidden != values.len() || rows == 0 {
            let (name, found) = ("states".to_owned(), values.len());
            return Err(ModelError::WrongLength { name, shape: vec![rows.max(1), hidden], found });
        }
        Ok(Self(Tensor::from_vec(values, (rows, hidden), &candle_core::Device::Cpu)?))
    }

    /// The values, row after row.
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub fn values(&self) -> Result<Vec<f32>, ModelError> {
        let host = self.0.to_device(&candle_core::Device::Cpu)?;
        Ok(host.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
    }

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
    /// Tokens drawn from the model itself: cross-entropy of one token for each row, drawn
    /// from the model's own distribution there. Its gradient has mean 0, and the mean of
    /// its square is the Fisher information.
    Drawn {
        /// One number in `0..1` for each row, which the draw is made from.
        uniform: &'a [f64],
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

/// KL(teacher ‖ model) of every token of one sequence, from logits that were computed
/// elsewhere: `tokens × vocabulary` values of each, row after row.
///
/// # Errors
/// [`ModelError::BadTarget`] if the numbers of values do not fit.
pub fn compare_logits(
    tokens: &[u32],
    teacher: &[f32],
    model: &[f32],
) -> Result<LossReport, ModelError> {
    let vocabulary = model.len().checked_div(tokens.len()).unwrap_or(0);
    for (what, found) in [("logits", model.len()), ("logits of the teacher", teacher.len())] {
        let expected = tokens.len() * vocabulary;
        if found != expected || found == 0 {
            return Err(ModelError::BadTarget { what, expected, found });
        }
    }
    let labels: Vec<Option<u32>> = tokens.iter().skip(1).map(|&t| Some(t)).chain([None]).collect();
    if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocabulary) {
        return Err(ModelError::TokenOutOfRange { token, vocabulary });
    }
    let losses = loss::kl_rows(model, teacher, vocabulary, &labels);
    let mean = losses.iter().map(|t| t.loss).sum::<f64>() / losses.len() as f64;
    Ok(LossReport { mean, tokens: losses })
}

/// Losses of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LossReport {
    /// Mean over the tokens that have a loss.
    pub mean: f64,
    /// The tokens that have a loss, in order.
    pub tokens: Vec<TokenLoss>,
}
