//! Divergence of two models from each other without their logits: the vocabulary goes by in
//! pieces, and sums follow the largest logit so far (as in online softmax, Milakov and
//! Gimelshein, arXiv 1805.02867).
//!
//! A product with the output matrix repacks that matrix. With rows by the hundred and all of
//! the vocabulary at once that costs as much as half of the product itself; with pieces of the
//! vocabulary all rows of a batch share it.

use rayon::prelude::*;

use super::Head;
use super::rows::RowLoss;
use crate::error::ModelError;
use crate::ops::{Loop, exp, floats, vectorised};
use candle_core::Tensor;

/// Tokens of the vocabulary that go by together.
const PIECE: usize = 4096;
/// Sums side by side.
const LANES: usize = 16;

/// A model: its output matrix and its states.
pub(super) type Output<'a> = (&'a Head, &'a Tensor);

/// KL(teacher ‖ student) of every row; `None` for other types and devices than f32 on the
/// processor. `values` bounds the logits of each model that are in memory at a time.
pub(super) fn kl_streamed(
    student: Output<'_>,
    teacher: Output<'_>,
    labels: &[Option<u32>],
    values: usize,
) -> Result<Option<Vec<RowLoss>>, ModelError> {
    let mut out = Vec::with_capacity(labels.len());
    let step = (values / PIECE).max(1);
    for start in (0..labels.len()).step_by(step) {
        let count = step.min(labels.len() - start);
        let rows = |(head, hidden): Output<'_>| head.rounded(&hidden.narrow(0, start, count)?);
        let (student_rows, teacher_rows) = (rows(student)?, rows(teacher)?);
        let mut sums: Vec<Sums> =
            labels[start..start + count].iter().map(|&label| Sums::new(label)).collect();
        for first in (0..student.0.vocabulary()).step_by(PIECE) {
            let s = student.0.piece(&student_rows, first, PIECE)?;
            let t = teacher.0.piece(&teacher_rows, first, PIECE)?;
            let width = s.dim(1)?;
            let done = floats([&s, &t], |[s, t]| {
                let rows = s.par_chunks(width).zip(t.par_chunks(width));
                sums.par_iter_mut().zip(rows).for_each(|(sums, (student, teacher))| {
                    vectorised(Add { sums, student, teacher, first });
                });
            })?;
            if done.is_none() {
                return Ok(None);
            }
        }
        out.extend(sums.iter().map(Sums::loss));
    }
    Ok(Some(out))
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

    fn loss(&self) -> RowLoss {
        let (s, t) = (self.student.log_sum(), self.teacher.log_sum());
        let nll = |model: &Softmax, log_sum: f64| self.label.map(|_| log_sum - model.label);
        RowLoss {
            loss: self.difference / self.teacher.sum - (t - s),
            nll: nll(&self.student, s),
            teacher_nll: nll(&self.teacher, t),
            same_top: Some(self.student.top == self.teacher.top),
        }
    }
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
        let (s_chunks, s_rest) = student.as_chunks::<LANES>();
        let (t_chunks, t_rest) = teacher.as_chunks::<LANES>();
        let (mut of_s, mut of_t, mut of_d) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for (s, t) in s_chunks.iter().zip(t_chunks) {
            for i in 0..LANES {
                let p = exp(t[i] - t_max);
                of_s[i] += f64::from(exp(s[i] - s_max));
                of_t[i] += f64::from(p);
                // A token that the teacher rules out adds nothing, whatever the difference is.
                of_d[i] +=
                    if p > 0.0 { f64::from(p) * (f64::from(t[i]) - f64::from(s[i])) } else { 0.0 };
            }
        }
        for (&s, &t) in s_rest.iter().zip(t_rest) {
            let p = exp(t - t_max);
            of_s[0] += f64::from(exp(s - s_max));
            of_t[0] += f64::from(p);
            of_d[0] += if p > 0.0 { f64::from(p) * (f64::from(t) - f64::from(s)) } else { 0.0 };
        }
        sums.student.sum += of_s.iter().sum::<f64>();
        sums.teacher.sum += of_t.iter().sum::<f64>();
        sums.difference += of_d.iter().sum::<f64>();
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

    use super::{PIECE, kl_streamed};
    use crate::head::Head;
    use crate::head::rows::kl_row;
    use crate::ops::ActivationRounding;

    const HIDDEN: usize = 8;

    fn values(count: usize, step: f32, scale: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin() * scale).collect()
    }

    fn head(vocabulary: usize, step: f32) -> Head {
        let matrix = values(vocabulary * HIDDEN, step, 1.5);
        let matrix = Tensor::from_vec(matrix, (vocabulary, HIDDEN), &Device::Cpu).unwrap();
        Head { matrix, cap: None, rounding: ActivationRounding::Exact }
    }

    #[test]
    fn pieces_give_what_whole_rows_give() {
        // Two whole pieces and one that is cut off, whose last lanes are, too.
        let vocabulary = 2 * PIECE + 1003;
        let (student, teacher) = (head(vocabulary, 0.7), head(vocabulary, 0.7001));
        let rows = 5;
        let states =
            Tensor::from_vec(values(rows * HIDDEN, 1.3, 2.0), (rows, HIDDEN), &Device::Cpu);
        let states = states.unwrap();
        let labels = [Some(0), Some(PIECE as u32), None, Some(vocabulary as u32 - 1), Some(77)];
        for at_once in [1, 3 * PIECE, 1 << 20] {
            let found = kl_streamed((&student, &states), (&teacher, &states), &labels, at_once);
            let found = found.unwrap().unwrap();
            for (i, found) in found.iter().enumerate() {
                let row = |head: &Head| -> Vec<f32> {
                    let logits = head.logits(&states.narrow(0, i, 1).unwrap()).unwrap();
                    logits.flatten_all().unwrap().to_vec1().unwrap()
                };
                let expected = kl_row(&row(&student), &row(&teacher), labels[i], None);
                assert!(expected.loss > 1e-3);
                let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * b.abs().max(1.0);
                assert!(near(found.loss, expected.loss), "{found:?} {expected:?}");
                assert_eq!(found.same_top, expected.same_top);
                for (a, b) in [(found.nll, expected.nll), (found.teacher_nll, expected.teacher_nll)]
                {
                    assert_eq!(a.is_some(), b.is_some());
                    assert!(near(a.unwrap_or(0.0), b.unwrap_or(0.0)), "{found:?} {expected:?}");
                }
            }
        }
    }

    #[test]
    fn a_model_does_not_diverge_from_itself_at_all() {
        let head = head(PIECE + 10, 0.3);
        let states = Tensor::from_vec(values(3 * HIDDEN, 0.9, 3.0), (3, HIDDEN), &Device::Cpu);
        let states = states.unwrap();
        let labels = [Some(1), None, Some(2)];
        let found = kl_streamed((&head, &states), (&head, &states), &labels, 1 << 20);
        for row in found.unwrap().unwrap() {
            assert_eq!((row.loss, row.same_top), (0.0, Some(true)));
            assert_eq!(row.nll, row.teacher_nll);
        }
    }
}
