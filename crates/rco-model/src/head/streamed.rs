//! Losses by pieces of the vocabulary: sums follow the largest logit so far (as in online
//! softmax, Milakov and Gimelshein, arXiv 1805.02867).
//!
//! A product with the output matrix repacks that matrix. With few rows and all of the
//! vocabulary at once that costs as much as half of the product itself; with pieces of the
//! vocabulary all rows of a batch share it. A loss needs no logits afterwards; a gradient keeps
//! them until the sums are known, and gives that of the output matrix piece by piece.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::rows::RowLoss;
use super::{Head, Wanted};
use crate::error::ModelError;
use crate::ops::{
    Loop, exp, floats, linear_backward, soft_cap_backward, vectorised, weight_gradient,
};

/// Tokens of the vocabulary that go by together.
pub(crate) const PIECE: usize = 4096;
/// Rows that go by together at most where no logits are kept.
pub(crate) const ROWS: usize = 2048;
/// Sums side by side.
const LANES: usize = 16;

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
        let mut states: Option<Tensor> = None;
        for (first, s, t) in pieces {
            let mut g = gradient(sums, self.scale, first, &s, t.as_ref())?;
            if let Some(cap) = head.cap {
                g = soft_cap_backward(&s, cap, &g)?;
            }
            drop((s, t));
            let count = g.dim(1)?;
            if self.wanted.states {
                let part = linear_backward(&head.matrix.narrow(0, first, count)?, &g)?;
                states = Some(match states {
                    Some(sum) => (sum + part)?,
                    None => part,
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
        Ok(states)
    }
}

/// One model's softmax so far.
#[derive(Debug, Clone, Copy)]
struct Softmax {
    max: f32,
    top: usize,
    /// Sum of exponentials, relative to the largest.
    sum: f64,
    /// Logit of the label.
    label: f64,
}

impl Softmax {
    fn log_sum(&self) -> f64 {
        f64::from(self.max) + self.sum.ln()
    }
}

/// What a row needs.
#[derive(Debug, Clone)]
struct Sums {
    student: Softmax,
    teacher: Softmax,
    /// Sum of the teacher's exponentials times the difference of the logits.
    difference: f64,
    label: Option<usize>,
}

impl Sums {
    fn new(label: Option<u32>) -> Self {
        let none = Softmax { max: f32::NEG_INFINITY, top: 0, sum: 0.0, label: 0.0 };
        let label = label.map(|label| label as usize);
        Self { student: none, teacher: none, difference: 0.0, label }
    }

    fn loss(&self, with_teacher: bool) -> Option<RowLoss> {
        let s = self.student.log_sum();
        let nll = self.label.map(|_| s - self.student.label);
        if !with_teacher {
            let loss = nll?;
            return Some(RowLoss { loss, nll, teacher_nll: None, same_top: None });
        }
        let t = self.teacher.log_sum();
        Some(RowLoss {
            loss: self.difference / self.teacher.sum - (t - s),
            nll,
            teacher_nll: self.label.map(|_| t - self.teacher.label),
            same_top: Some(self.student.top == self.teacher.top),
        })
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
    let mut out = vec![0.0_f32; sums.len() * width];
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

/// Adds a piece of a row, whose first token is `first`.
struct Add<'a> {
    sums: &'a mut Sums,
    student: &'a [f32],
    teacher: &'a [f32],
    first: usize,
}

impl Loop for Add<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        let Self { sums, student, teacher, first } = self;
        if let Some(at) = sums.label.and_then(|label| label.checked_sub(first))
            && let (Some(&s), Some(&t)) = (student.get(at), teacher.get(at))
        {
            (sums.student.label, sums.teacher.label) = (f64::from(s), f64::from(t));
        }
        sums.student.sum *= raise(&mut sums.student, student, first);
        let factor = raise(&mut sums.teacher, teacher, first);
        sums.teacher.sum *= factor;
        sums.difference *= factor;

        let (s_max, t_max) = (sums.student.max, sums.teacher.max);
        // A token that the teacher rules out adds nothing, whatever the difference is.
        let term = |p: f32, s: f32, t: f32| {
            if p > 0.0 { f64::from(p) * (f64::from(t) - f64::from(s)) } else { 0.0 }
        };
        let (s_chunks, s_rest) = student.as_chunks::<LANES>();
        let (t_chunks, t_rest) = teacher.as_chunks::<LANES>();
        let (mut of_s, mut of_t, mut of_d) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for (s, t) in s_chunks.iter().zip(t_chunks) {
            for i in 0..LANES {
                let p = exp(t[i] - t_max);
                of_s[i] += f64::from(exp(s[i] - s_max));
                of_t[i] += f64::from(p);
                of_d[i] += term(p, s[i], t[i]);
            }
        }
        for (&s, &t) in s_rest.iter().zip(t_rest) {
            let p = exp(t - t_max);
            of_s[0] += f64::from(exp(s - s_max));
            of_t[0] += f64::from(p);
            of_d[0] += term(p, s, t);
        }
        sums.student.sum += of_s.iter().sum::<f64>();
        sums.teacher.sum += of_t.iter().sum::<f64>();
        sums.difference += of_d.iter().sum::<f64>();
    }
}

/// The same without a teacher.
struct AddOne<'a> {
    sums: &'a mut Sums,
    student: &'a [f32],
    first: usize,
}

impl Loop for AddOne<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        let Self { sums, student, first } = self;
        if let Some(at) = sums.label.and_then(|label| label.checked_sub(first))
            && let Some(&s) = student.get(at)
        {
            sums.student.label = f64::from(s);
        }
        sums.student.sum *= raise(&mut sums.student, student, first);
        let max = sums.student.max;
        let (chunks, rest) = student.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] += f64::from(exp(chunk[i] - max));
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(exp(x - max))).sum();
        sums.student.sum += lanes.iter().sum::<f64>() + rest;
    }
}

/// `(softmax(student) − softmax(teacher)) · scale`.
struct Difference<'a> {
    sums: &'a Sums,
    student: &'a [f32],
    teacher: &'a [f32],
    scale: f64,
    out: &'a mut [f32],
}

impl Loop for Difference<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        let Sums { student: s, teacher: t, .. } = self.sums;
        let (of_s, of_t) = (self.scale / s.sum, self.scale / t.sum);
        let rows = self.student.iter().zip(self.teacher);
        for (out, (&x, &y)) in self.out.iter_mut().zip(rows) {
            let (p, q) = (f64::from(exp(x - s.max)), f64::from(exp(y - t.max)));
            *out = (p * of_s - q * of_t) as f32;
        }
    }
}

/// `softmax(student) · scale`.
struct Probabilities<'a> {
    sums: &'a Sums,
    student: &'a [f32],
    scale: f64,
    out: &'a mut [f32],
}

impl Loop for Probabilities<'_> {
    type Output = ();

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) {
        let s = &self.sums.student;
        let factor = self.scale / s.sum;
        for (out, &x) in self.out.iter_mut().zip(self.student) {
            *out = (f64::from(exp(x - s.max)) * factor) as f32;
        }
    }
}

/// Takes over the largest logit of a piece; gives what the sums so far are to be multiplied by.
#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
fn raise(softmax: &mut Softmax, logits: &[f32], first: usize) -> f64 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let max = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger);
    if max > softmax.max {
        let factor = f64::from(exp(softmax.max - max));
        softmax.max = max;
        softmax.top = first + logits.iter().position(|x| *x == max).unwrap_or(0);
        factor
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Against, PIECE, Streamed, Work};
    use crate::head::rows::{RowLoss, cross_entropy_row, drawn_label, kl_row};
    use crate::head::{Head, Wanted};
    use crate::ops::{ActivationRounding, linear_backward, weight_gradient};

    const HIDDEN: usize = 8;
    /// Two whole pieces and one that is cut off, whose last lanes are, too.
    const VOCABULARY: usize = 2 * PIECE + 1003;
    const ROWS: usize = 5;
    const LABELS: [Option<u32>; ROWS] =
        [Some(0), Some(PIECE as u32), None, Some(VOCABULARY as u32 - 1), Some(77)];
    const UNIFORM: [f64; ROWS] = [0.0, 0.2, 0.5, 0.9, 0.999_999];
    const NOTHING: Wanted = Wanted { states: false, matrix: false };
    const ALL: Wanted = Wanted { states: true, matrix: true };

    fn values(count: usize, step: f32, scale: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin() * scale).collect()
    }

    fn tensor(values: Vec<f32>, rows: usize) -> Tensor {
        let width = values.len() / rows;
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    }

    fn head(step: f32) -> Head {
        let matrix = tensor(values(VOCABULARY * HIDDEN, step, 1.5), VOCABULARY);
        Head { matrix, cap: None, rounding: ActivationRounding::Exact }
    }

    fn states() -> Tensor {
        tensor(values(ROWS * HIDDEN, 1.3, 2.0), ROWS)
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn streamed(head: &Head, against: Against<'_>, wanted: Wanted, values: usize) -> Streamed {
        let states = states();
        let student = (head, &states);
        let work = Work { student, against, labels: &LABELS, wanted, scale: 0.25, values };
        work.run().unwrap().unwrap()
    }

    /// Losses and gradient at the logits, from whole rows.
    fn whole(head: &Head, against: Against<'_>) -> (Vec<Option<RowLoss>>, Vec<f32>) {
        let row =
            |head: &Head, i: usize| flat(&head.logits(&states().narrow(0, i, 1).unwrap()).unwrap());
        let mut gradient = vec![0.0; ROWS * VOCABULARY];
        let rows = gradient.chunks_mut(VOCABULARY).enumerate().map(|(i, g)| {
            let s = row(head, i);
            match against {
                Against::Teacher((teacher, _)) => {
                    Some(kl_row(&s, &row(teacher, i), LABELS[i], Some((g, 0.25))))
                }
                Against::Drawn(uniform) => {
                    let label = drawn_label(&s, uniform[i]);
                    Some(cross_entropy_row(&s, label, Some((g, 0.25))))
                }
                Against::Text => Some(cross_entropy_row(&s, LABELS[i]?, Some((g, 0.25)))),
            }
        });
        (rows.collect(), gradient)
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn pieces_give_the_losses_and_gradients_of_whole_rows() {
        let (student, teacher, states) = (head(0.7), head(0.7001), states());
        for against in
            [Against::Teacher((&teacher, &states)), Against::Drawn(&UNIFORM), Against::Text]
        {
            let (expected, gradient) = whole(&student, against);
            let gradient = tensor(gradient, ROWS);
            let at_states = flat(&linear_backward(&student.matrix, &gradient).unwrap());
            let at_matrix = flat(&weight_gradient(&states, &gradient).unwrap());
            // One row at a time, two, all of them.
            for at_once in [1, 2 * VOCABULARY, 1 << 23] {
                for wanted in [NOTHING, ALL] {
                    let found = streamed(&student, against, wanted, at_once);
                    assert_eq!(found.rows.len(), expected.len());
                    for (found, expected) in found.rows.iter().zip(&expected) {
                        let (Some(found), Some(expected)) = (found, expected) else {
                            assert_eq!(found.is_some(), expected.is_some());
                            continue;
                        };
                        assert!(expected.loss > 1e-3);
                        assert!(near(found.loss, expected.loss), "{found:?} {expected:?}");
                        assert_eq!(found.same_top, expected.same_top);
                        for (a, b) in
                            [(found.nll, expected.nll), (found.teacher_nll, expected.teacher_nll)]
                        {
                            assert_eq!(a.is_some(), b.is_some());
                            assert!(near(a.unwrap_or(0.0), b.unwrap_or(0.0)));
                        }
                    }
                    assert_eq!(found.states.is_some(), wanted.states);
                    for (found, expected) in
                        [(found.states, &at_states), (found.matrix, &at_matrix)]
                    {
                        let Some(found) = found else { continue };
                        let far = flat(&found)
                            .iter()
                            .zip(expected)
                            .fold(0.0, |far: f32, (a, b)| far.max((a - b).abs()));
                        assert!(far < 1e-6, "{far}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_model_does_not_diverge_from_itself_at_all() {
        let (head, states) = (head(0.3), states());
        let found = streamed(&head, Against::Teacher((&head, &states)), ALL, 1 << 23);
        for row in found.rows {
            let row = row.unwrap();
            assert_eq!((row.loss, row.same_top), (0.0, Some(true)));
            assert_eq!(row.nll, row.teacher_nll);
        }
        assert!(flat(&found.states.unwrap()).iter().all(|g| *g == 0.0));
    }
}
