//! Losses by pieces of the vocabulary: sums follow the largest logit so far (as in online
//! softmax, Milakov and Gimelshein, arXiv 1805.02867).
//!
//! A product with the output matrix repacks that matrix. With few rows and all of the
//! vocabulary at once that costs as much as half of the product itself; with pieces of the
//! vocabulary all rows of a batch share it. A loss needs no logits afterwards; a gradient keeps
//! them until the sums are known, and gives that of the output matrix piece by piece.

mod sums;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::rows::RowLoss;
use super::{Head, Wanted};
use crate::error::ModelError;
use crate::ops::{
    InputGradient, exp, floats, soft_cap_backward, vectorised, weight_gradient, zeros,
};
use sums::{Add, AddOne, Difference, Probabilities, Sums};

/// Tokens of the vocabulary that go by together.
pub(crate) const PIECE: usize = 4096;
/// Rows that go by together at most where no logits are kept.
pub(crate) const ROWS: usize = 2048;

/// A model: its output matrix and its states.
pub(super) type Output<'a> = (&'a Head, &'a Tensor);

/// What the rows are compared with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Against<'a> {
    /// Another model.
    Teacher(Output<'a>),
    /// A token drawn by each of these numbers.
    Drawn(&'a [f64]),
    /// The next token of the text.
    Text,
}

/// Losses of rows, and gradients.
#[derive(Debug)]
pub(super) struct Streamed {
    /// A row without a label has none, if labels are what it is compared with.
    pub(super) rows: Vec<Option<RowLoss>>,
    /// At the states.
    pub(super) states: Option<Tensor>,
    /// At the output matrix.
    pub(super) matrix: Option<Tensor>,
}

/// The work on one model's rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    /// The model.
    pub(super) student: Output<'a>,
    /// What it is compared with.
    pub(super) against: Against<'a>,
    /// The next token of every row.
    pub(super) labels: &'a [Option<u32>],
    /// Gradients that are wanted.
    pub(super) wanted: Wanted,
    /// What gradients are multiplied with.
    pub(super) scale: f64,
    /// Logits of each model that are in memory at a time, at most.
    pub(super) values: usize,
}

impl Work<'_> {
    /// Does it; `None` for other types and devices than f32 on the processor.
    pub(super) fn run(&self) -> Result<Option<Streamed>, ModelError> {
        let (head, hidden) = self.student;
        if floats([&head.matrix, hidden], |_| ())?.is_none() {
            return Ok(None);
        }
        if let Against::Teacher((teacher, states)) = self.against
            && floats([&teacher.matrix, states], |_| ())?.is_none()
        {
            return Ok(None);
        }
        let step = if self.keeps_logits() {
            (self.values / head.vocabulary().max(1)).max(1)
        } else {
            (self.values / PIECE).clamp(1, ROWS)
        };
        let mut out = Streamed { rows: Vec::new(), states: None, matrix: None };
        let mut states = Vec::new();
        // Chunks as long as each other: a short one pays as much for the matrix.
        let rows = self.labels.len();
        let step = rows.div_ceil(rows.div_ceil(step).max(1)).max(1);
        for start in (0..rows).step_by(step) {
            let count = step.min(rows - start);
            states.extend(self.chunk(start, count, &mut out)?);
        }
        if !states.is_empty() {
            out.states = Some(Tensor::cat(&states, 0)?);
        }
        Ok(Some(out))
    }

    fn keeps_logits(&self) -> bool {
        self.wanted.any() || matches!(self.against, Against::Drawn(_))
    }

    /// Some rows; gives the gradient at their states.
    fn chunk(
        &self,
        start: usize,
        count: usize,
        out: &mut Streamed,
    ) -> Result<Option<Tensor>, ModelError> {
        let (head, hidden) = self.student;
        let hidden = hidden.narrow(0, start, count)?;
        let rounded = head.rounded(&hidden)?;
        let teacher = match self.against {
            Against::Teacher((teacher, states)) => {
                Some((teacher, teacher.rounded(&states.narrow(0, start, count)?)?))
            }
            _ => None,
        };
        let labels = &self.labels[start..start + count];
        let mut sums: Vec<Sums> = labels.iter().map(|&label| Sums::new(label)).collect();
        let mut pieces = Vec::new();
        for first in (0..head.vocabulary()).step_by(PIECE) {
            let s = head.piece(&rounded, first, PIECE)?;
            let t = match &teacher {
                Some((teacher, rounded)) => Some(teacher.piece(rounded, first, PIECE)?),
                None => None,
            };
            add(&mut sums, first, &s, t.as_ref())?;
            if self.keeps_logits() {
                pieces.push((first, s, t));
            }
        }
        if let Against::Drawn(uniform) = self.against {
            draw(&mut sums, &uniform[start..start + count], &pieces)?;
        }
        let with_teacher = teacher.is_some();
        out.rows.extend(sums.iter().map(|sums| sums.loss(with_teacher)));
        self.gradients(&hidden, &sums, pieces, start == 0, out)
    }

    /// Gradients from logits and sums; that of the output matrix adds up but for the first
    /// rows.
    fn gradients(
        &self,
        hidden: &Tensor,
        sums: &[Sums],
        pieces: Vec<(usize, Tensor, Option<Tensor>)>,
        first_rows: bool,
        out: &mut Streamed,
    ) -> Result<Option<Tensor>, ModelError> {
        if !self.wanted.any() {
            return Ok(None);
        }
        let head = self.student.0;
        let mut states: Option<InputGradient> = None;
        for (first, s, t) in pieces {
            let mut g = gradient(sums, self.scale, first, &s, t.as_ref())?;
            if let Some(cap) = head.cap {
                g = soft_cap_backward(&s, cap, &g)?;
            }
            drop((s, t));
            let count = g.dim(1)?;
            if self.wanted.states {
                let matrix = head.matrix.narrow(0, first, count)?;
                states = Some(match states {
                    Some(sum) => sum.add(&matrix, &g)?,
                    None => InputGradient::of(&matrix, &g)?,
                });
            }
            if self.wanted.matrix {
                let mut part = weight_gradient(hidden, &g)?;
                let matrix = match out.matrix.take() {
                    Some(matrix) => matrix,
                    None => head.matrix.zeros_like()?,
                };
                if !first_rows {
                    part = (matrix.narrow(0, first, count)? + part)?;
                }
                matrix.slice_set(&part.contiguous()?, 0, first)?;
                out.matrix = Some(matrix);
            }
        }
        Ok(states.map(InputGradient::finish).transpose()?)
    }
}

/// Adds a piece of all rows.
fn add(
    sums: &mut [Sums],
    first: usize,
    student: &Tensor,
    teacher: Option<&Tensor>,
) -> Result<(), ModelError> {
    let width = student.dim(1)?;
    let rows = match teacher {
        Some(teacher) => floats([student, teacher], |[s, t]| {
            let rows = s.par_chunks(width).zip(t.par_chunks(width));
            sums.par_iter_mut().zip(rows).for_each(|(sums, (student, teacher))| {
                vectorised(Add { sums, student, teacher, first });
            });
        })?,
        None => floats([student], |[s]| {
            sums.par_iter_mut().zip(s.par_chunks(width)).for_each(|(sums, student)| {
                vectorised(AddOne { sums, student, first });
            });
        })?,
    };
    on_the_processor(rows)
}

/// Draws the labels of all rows: the first token at which the sum of the probabilities exceeds
/// the row's number.
fn draw(
    sums: &mut [Sums],
    uniform: &[f64],
    pieces: &[(usize, Tensor, Option<Tensor>)],
) -> Result<(), ModelError> {
    let mut before: Vec<f64> = vec![0.0; sums.len()];
    for row in sums.iter_mut() {
        row.label = None;
    }
    for (first, s, _) in pieces {
        let width = s.dim(1)?;
        let done = floats([s], |[s]| {
            let rows = sums.par_iter_mut().zip(before.par_iter_mut()).zip(uniform);
            rows.zip(s.par_chunks(width)).for_each(|(((sums, before), uniform), logits)| {
                if sums.label.is_some() {
                    return;
                }
                let wanted = uniform * sums.student.sum;
                for (i, &x) in logits.iter().enumerate() {
                    *before += f64::from(exp(x - sums.student.max));
                    if *before > wanted {
                        (sums.label, sums.student.label) = (Some(first + i), f64::from(x));
                        return;
                    }
                }
            });
        })?;
        on_the_processor(done)?;
    }
    for row in sums {
        if row.label.is_none() {
            // Rounding has left the sum below the number.
            let top = row.student.top;
            (row.label, row.student.label) = (Some(top), f64::from(row.student.max));
        }
    }
    Ok(())
}

/// Gradient at a piece of the logits of all rows.
fn gradient(
    sums: &[Sums],
    scale: f64,
    first: usize,
    student: &Tensor,
    teacher: Option<&Tensor>,
) -> Result<Tensor, ModelError> {
    let width = student.dim(1)?;
    let mut out = zeros(sums.len() * width);
    let rows = out.par_chunks_mut(width).zip(sums);
    let done = match teacher {
        Some(teacher) => floats([student, teacher], |[s, t]| {
            rows.zip(s.par_chunks(width).zip(t.par_chunks(width))).for_each(
                |((out, sums), (student, teacher))| {
                    vectorised(Difference { sums, student, teacher, scale, out });
                },
            );
        })?,
        None => floats([student], |[s]| {
            rows.zip(s.par_chunks(width)).for_each(|((out, sums), student)| {
                // A row without a label has no loss.
                let Some(label) = sums.label else { return };
                vectorised(Probabilities { sums, student, scale, out });
                if let Some(at) = label.checked_sub(first).filter(|&at| at < width) {
                    let p = f64::from(exp(student[at] - sums.student.max)) / sums.student.sum;
                    out[at] = ((p - 1.0) * scale) as f32;
                }
            });
        })?,
    };
    on_the_processor(done)?;
    Ok(Tensor::from_vec(out, (sums.len(), width), &Device::Cpu)?)
}

/// What products of tensors in main memory give is there too.
fn on_the_processor(done: Option<()>) -> Result<(), ModelError> {
    done.ok_or_else(|| candle_core::Error::Msg("logits have left main memory".into()).into())
}

#[cfg(test)]
mod tests;
