//! Sums over the vocabulary of a row, piece by piece.

use crate::head::rows::RowLoss;
use crate::ops::{Loop, exp, largest};

/// Sums side by side.
const LANES: usize = 16;

/// One model's softmax so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Softmax {
    pub(super) max: f32,
    pub(super) top: usize,
    /// Sum of exponentials, relative to the largest.
    pub(super) sum: f64,
    /// Logit of the label.
    pub(super) label: f64,
}

impl Softmax {
    fn log_sum(&self) -> f64 {
        f64::from(self.max) + self.sum.ln()
    }
}

/// What a row needs.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    pub(super) student: Softmax,
    pub(super) teacher: Softmax,
    /// Sum of the teacher's exponentials times the difference of the logits.
    difference: f64,
    /// The token whose logit is wanted.
    pub(super) label: Option<usize>,
}

impl Sums {
    pub(super) fn new(label: Option<u32>) -> Self {
        let none = Softmax { max: f32::NEG_INFINITY, top: 0, sum: 0.0, label: 0.0 };
        let label = label.map(|label| label as usize);
        Self { student: none, teacher: none, difference: 0.0, label }
    }

    /// The loss, if there is a teacher or a label.
    pub(super) fn loss(&self, with_teacher: bool) -> Option<RowLoss> {
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

/// Adds a piece of a row, whose first token is `first`.
pub(super) struct Add<'a> {
    pub(super) sums: &'a mut Sums,
    pub(super) student: &'a [f32],
    pub(super) teacher: &'a [f32],
    pub(super) first: usize,
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
pub(super) struct AddOne<'a> {
    pub(super) sums: &'a mut Sums,
    pub(super) student: &'a [f32],
    pub(super) first: usize,
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
pub(super) struct Difference<'a> {
    pub(super) sums: &'a Sums,
    pub(super) student: &'a [f32],
    pub(super) teacher: &'a [f32],
    pub(super) scale: f64,
    pub(super) out: &'a mut [f32],
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
pub(super) struct Probabilities<'a> {
    pub(super) sums: &'a Sums,
    pub(super) student: &'a [f32],
    pub(super) scale: f64,
    pub(super) out: &'a mut [f32],
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
    let max = largest(logits);
    if max > softmax.max {
        let factor = f64::from(exp(softmax.max - max));
        softmax.max = max;
        softmax.top = first + logits.iter().position(|x| *x == max).unwrap_or(0);
        factor
    } else {
        1.0
    }
}
