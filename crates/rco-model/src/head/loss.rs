//! Loss of a batch and its gradient at the states, by chunks of tokens.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::rows::{Real, RowLoss, cross_entropy_row, drawn_label, kl_row};
use super::streamed::{Against, Streamed, Work};
use super::{Head, Hidden, LossReport, Target, TokenLoss};
use crate::batch::Batch;
use crate::error::ModelError;
use crate::ops::{linear_backward, soft_cap_backward, weight_gradient};

/// Loss and gradients.
#[derive(Debug)]
pub(crate) struct HeadLoss {
    pub(crate) report: LossReport,
    /// Gradient at the normed states.
    pub(crate) states: Option<Tensor>,
    /// Gradient at the output matrix.
    pub(crate) matrix: Option<Tensor>,
}

/// Which gradients are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) states: bool,
    pub(crate) matrix: bool,
}

impl Wanted {
    /// Whether any is.
    pub(super) fn any(self) -> bool {
        self.states || self.matrix
    }
}

/// Mean loss over the rows of a batch. At most `chunk_values` logits of the model are in
/// memory at a time (but at least one row), and as many of the teacher and of the
/// gradient.
pub(crate) fn head_loss(
    head: &Head,
    hidden: &Hidden,
    batch: &Batch,
    target: Target<'_>,
    wanted: Wanted,
    chunk_values: usize,
) -> Result<HeadLoss, ModelError> {
    let vocabulary = head.vocabulary();
    check(head, hidden, batch, target)?;
    let labels = batch.next_tokens();
    let counted = match target {
        Target::NextToken => labels.iter().flatten().count(),
        Target::Teacher { .. } | Target::Drawn { .. } => labels.len(),
    };
    if counted == 0 {
        return Err(ModelError::BadTarget {
            what: "tokens with a next token",
            expected: 1,
            found: 0,
        });
    }
    let scale = wanted.any().then(|| 1.0 / counted as f64);

    let against = match target {
        Target::NextToken => Against::Text,
        Target::Drawn { uniform } => Against::Drawn(uniform),
        Target::Teacher { head, hidden } => Against::Teacher((head, &hidden.0)),
    };
    let (labels, values) = (&labels[..], chunk_values);
    let scale_or_none = scale.unwrap_or(0.0);
    let work =
        Work { student: (head, &hidden.0), against, labels, wanted, scale: scale_or_none, values };
    if let Some(Streamed { rows, states, matrix }) = work.run()? {
        let tokens = checked_tokens(0, rows)?;
        let mean = tokens.iter().map(|t| t.loss).sum::<f64>() / counted as f64;
        return Ok(HeadLoss { report: LossReport { mean, tokens }, states, matrix });
    }

    let mut tokens = Vec::with_capacity(counted);
    let (mut states, mut matrix) = (Vec::new(), None::<Tensor>);
    let step = (chunk_values / vocabulary.max(1)).max(1);
    for start in (0..labels.len()).step_by(step) {
        let count = step.min(labels.len() - start);
        let rows = hidden.0.narrow(0, start, count)?;
        let logits = head.logits(&rows)?;
        let teacher = match target {
            Target::NextToken | Target::Drawn { .. } => None,
            Target::Teacher { head, hidden } => {
                Some(head.logits(&hidden.0.narrow(0, start, count)?)?)
            }
        };
        let compared = match (&teacher, target) {
            (Some(teacher), _) => Compared::Teacher(teacher),
            (None, Target::Drawn { uniform }) => Compared::Drawn(&uniform[start..start + count]),
            (None, _) => Compared::Text,
        };
        let labels = &labels[start..start + count];
        let (losses, gradient) = chunk_loss(&logits, compared, labels, scale)?;
        drop(teacher);
        tokens.extend(checked_tokens(start, losses)?);
        let Some(mut gradient) = gradient else { continue };
        if let Some(cap) = head.cap {
            gradient = soft_cap_backward(&logits, cap, &gradient)?;
        }
        drop(logits);
        if wanted.states {
            states.push(linear_backward(&head.matrix, &gradient)?);
        }
        if wanted.matrix {
            let part = weight_gradient(&rows, &gradient)?;
            matrix = Some(match matrix {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
    }
    let mean = tokens.iter().map(|t| t.loss).sum::<f64>() / counted as f64;
    let states = if states.is_empty() { None } else { Some(Tensor::cat(&states, 0)?) };
    Ok(HeadLoss { report: LossReport { mean, tokens }, states, matrix })
}

/// The losses of rows from `start` on that have one.
fn checked_tokens(
    start: usize,
    rows: impl IntoIterator<Item = Option<RowLoss>>,
) -> Result<Vec<TokenLoss>, ModelError> {
    let mut tokens = Vec::new();
    for (row, loss) in (start..).zip(rows) {
        let Some(RowLoss { loss, nll, teacher_nll, same_top }) = loss else { continue };
        if !loss.is_finite() {
            return Err(ModelError::NotFinite { position: row, value: loss });
        }
        tokens.push(TokenLoss { row, loss, nll, teacher_nll, same_top });
    }
    Ok(tokens)
}

fn check(
    head: &Head,
    hidden: &Hidden,
    batch: &Batch,
    target: Target<'_>,
) -> Result<(), ModelError> {
    let same = |what, expected, found| {
        if expected == found {
            Ok(())
        } else {
            Err(ModelError::BadTarget { what, expected, found })
        }
    };
    same("rows of states", batch.rows(), hidden.rows())?;
    if let Target::Drawn { uniform } = target {
        same("random numbers, one for each row,", batch.rows(), uniform.len())?;
    }
    if let Target::Teacher { head: teacher, hidden } = target {
        same("rows of the teacher", batch.rows(), hidden.rows())?;
        same("tokens in the teacher's vocabulary", head.vocabulary(), teacher.vocabulary())?;
    }
    Ok(())
}

/// What the rows of a chunk are compared with.
#[derive(Clone, Copy)]
enum Compared<'a, M> {
    /// The next token of the text.
    Text,
    /// Logits of the teacher.
    Teacher(M),
    /// A token drawn by each of these numbers.
    Drawn(&'a [f64]),
}

type ChunkLoss = (Vec<Option<RowLoss>>, Option<Tensor>);

/// Losses of the rows of a chunk, and the gradient at its logits if there is a scale.
fn chunk_loss(
    logits: &Tensor,
    compared: Compared<'_, &Tensor>,
    labels: &[Option<u32>],
    scale: Option<f64>,
) -> Result<ChunkLoss, ModelError> {
    let width = logits.dim(1)?;
    let values = |t: &Tensor| -> Result<Vec<f64>, ModelError> {
        Ok(t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let teacher_values;
    let compared = match compared {
        Compared::Teacher(teacher) => {
            teacher_values = values(teacher)?;
            Compared::Teacher(&teacher_values[..])
        }
        Compared::Text => Compared::Text,
        Compared::Drawn(uniform) => Compared::Drawn(uniform),
    };
    let (losses, gradient) = rows_loss(&values(logits)?, compared, width, labels, scale);
    let Some(gradient) = gradient else { return Ok((losses, None)) };
    let gradient = Tensor::from_vec(gradient, logits.shape(), &Device::Cpu)?;
    Ok((losses, Some(gradient.to_dtype(logits.dtype())?.to_device(logits.device())?)))
}

/// KL of every row.
pub(super) fn kl_rows(
    model: &[f32],
    teacher: &[f32],
    width: usize,
    labels: &[Option<u32>],
) -> Vec<TokenLoss> {
    let (losses, _) = rows_loss(model, Compared::Teacher(teacher), width, labels, None);
    let rows = losses.into_iter().enumerate();
    rows.filter_map(|(row, loss)| {
        let RowLoss { loss, nll, teacher_nll, same_top } = loss?;
        Some(TokenLoss { row, loss, nll, teacher_nll, same_top })
    })
    .collect()
}

fn rows_loss<T: Real>(
    student: &[T],
    compared: Compared<'_, &[T]>,
    width: usize,
    labels: &[Option<u32>],
    scale: Option<f64>,
) -> (Vec<Option<RowLoss>>, Option<Vec<T>>) {
    let row = |i: usize, gradient: Option<&mut [T]>| {
        let range = i * width..(i + 1) * width;
        let gradient = gradient.zip(scale);
        let student = &student[range.clone()];
        match (compared, labels[i]) {
            (Compared::Teacher(teacher), label) => {
                Some(kl_row(student, &teacher[range], label, gradient))
            }
            (Compared::Drawn(uniform), _) => {
                Some(cross_entropy_row(student, drawn_label(student, uniform[i]), gradient))
            }
            (Compared::Text, Some(label)) => Some(cross_entropy_row(student, label, gradient)),
            // The gradient stays 0.
            (Compared::Text, None) => None,
        }
    };
    if scale.is_none() {
        return ((0..labels.len()).into_par_iter().map(|i| row(i, None)).collect(), None);
    }
    let mut gradient = vec![T::default(); student.len()];
    let rows = gradient.par_chunks_mut(width).enumerate();
    let losses = rows.map(|(i, gradient)| row(i, Some(gradient))).collect();
    (losses, Some(gradient))
}
