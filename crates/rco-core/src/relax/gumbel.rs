//! Gumbel noise, plain and antithetic.

use crate::rng::{self, Purpose};

/// Standard Gumbel variate from a uniform one: `−ln(−ln u)` for `0 < u < 1`.
pub fn gumbel(u: f64) -> f64 {
    -(-u.ln()).ln()
}

/// Writes `logits + G` for the Gumbel noise number `index` of a run with `seed`.
///
/// `mirrored` takes `1 − u` in place of every uniform `u`: the antithetic partner. It
/// has to be taken before the double logarithm, since `−G` has another distribution
/// than `G`.
///
/// # Panics
/// If `logits` and `out` differ in length.
pub fn add_gumbel(seed: u64, index: u64, mirrored: bool, logits: &[f64], out: &mut [f64]) {
    assert_eq!(logits.len(), out.len());
    let mut stream = rng::stream(seed, Purpose::Gumbel, index);
    for (out, z) in out.iter_mut().zip(logits) {
        let u = stream.uniform();
        // Exact: uniforms are odd multiples of 2⁻⁵³.
        let u = if mirrored { 1.0 - u } else { u };
        *out = z + gumbel(u);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kolmogorov-Smirnov distance from the standard Gumbel distribution.
    fn distance(sample: &mut [f64]) -> f64 {
        sample.sort_by(f64::total_cmp);
        let n = sample.len() as f64;
        let mut worst = 0.0_f64;
        for (i, x) in sample.iter().enumerate() {
            let cdf = (-(-x).exp()).exp();
            worst = worst.max((cdf - i as f64 / n).abs()).max((cdf - (i + 1) as f64 / n).abs());
        }
        worst
    }

    fn noise(mirrored: bool) -> Vec<f64> {
        let mut out = vec![0.0; 40_000];
        add_gumbel(7, 3, mirrored, &vec![0.0; 40_000], &mut out);
        out
    }

    /// Critical distance at a level of about 1e-6: sqrt(-ln(1e-6 / 2) / 2n).
    const CRITICAL: f64 = 0.0135;

    #[test]
    fn both_halves_of_an_antithetic_pair_are_gumbel() {
        assert!(distance(&mut noise(false)) < CRITICAL);
        assert!(distance(&mut noise(true)) < CRITICAL);
    }

    #[test]
    fn negated_noise_is_not_gumbel_so_the_test_can_tell() {
        let mut negated: Vec<f64> = noise(false).iter().map(|g| -g).collect();
        assert!(distance(&mut negated) > 10.0 * CRITICAL);
    }

    #[test]
    fn antithetic_halves_are_negatively_correlated() {
        let (a, b) = (noise(false), noise(true));
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (ma, mb) = (mean(&a), mean(&b));
        let product: f64 = a.iter().zip(&b).map(|(x, y)| (x - ma) * (y - mb)).sum();
        let norm = |v: &[f64], m: f64| v.iter().map(|x| (x - m).powi(2)).sum::<f64>().sqrt();
        assert!(product / (norm(&a, ma) * norm(&b, mb)) < -0.8);
    }

    #[test]
    fn the_ends_of_the_uniform_range_give_finite_noise() {
        let smallest = 0.5 / (1_u64 << 52) as f64;
        assert!(gumbel(smallest).is_finite());
        assert!(gumbel(1.0 - smallest).is_finite());
    }
}
