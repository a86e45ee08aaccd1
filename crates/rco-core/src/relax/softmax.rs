//! Softmax over decisions of different length.

/// `p_i = softmax(z_i)` for every decision: `offsets` are the boundaries of the
/// decisions in the flat order. Any finite logits are fine: the largest of each
/// decision is subtracted first.
///
/// # Panics
/// If `logits` and `probs` differ in length from the last offset.
pub fn softmax(offsets: &[usize], logits: &[f64], probs: &mut [f64]) {
    for w in offsets.windows(2) {
        let (z, p) = (&logits[w[0]..w[1]], &mut probs[w[0]..w[1]]);
        let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for (p, z) in p.iter_mut().zip(z) {
            *p = (z - top).exp();
            sum += *p;
        }
        for p in p {
            *p /= sum;
        }
    }
}

/// Adds `factor · p_ik (g_ik − Σ_l p_il g_il)` to `out`: the gradient with respect to
/// the logits of a function whose gradient with respect to the probabilities is `g`.
///
/// # Panics
/// If a list differs in length from the last offset.
pub fn softmax_backward(
    offsets: &[usize],
    probs: &[f64],
    gradient: &[f64],
    factor: f64,
    out: &mut [f64],
) {
    for w in offsets.windows(2) {
        let (p, g) = (&probs[w[0]..w[1]], &gradient[w[0]..w[1]]);
        let mean: f64 = p.iter().zip(g).map(|(p, g)| p * g).sum();
        for ((out, p), g) in out[w[0]..w[1]].iter_mut().zip(p).zip(g) {
            *out += factor * p * (g - mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAGGED: [usize; 4] = [0, 1, 4, 6];

    #[test]
    fn sums_to_one_in_every_decision_at_extreme_logits() {
        let logits = [1e9, -500.0, 500.0, 499.0, -1e300, 1e300];
        let mut probs = [0.0; 6];
        softmax(&RAGGED, &logits, &mut probs);
        assert_eq!(probs[0], 1.0);
        assert!((probs[1..4].iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert!((probs[2] / probs[3] - std::f64::consts::E).abs() < 1e-12);
        assert_eq!(&probs[4..], &[0.0, 1.0]);
    }

    #[test]
    fn backward_is_the_derivative_of_a_linear_function_of_probabilities() {
        let logits = [0.3, -1.0, 0.5, 2.0, 0.1, -0.2];
        let gradient = [3.0, 1.0, -2.0, 0.5, 4.0, -1.0];
        let value = |z: &[f64]| {
            let mut p = [0.0; 6];
            softmax(&RAGGED, z, &mut p);
            p.iter().zip(&gradient).map(|(p, g)| p * g).sum::<f64>()
        };
        let mut probs = [0.0; 6];
        softmax(&RAGGED, &logits, &mut probs);
        let mut out = [0.0; 6];
        softmax_backward(&RAGGED, &probs, &gradient, 2.0, &mut out);
        for k in 0..6 {
            let (mut up, mut down) = (logits, logits);
            up[k] += 1e-5;
            down[k] -= 1e-5;
            let numeric = (value(&up) - value(&down)) / 2e-5;
            assert!((out[k] - 2.0 * numeric).abs() < 1e-9, "entry {k}");
        }
    }
}
