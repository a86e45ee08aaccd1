//! Importance that ggml's encoders survive.

use crate::GgmlError;

/// The shortest run of columns that shares a scale in some type.
const GROUP: usize = 16;
/// Weights below this share of the largest count as none.
const NEGLIGIBLE: f32 = 1e-12;
/// What columns without any weight get: this share of the mean weight.
const FLOOR: f32 = 1e-3;

/// Checks the importance of a matrix, one weight for each column, and makes it safe.
///
/// Where all weights of a run are zero ggml divides 0 by 0: some types end the process
/// there, the others write blocks that decode to zeros. So
/// - all weights are scaled by a power of two until the largest lies in 1..2, which changes
///   no bit of the result but keeps sums in range;
/// - a run of 16 columns without a weight above 1e-12 of the largest gets 1e-3 of the mean
///   weight: it is encoded as well as can be and hardly counts against its neighbours;
/// - if no column has a weight, all count the same.
///
/// # Errors
/// [`GgmlError::BadImportance`] for a weight that is negative or not finite.
pub(crate) fn safe(weights: &[f32]) -> Result<Vec<f32>, GgmlError> {
    if let Some(column) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        return Err(GgmlError::BadImportance { column, value: weights[column] });
    }
    let largest = weights.iter().copied().fold(0.0, f32::max);
    if largest == 0.0 {
        return Ok(vec![1.0; weights.len()]);
    }
    let scale = 2.0_f64.powi(-(f64::from(largest).log2().floor() as i32));
    let mut weights: Vec<f32> = weights.iter().map(|&w| (f64::from(w) * scale) as f32).collect();
    let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
    let floor = mean as f32 * FLOOR;
    for run in weights.chunks_mut(GROUP) {
        if run.iter().all(|&w| w < NEGLIGIBLE) {
            run.fill(floor);
        }
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_in_use_are_only_scaled_by_a_power_of_two() {
        let weights: Vec<f32> = (0..64).map(|i| if i % 5 == 0 { 0.0 } else { i as f32 }).collect();
        let safe = safe(&weights).unwrap_or_default();
        for (found, given) in safe.iter().zip(&weights) {
            assert_eq!(*found, given / 32.0);
        }
    }

    #[test]
    fn the_encoders_write_the_same_bytes_with_scaled_weights() {
        let values: Vec<f32> = (0..1024).map(|i| ((i * 37 % 101) as f32 - 50.0) / 30.0).collect();
        let weights: Vec<f32> = (0..256).map(|i| 1e4 + (i * 29 % 83) as f32 * 700.0).collect();
        let scaled = safe(&weights).unwrap_or_default();
        assert_ne!(weights, scaled);
        let slow = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ1_M"];
        for ty in crate::ffi::ENCODERS {
            let Some(layout) = ty.layout().filter(|layout| !slow.contains(&layout.name)) else {
                continue;
            };
            let bytes = 1024 / layout.block as usize * layout.bytes as usize;
            let (mut with, mut without) = (vec![0; bytes], vec![1; bytes]);
            assert!(crate::ffi::encode(ty, &values, 256, Some(&scaled), &mut with));
            assert!(crate::ffi::encode(ty, &values, 256, Some(&weights), &mut without));
            assert!(with == without, "{ty}");
        }
    }

    #[test]
    fn runs_without_weight_get_little_and_nothing_at_all_means_the_same_for_all() {
        let mut weights = vec![4.0; 16];
        weights.extend([0.0; 16]);
        weights.extend([1e-20; 16]);
        let safe_weights = safe(&weights).unwrap_or_default();
        assert_eq!(safe_weights[..16], [1.0; 16]);
        assert!(safe_weights[16..].iter().all(|&w| w > 1e-4 && w < 1e-3));
        assert_eq!(safe(&[0.0; 40]).ok(), Some(vec![1.0; 40]));
        let tiny = f32::from_bits(1);
        assert_eq!(safe(&[tiny; 32]).ok(), Some(vec![1.0; 32]));
        assert_eq!(safe(&[f32::MAX; 2]).ok(), Some(vec![2.0_f32.next_down(); 2]));
    }

    #[test]
    fn weights_that_cannot_be_are_refused() {
        for value in [f32::NAN, f32::INFINITY, -1.0] {
            let error = safe(&[1.0, value]).err();
            assert!(matches!(error, Some(GgmlError::BadImportance { column: 1, .. })));
        }
    }
}
