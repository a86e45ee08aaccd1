//! The exponential function in single precision, in a form that compilers vectorise.

/// Adding it rounds to a whole number, which is then in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// Below this the result is 0, above it the largest that is finite.
const LEAST: f32 = -87.0;
const MOST: f32 = 88.0;

/// `exp(x)` to within two units in the last place between −87 and 88, 0 below; a value that
/// is not a number stays one. The same bits on every machine: no library and no fused
/// operation is involved.
#[allow(clippy::inline_always, reason = "loops around it are compiled for several machines")]
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Comparisons that are false for what is not a number let it pass.
    let bounded = if x < LEAST { LEAST } else { x };
    let bounded = if bounded > MOST { MOST } else { bounded };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few enough bits that the product is exact.
    let r = bounded - n * 0.693_359_4 - n * -2.121_944_4e-4;
    // Cephes' polynomial for |r| ≤ ln 2 / 2.
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let y = y * f32::from_bits(exponent);
    if x < LEAST { 0.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn it_is_the_exponential_to_two_units_in_the_last_place() {
        let mut worst = 0.0_f64;
        for i in 0..2_000_000 {
            let x = (f64::from(i) / 2_000_000.0 * 174.9 - 86.99) as f32;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2.4e-7, "{worst}");
    }

    #[test]
    fn what_is_too_small_gives_nothing_and_what_is_no_number_stays_so() {
        assert_eq!((exp(f32::NEG_INFINITY), exp(-1e9), exp(-87.5)), (0.0, 0.0, 0.0));
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::INFINITY).is_finite());
    }
}
