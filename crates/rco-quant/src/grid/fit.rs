//! The scale and zero point of a group.

use rco_formats::compressed_tensors::Scheme;
use rco_model::weights::FloatType;
use rco_model::{Loop, vectorised};

/// How groups are fitted.
#[derive(Debug, Clone, Copy)]
pub struct Fit {
    /// The grid.
    pub scheme: Scheme,
    /// The type in which scales are stored, and which values have.
    pub float: FloatType,
    /// Scales of symmetric grids may be negative: the side with one code more then goes where
    /// the larger weights are.
    pub signed: bool,
}

/// Scale and zero point of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The scale, as it is stored.
    pub scale: f32,
    /// The zero point, a code.
    pub zero: i32,
}

/// Added and taken away it leaves the nearest integer, halves to even, of numbers below 2²²:
/// what every machine does in one addition.
const INTEGERS: f32 = 12_582_912.0;

/// Sizes of the range that are tried, as shares of what holds all weights.
const SHARES: &[f32] = &[
    1.0, 0.975, 0.95, 0.925, 0.9, 0.875, 0.85, 0.825, 0.8, 0.775, 0.75, 0.725, 0.7, 0.675, 0.65,
    0.6, 0.55, 0.5, 0.45, 0.4,
];
/// The same for many codes, of which none are wasted on the widest weights.
const FINE_SHARES: &[f32] = &[1.0, 0.996, 0.99, 0.98, 0.97, 0.96, 0.94, 0.92];
/// Times that the scale is fitted to the codes by least squares.
const REFITS: u32 = 2;

/// The nearest integer that is held by the range. Comparisons that are one instruction each.
#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
pub(super) fn nearest(steps: f32, low: f32, high: f32) -> f32 {
    let held = if steps < low { low } else { steps };
    let held = if held > high { high } else { held };
    (held + INTEGERS) - INTEGERS
}

impl Step {
    /// The code of a weight.
    pub fn code(self, weight: f32, (least, most): (i32, i32)) -> i32 {
        let zero = self.zero as f32;
        let steps = nearest(weight / self.scale, least as f32 - zero, most as f32 - zero);
        (steps + zero) as i32
    }
}

impl Fit {
    /// What a runtime makes of a code.
    pub fn value(&self, step: Step, code: i32) -> f32 {
        self.float.round((code - step.zero) as f32 * step.scale)
    }

    /// Shares of the range worth trying: the more codes, the less is gained by cutting
    /// weights off.
    fn shares(&self) -> &'static [f32] {
        match self.scheme.bits() {
            0..=2 => SHARES,
            3 => &SHARES[..17],
            4 => &SHARES[..14],
            5 => &SHARES[..9],
            _ => FINE_SHARES,
        }
    }

    /// The step under which the squared error of `weights`, each times its `importance`, is
    /// smallest among ranges of several sizes, the scale then fitted to the codes.
    pub fn step(&self, weights: &[f32], importance: &[f32]) -> Step {
        let eights = weights.as_chunks::<EIGHT>().0;
        let (low, high) = vectorised(Range { eights });
        let none = Step { scale: 1.0, zero: 0 };
        if low == high {
            return none;
        }
        let mut candidates = [none; 2 * SHARES.len()];
        let candidates = self.candidates(low, high, &mut candidates);
        let search = Search { fit: self, candidates, weights, importance };
        // `None`: weights so small that no scale of theirs can be stored.
        vectorised(search).unwrap_or(none)
    }

    /// Fills in the steps that are tried, those that can be stored.
    fn candidates<'a>(&self, low: f32, high: f32, out: &'a mut [Step]) -> &'a [Step] {
        let (least, most) = self.scheme.range();
        let mut count = 0;
        let mut add = |scale: f32, zero: i32| {
            let scale = self.float.round(scale);
            let fits = scale.is_finite() && scale != 0.0 && (high - low) / scale.abs() <= 1e6;
            if fits && let Some(free) = out.get_mut(count) {
                *free = Step { scale, zero };
                count += 1;
            }
        };
        if self.scheme.symmetric() {
            // All weights are held by `least · s` on the one side and `most · s` on the other.
            let widest = |sign: f32| {
                let (a, b) = if sign > 0.0 { (low, high) } else { (-high, -low) };
                (a / least as f32).max(b / most.max(1) as f32)
            };
            let (positive, negative) = (widest(1.0), -widest(-1.0));
            for &share in self.shares() {
                add(positive * share, 0);
                if self.signed {
                    add(negative * share, 0);
                }
            }
        } else {
            for &share in self.shares() {
                let scale = self.float.round((high - low) * share / (most - least) as f32);
                if scale > 0.0 {
                    let zero = least - (low * share / scale).round_ties_even() as i32;
                    add(scale, zero.clamp(least, most));
                }
            }
        }
        &out[..count]
    }
}

/// Values that are added up side by side; groups are whole eights.
const EIGHT: usize = 8;
/// Terms of a sum that are computed before they are added up: in one loop with the sums the
/// compiler would gather every eighth weight at a time.
const TERMS: usize = 64;

/// The least and the largest of weights and 0.
struct Range<'a> {
    eights: &'a [[f32; EIGHT]],
}

impl Loop for Range<'_> {
    type Output = (f32, f32);

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) -> (f32, f32) {
        let (mut low, mut high) = ([0.0_f32; EIGHT], [0.0_f32; EIGHT]);
        for w in self.eights {
            for n in 0..EIGHT {
                low[n] = if w[n] < low[n] { w[n] } else { low[n] };
                high[n] = if w[n] > high[n] { w[n] } else { high[n] };
            }
        }
        (low.into_iter().fold(0.0, f32::min), high.into_iter().fold(0.0, f32::max))
    }
}

/// The best of some steps for a group, its scale then fitted to the codes.
struct Search<'a> {
    fit: &'a Fit,
    candidates: &'a [Step],
    weights: &'a [f32],
    importance: &'a [f32],
}

impl Loop for Search<'_> {
    type Output = Option<Step>;

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) -> Option<Step> {
        let mut best = (f64::INFINITY, None);
        for &step in self.candidates {
            let error = self.error(step);
            if error < best.0 {
                best = (error, Some(step));
            }
        }
        for _ in 0..REFITS {
            let (before, Some(step)) = best else { break };
            let refitted =
                Step { scale: self.fit.float.round(self.least_squares(step)), zero: step.zero };
            if !refitted.scale.is_finite() || refitted.scale == 0.0 {
                break;
            }
            let error = self.error(refitted);
            if error >= before {
                break;
            }
            best = (error, Some(refitted));
        }
        best.1
    }
}

impl Search<'_> {
    /// The steps of a scale between which codes lie.
    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn ends(&self, step: Step) -> (f32, f32) {
        let (least, most) = self.fit.scheme.range();
        ((least - step.zero) as f32, (most - step.zero) as f32)
    }

    /// `Σ importance · (value − weight)²`.
    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn error(&self, step: Step) -> f64 {
        let (low, high) = self.ends(step);
        let inverse = 1.0 / step.scale;
        let mut lanes = [0.0_f32; EIGHT];
        let mut terms = [0.0_f32; TERMS];
        for (weights, importance) in self.weights.chunks(TERMS).zip(self.importance.chunks(TERMS)) {
            for ((term, &w), &h) in terms.iter_mut().zip(weights).zip(importance) {
                let error = nearest(w * inverse, low, high) * step.scale - w;
                *term = h * error * error;
            }
            for terms in terms[..weights.len()].as_chunks::<EIGHT>().0 {
                for n in 0..EIGHT {
                    lanes[n] += terms[n];
                }
            }
        }
        lanes.iter().map(|&x| f64::from(x)).sum()
    }

    /// The scale that fits the codes of a step best.
    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn least_squares(&self, step: Step) -> f32 {
        let (low, high) = self.ends(step);
        let inverse = 1.0 / step.scale;
        let (mut dot, mut square) = (0.0_f64, 0.0_f64);
        for (&w, &h) in self.weights.iter().zip(self.importance) {
            let steps = nearest(w * inverse, low, high);
            dot += f64::from(h * w * steps);
            square += f64::from(h * steps * steps);
        }
        if square > 0.0 { (dot / square) as f32 } else { step.scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rco_core::rng::{Purpose, stream};

    fn fit(scheme: &str, signed: bool) -> Fit {
        Fit { scheme: scheme.parse().unwrap(), float: FloatType::F32, signed }
    }

    fn error(fit: &Fit, step: Step, weights: &[f32]) -> f64 {
        let range = fit.scheme.range();
        let difference = |&w: &f32| f64::from(fit.value(step, step.code(w, range)) - w);
        weights.iter().map(|w| difference(w).powi(2)).sum()
    }

    #[test]
    fn fitted_steps_are_no_worse_than_ranges_that_hold_everything() {
        let mut random = stream(1, Purpose::Draw, 0);
        let ones = vec![1.0; 64];
        for scheme in ["2g64", "3g64", "4g64", "8g64", "2g64z", "3g64z", "4g64z", "8g64z"] {
            for signed in [false, true] {
                let fit = fit(scheme, signed);
                let (mut found, mut expected) = (0.0, 0.0);
                for _ in 0..50 {
                    let normal = |_| {
                        (0..12).map(|_| random.uniform() - 0.5).sum::<f64>() as f32 * 0.02 + 0.005
                    };
                    let weights: Vec<f32> = (0..64).map(normal).collect();
                    let (least, most) = fit.scheme.range();
                    let low = weights.iter().fold(0.0_f32, |m, &w| m.min(w));
                    let high = weights.iter().fold(0.0_f32, |m, &w| m.max(w));
                    let plain = if fit.scheme.symmetric() {
                        Step { scale: low.abs().max(high) / ((most - least) as f32 / 2.0), zero: 0 }
                    } else {
                        let scale = (high - low) / (most - least) as f32;
                        Step { scale, zero: least - (low / scale).round() as i32 }
                    };
                    found += error(&fit, fit.step(&weights, &ones), &weights);
                    expected += error(&fit, plain, &weights);
                }
                assert!(found < expected, "{scheme}: {found} {expected}");
            }
        }
    }

    #[test]
    fn weights_on_a_grid_are_met_exactly() {
        for scheme in ["3g32", "4g32z"] {
            let fit = fit(scheme, true);
            let (least, most) = fit.scheme.range();
            let weights: Vec<f32> =
                (0..32).map(|n| (least + n % (most - least + 1)) as f32 * 0.25).collect();
            let step = fit.step(&weights, &[1.0; 32]);
            assert!(error(&fit, step, &weights) < 1e-10, "{scheme} {step:?}");
        }
    }

    #[test]
    fn groups_of_zeros_and_of_the_smallest_numbers_have_a_step() {
        for weights in [vec![0.0; 32], vec![1e-30; 32], vec![f32::MIN_POSITIVE / 4.0; 32]] {
            for scheme in ["2g32", "4g32z"] {
                let fit = Fit { float: FloatType::F16, ..fit(scheme, true) };
                let step = fit.step(&weights, &[1.0; 32]);
                let code = step.code(weights[0], fit.scheme.range());
                assert!(step.scale.is_finite() && step.scale != 0.0);
                assert!(fit.value(step, code).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_negative_scale_puts_the_longer_side_where_the_weights_are() {
        let mut weights = vec![0.01; 32];
        weights[3] = 2.0;
        weights[9] = 1.0;
        let with = fit("2g32", true);
        let without = fit("2g32", false);
        let step = with.step(&weights, &[1.0; 32]);
        assert!(step.scale < 0.0);
        let plain = without.step(&weights, &[1.0; 32]);
        assert!(plain.scale > 0.0);
        assert!(error(&with, step, &weights) < 0.5 * error(&without, plain, &weights));
    }
}
