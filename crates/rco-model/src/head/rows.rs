//! Loss and gradient of one row of logits.
//!
//! Exponentials are taken in the type of the logits, sums in f64. Loops go through sixteen
//! sums side by side, which the compiler turns into vector instructions.

use crate::ops::{Loop, exp, vectorised};

/// Sums side by side.
const LANES: usize = 16;

/// A floating-point type of logits.
pub(super) trait Real: Copy + Send + Sync + Default + PartialOrd {
    const LEAST: Self;
    fn to_f64(self) -> f64;
    fn from_f64(x: f64) -> Self;
    /// `exp(self − shift)` for a result of at most 1.
    fn exp_minus(self, shift: Self) -> f64;
}

impl Real for f32 {
    const LEAST: Self = Self::NEG_INFINITY;
    #[allow(clippy::inline_always, reason = "loops around it are compiled for several machines")]
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[allow(clippy::inline_always, reason = "loops around it are compiled for several machines")]
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as Self
    }
    #[allow(clippy::inline_always, reason = "loops around it are compiled for several machines")]
    #[inline(always)]
    fn exp_minus(self, shift: Self) -> f64 {
        f64::from(exp(self - shift))
    }
}

impl Real for f64 {
    const LEAST: Self = Self::NEG_INFINITY;
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(x: f64) -> Self {
        x
    }
    fn exp_minus(self, shift: Self) -> f64 {
        (self - shift).exp()
    }
}

/// Softmax of a row, as far as it is needed.
struct Softmax<T> {
    top: usize,
    max: T,
    sum: f64,
    log_sum: f64,
}

impl<T: Real> Softmax<T> {
    #[allow(clippy::inline_always, reason = "callers compile it for several machines")]
    #[inline(always)]
    fn of(logits: &[T]) -> Self {
        let (chunks, rest) = logits.as_chunks::<LANES>();
        let mut lanes = [T::LEAST; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
            }
        }
        let larger = |a: T, b: T| if b > a { b } else { a };
        let max = lanes.iter().chain(rest).copied().fold(T::LEAST, larger);
        let top = logits.iter().position(|x| *x == max).unwrap_or(0);
        let mut sums = [0.0; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                sums[i] += chunk[i].exp_minus(max);
            }
        }
        let rest: f64 = rest.iter().map(|x| x.exp_minus(max)).sum();
        let sum = sums.iter().sum::<f64>() + rest;
        Self { top, max, sum, log_sum: max.to_f64() + sum.ln() }
    }

    #[allow(clippy::inline_always, reason = "callers compile it for several machines")]
    #[inline(always)]
    fn prob(&self, x: T) -> f64 {
        x.exp_minus(self.max) / self.sum
    }

    fn nll(&self, logits: &[T], label: Option<u32>) -> Option<f64> {
        label.map(|label| self.log_sum - logits[label as usize].to_f64())
    }
}

/// Values of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RowLoss {
    pub(super) loss: f64,
    pub(super) nll: Option<f64>,
    pub(super) teacher_nll: Option<f64>,
    pub(super) same_top: Option<bool>,
}

/// KL(teacher ‖ student); its gradient at the student's logits times `scale`, if asked for:
/// `(softmax(student) − softmax(teacher)) · scale`.
pub(super) fn kl_row<T: Real>(
    student: &[T],
    teacher: &[T],
    label: Option<u32>,
    gradient: Option<(&mut [T], f64)>,
) -> RowLoss {
    let (s, t, loss) = vectorised(Kl { student, teacher, gradient });
    RowLoss {
        loss,
        nll: s.nll(student, label),
        teacher_nll: t.nll(teacher, label),
        same_top: Some(s.top == t.top),
    }
}

/// Both softmaxes, the divergence, and the gradient.
struct Kl<'a, T> {
    student: &'a [T],
    teacher: &'a [T],
    gradient: Option<(&'a mut [T], f64)>,
}

impl<T: Real> Loop for Kl<'_, T> {
    type Output = (Softmax<T>, Softmax<T>, f64);

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) -> Self::Output {
        let Self { student, teacher, gradient } = self;
        let (s, t) = (Softmax::of(student), Softmax::of(teacher));
        let loss = divergence(student, teacher, &s, &t);
        if let Some((gradient, scale)) = gradient {
            let (of_student, of_teacher) = (scale / s.sum, scale / t.sum);
            for ((g, &x), &y) in gradient.iter_mut().zip(student).zip(teacher) {
                let (p, q) = (x.exp_minus(s.max), y.exp_minus(t.max));
                *g = T::from_f64(p * of_student - q * of_teacher);
            }
        }
        (s, t, loss)
    }
}

/// `Σ p (ln p − ln q)` for the probabilities `p` of the teacher and `q` of the student.
#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
fn divergence<T: Real>(student: &[T], teacher: &[T], s: &Softmax<T>, t: &Softmax<T>) -> f64 {
    let (shift, inverse) = (t.log_sum - s.log_sum, 1.0 / t.sum);
    let term = |x: T, y: T| {
        let p = y.exp_minus(t.max);
        // A token that the teacher rules out adds nothing, whatever its difference is.
        if p > 0.0 { p * (y.to_f64() - x.to_f64() - shift) } else { 0.0 }
    };
    let ((x, x_rest), (y, y_rest)) = (student.as_chunks::<LANES>(), teacher.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            sums[i] += term(x[i], y[i]);
        }
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(&x, &y)| term(x, y)).sum();
    (sums.iter().sum::<f64>() + rest) * inverse
}

/// Cross-entropy of `label`; its gradient at the logits times `scale`, if asked for:
/// `(softmax(student) − one-hot) · scale`.
pub(super) fn cross_entropy_row<T: Real>(
    student: &[T],
    label: u32,
    gradient: Option<(&mut [T], f64)>,
) -> RowLoss {
    let s = vectorised(CrossEntropy { student, label, gradient });
    let nll = s.log_sum - student[label as usize].to_f64();
    RowLoss { loss: nll, nll: Some(nll), teacher_nll: None, same_top: None }
}

/// The softmax and the gradient.
struct CrossEntropy<'a, T> {
    student: &'a [T],
    label: u32,
    gradient: Option<(&'a mut [T], f64)>,
}

impl<T: Real> Loop for CrossEntropy<'_, T> {
    type Output = Softmax<T>;

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) -> Softmax<T> {
        let s = Softmax::of(self.student);
        if let Some((gradient, scale)) = self.gradient {
            let factor = scale / s.sum;
            for (g, &x) in gradient.iter_mut().zip(self.student) {
                *g = T::from_f64(x.exp_minus(s.max) * factor);
            }
            let at = self.label as usize;
            gradient[at] = T::from_f64((s.prob(self.student[at]) - 1.0) * scale);
        }
        s
    }
}

/// A softmax by itself.
struct OneSoftmax<'a, T>(&'a [T]);

impl<T: Real> Loop for OneSoftmax<'_, T> {
    type Output = Softmax<T>;

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) -> Softmax<T> {
        Softmax::of(self.0)
    }
}

/// The token that `uniform` in `0..1` draws from the distribution of a row: the first at
/// which the sum of the probabilities exceeds it.
pub(super) fn drawn_label<T: Real>(logits: &[T], uniform: f64) -> u32 {
    let s = vectorised(OneSoftmax(logits));
    let mut sum = 0.0;
    for (label, &x) in (0_u32..).zip(logits) {
        sum += s.prob(x);
        if sum > uniform {
            return label;
        }
    }
    // Rounding has left the sum below 1, and the number was above it.
    s.top as u32
}

#[cfg(test)]
mod tests {
    use super::{cross_entropy_row, drawn_label, kl_row};

    const STUDENT: [f64; 4] = [0.5, -1.0, 2.0, 0.25];
    const TEACHER: [f64; 4] = [1.5, 0.5, -0.5, 0.0];

    fn check(loss: impl Fn(&[f64]) -> f64, gradient: &[f64]) {
        for i in 0..4 {
            let shifted = |h: f64| {
                let mut logits = STUDENT;
                logits[i] += h;
                loss(&logits)
            };
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((numeric * 3.0 - gradient[i]).abs() < 1e-9);
        }
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        let mut g = [0.0; 4];
        kl_row(&STUDENT, &TEACHER, None, Some((&mut g, 3.0)));
        check(|s| kl_row(s, &TEACHER, None, None).loss, &g);
        cross_entropy_row(&STUDENT, 2, Some((&mut g, 3.0)));
        check(|s| cross_entropy_row(s, 2, None).loss, &g);
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        // Probabilities 1/8, 1/8, 1/4, 1/2.
        let logits = [0.0, 0.0, 2.0_f64.ln(), 4.0_f64.ln()];
        let mut counts = [0; 4];
        for i in 0..800 {
            counts[drawn_label(&logits, (f64::from(i) + 0.5) / 800.0) as usize] += 1;
        }
        assert_eq!(counts, [100, 100, 200, 400]);
        assert_eq!(drawn_label(&logits, 1.0), 3);
    }

    #[test]
    fn a_model_compared_with_itself_has_no_divergence_at_all() {
        let row: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        let loss = kl_row(&row, &row, Some(3), None);
        assert_eq!(loss.loss, 0.0);
        assert_eq!(loss.same_top, Some(true));
        assert_eq!(loss.nll, loss.teacher_nll);
    }

    #[test]
    fn a_constant_added_to_all_logits_changes_nothing() {
        let shifted = STUDENT.map(|x| x + 1000.0);
        let (a, b) =
            (kl_row(&STUDENT, &TEACHER, None, None), kl_row(&shifted, &TEACHER, None, None));
        assert!((a.loss - b.loss).abs() < 1e-12);
    }
}
