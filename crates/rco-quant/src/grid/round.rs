//! Rounding to the nearest.

use rayon::prelude::*;

use super::error::GridError;
use super::fit::{Fit, Step};
use super::quantised::{Quantised, check};

/// Rounds every weight to the nearest value of its group's grid; `importance` of the columns
/// weighs errors where grids are fitted.
///
/// # Errors
/// [`GridError::Size`], or [`GridError::Weight`] for a weight that is not finite.
pub fn round_to_nearest(
    weights: &[f32],
    rows: usize,
    columns: usize,
    importance: &[f32],
    fit: &Fit,
) -> Result<Quantised, GridError> {
    let (group, range) = (fit.scheme.group(), fit.scheme.range());
    check(weights, rows, columns, group)?;
    if importance.len() != columns {
        let (expected, found) = (columns, importance.len());
        return Err(GridError::Size { what: "importances", expected, found });
    }
    let groups = columns / group;
    let mut codes = vec![0_i8; weights.len()];
    let mut steps = vec![Step { scale: 1.0, zero: 0 }; rows * groups];
    codes
        .par_chunks_mut(columns)
        .zip(steps.par_chunks_mut(groups))
        .zip(weights.par_chunks(columns))
        .for_each(|((codes, steps), weights)| {
            let importance = importance.chunks_exact(group);
            let parts = codes.chunks_exact_mut(group).zip(weights.chunks_exact(group));
            for ((step, (codes, weights)), importance) in
                steps.iter_mut().zip(parts).zip(importance)
            {
                *step = fit.step(weights, importance);
                for (code, &w) in codes.iter_mut().zip(weights) {
                    *code = step.code(w, range) as i8;
                }
            }
        });
    Ok(Quantised { rows, columns, codes, steps, error: None })
}
