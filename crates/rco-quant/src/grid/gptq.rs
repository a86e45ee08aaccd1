//! GPTQ in blocks of columns.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use rco_model::{Loop, vectorised};

use super::error::GridError;
use super::factor::Factor;
use super::fit::{Fit, Step, nearest};
use super::quantised::{Quantised, TASK_ROWS, check};

/// Columns whose errors are collected before they are passed on to all columns behind them; a
/// multiple of every group size.
const BLOCK: usize = 128;

/// Rounds a matrix column by column; each error is made up for by the columns behind it, as
/// `factor` says. Rows do not depend on each other: each task takes a few of them through all
/// columns.
///
/// The sum of `((w − ŵ) / U_jj)²` over all columns, with the weight as it is by then, is the
/// squared error under the damped moments; what the damping adds is taken off again.
///
/// # Errors
/// [`GridError::Size`] for numbers that do not fit together, [`GridError::Weight`].
pub fn gptq(
    weights: &[f32],
    rows: usize,
    columns: usize,
    factor: &Factor,
    fit: &Fit,
) -> Result<Quantised, GridError> {
    let group = fit.scheme.group();
    check(weights, rows, columns, group)?;
    if factor.columns() != columns {
        let (expected, found) = (factor.columns(), columns);
        return Err(GridError::Size { what: "columns", expected, found });
    }
    let groups = columns / group;
    let mut codes = vec![0_i8; weights.len()];
    let mut steps = vec![Step { scale: 1.0, zero: 0 }; rows * groups];
    let errors: Vec<f64> = codes
        .par_chunks_mut(TASK_ROWS * columns)
        .zip(steps.par_chunks_mut(TASK_ROWS * groups))
        .zip(weights.par_chunks(TASK_ROWS * columns))
        .map(|((codes, steps), weights)| Task { columns, factor, fit, codes, steps, weights }.run())
        .collect();
    let error = Some(errors.iter().sum());
    Ok(Quantised { rows, columns, codes, steps, error })
}

/// Some rows of a matrix.
struct Task<'a> {
    columns: usize,
    factor: &'a Factor,
    fit: &'a Fit,
    codes: &'a mut [i8],
    steps: &'a mut [Step],
    weights: &'a [f32],
}

impl Task<'_> {
    /// Rounds the rows; gives their error.
    fn run(mut self) -> f64 {
        let n = self.columns;
        let order = self.factor.order();
        let groups = n / self.fit.scheme.group();
        // The rows as they become, columns in the order of rounding.
        let mut now = match order {
            None => self.weights.to_vec(),
            Some(order) => {
                self.fit_all();
                let rows = self.weights.chunks_exact(n);
                rows.flat_map(|row| order.iter().map(|&j| row[j as usize])).collect()
            }
        };
        let rows = now.len() / n;
        // What follows has the rows of the task side by side: column after column.
        let width = BLOCK.min(n);
        let (mut scales, mut zeros) = (vec![1.0; groups * rows], vec![0.0; groups * rows]);
        for (at, step) in self.steps.iter().enumerate() {
            scales[at % groups * rows + at / groups] = step.scale;
            zeros[at % groups * rows + at / groups] = step.zero as f32;
        }
        let (mut tile, mut passed) = (vec![0.0; width * rows], vec![0.0; width * rows]);
        let mut codes = vec![0; width * rows];
        let mut squares = vec![0.0; rows];
        for start in (0..n).step_by(BLOCK) {
            let width = BLOCK.min(n - start);
            for (r, row) in now.chunks_exact(n).enumerate() {
                for (lanes, &w) in tile.chunks_exact_mut(rows).zip(&row[start..start + width]) {
                    lanes[r] = w;
                }
            }
            let block = Block {
                start,
                rows,
                factor: self.factor,
                fit: self.fit,
                scales: &mut scales,
                zeros: &mut zeros,
                tile: &mut tile[..width * rows],
                passed: &mut passed[..width * rows],
                codes: &mut codes[..width * rows],
            };
            let sums = vectorised(block);
            squares.iter_mut().zip(&sums).for_each(|(all, sum)| *all += sum);
            for (place, lanes) in (start..start + width).zip(codes.chunks_exact(rows)) {
                let column = order.map_or(place, |order| order[place] as usize);
                for (row, &code) in self.codes.chunks_exact_mut(n).zip(lanes) {
                    row[column] = code;
                }
            }
            let behind = n - start - width;
            if behind == 0 {
                break;
            }
            let upper = self.factor.upper().submatrix(start, start + width, width, behind);
            let now = MatMut::from_row_major_slice_mut(&mut now, rows, n);
            matmul(
                now.subcols_mut(start + width, behind),
                Accum::Add,
                MatRef::from_column_major_slice(&passed[..width * rows], rows, width),
                upper,
                -1.0,
                Par::Seq,
            );
        }
        for (at, step) in self.steps.iter_mut().enumerate() {
            let at = at % groups * rows + at / groups;
            *step = Step { scale: scales[at], zero: zeros[at] as i32 };
        }
        squares.iter().sum::<f64>() - self.factor.lambda() * self.squared_distance()
    }

    /// Fits all groups to the weights as they are.
    fn fit_all(&mut self) {
        let group = self.fit.scheme.group();
        let groups = self.columns / group;
        let weighting = self.factor.weighting(self.fit.scheme.bits());
        for (n, (step, weights)) in
            self.steps.iter_mut().zip(self.weights.chunks_exact(group)).enumerate()
        {
            let first = n % groups * group;
            *step = self.fit.step(weights, &weighting[first..first + group]);
        }
    }

    /// `Σ (w − ŵ)²` over the columns that have input.
    fn squared_distance(&self) -> f64 {
        vectorised(Distance(self))
    }
}

struct Distance<'a>(&'a Task<'a>);

impl Loop for Distance<'_> {
    type Output = f64;

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) -> f64 {
        let task = self.0;
        let (n, group) = (task.columns, task.fit.scheme.group());
        let mut sums = vec![0.0; n];
        let mut values = vec![0.0; group];
        let parts = task.codes.chunks_exact(group).zip(task.weights.chunks_exact(group));
        for (at, ((codes, weights), step)) in parts.zip(task.steps.iter()).enumerate() {
            let zero = step.zero as f32;
            for (value, &code) in values.iter_mut().zip(codes) {
                *value = (f32::from(code) - zero) * step.scale;
            }
            task.fit.float.round_all(&mut values);
            let first = at * group % n;
            let sums = &mut sums[first..first + group];
            for ((sum, &value), &w) in sums.iter_mut().zip(&values).zip(weights) {
                let error = f64::from(w - value);
                *sum += error * error;
            }
        }
        let alive = sums.iter().enumerate().filter(|(column, _)| !task.factor.is_dead(*column));
        alive.map(|(_, sum)| sum).sum()
    }
}

/// A block of columns of a task, its rows side by side: column after column.
///
/// Their number is no constant on purpose: the compiler would unroll the loops over rows, and
/// gather from many columns at once instead.
struct Block<'a> {
    /// The place of the first column.
    start: usize,
    rows: usize,
    factor: &'a Factor,
    fit: &'a Fit,
    /// Of all groups of the rows.
    scales: &'a mut [f32],
    /// Of all groups of the rows: codes, as floats.
    zeros: &'a mut [f32],
    /// The weights as they have become, in the order of rounding.
    tile: &'a mut [f32],
    /// Takes the errors, divided by the diagonal.
    passed: &'a mut [f32],
    /// Takes the codes.
    codes: &'a mut [i8],
}

/// Rounds the columns; gives the sum of the squares of what is passed on, row by row.
impl Loop for Block<'_> {
    type Output = Vec<f64>;

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(mut self) -> Vec<f64> {
        let (least, most) = self.fit.scheme.range();
        let (least, most) = (least as f32, most as f32);
        let group = self.fit.scheme.group();
        let order = self.factor.order();
        let rows = self.rows;
        let width = self.tile.len() / rows;
        let mut squares = vec![0.0; rows];
        let mut values = vec![0.0; rows];
        for at in 0..width {
            let place = self.start + at;
            let column = order.map_or(place, |order| order[place] as usize);
            if order.is_none() && column.is_multiple_of(group) {
                self.fit_group(at, column);
            }
            let of_group = column / group * rows..(column / group + 1) * rows;
            let (scales, zeros) = (&self.scales[of_group.clone()], &self.zeros[of_group]);
            let (now, behind) = self.tile.split_at_mut((at + 1) * rows);
            let (now, codes) = (&now[at * rows..], &mut self.codes[at * rows..(at + 1) * rows]);
            let steps = now.iter().zip(scales).zip(zeros);
            for ((value, code), ((&w, &scale), &zero)) in values.iter_mut().zip(codes).zip(steps) {
                let steps = nearest(w / scale, least - zero, most - zero);
                let whole = (steps + zero) as i32;
                *code = whole as i8;
                *value = (whole as f32 - zero) * scale;
            }
            self.fit.float.round_all(&mut values);
            let upper = &self.factor.row(place)[..width - at];
            let errors = &mut self.passed[at * rows..(at + 1) * rows];
            for ((error, &w), &value) in errors.iter_mut().zip(now).zip(&values) {
                *error = (w - value) / upper[0];
            }
            if !self.factor.is_dead(column) {
                for (sum, &error) in squares.iter_mut().zip(errors.iter()) {
                    *sum += f64::from(error) * f64::from(error);
                }
            }
            for (weights, &u) in behind.chunks_exact_mut(rows).zip(&upper[1..]) {
                for (w, &error) in weights.iter_mut().zip(errors.iter()) {
                    *w -= error * u;
                }
            }
        }
        squares
    }
}

impl Block<'_> {
    /// Fits the group that begins at `column`, `at` places into the block, in each row.
    fn fit_group(&mut self, at: usize, column: usize) {
        let (group, rows) = (self.fit.scheme.group(), self.rows);
        let weighting = &self.factor.weighting(self.fit.scheme.bits())[column..column + group];
        let mut weights = vec![0.0; group];
        for r in 0..rows {
            for (w, lanes) in weights.iter_mut().zip(self.tile[at * rows..].chunks_exact(rows)) {
                *w = lanes[r];
            }
            let step = self.fit.step(&weights, weighting);
            self.scales[column / group * rows + r] = step.scale;
            self.zeros[column / group * rows + r] = step.zero as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::factor::FactorSettings;
    use super::super::factor::tests::{inputs, moments};
    use super::super::hessian::Hessian;
    use super::super::quantised::moment_error;
    use super::super::round::round_to_nearest;
    use super::*;
    use rco_model::weights::FloatType;

    fn fit(scheme: &str) -> Fit {
        Fit { scheme: scheme.parse().unwrap(), float: FloatType::Bf16, signed: true }
    }

    fn matrix(rows: usize, columns: usize) -> Vec<f32> {
        inputs(rows, columns, 99).iter().map(|x| x * 0.03).collect()
    }

    fn factor(hessian: &Hessian, act_order: bool) -> Factor {
        let settings = FactorSettings { act_order, ..FactorSettings::default() };
        Factor::new(hessian, &settings).unwrap()
    }

    /// The algorithm as the paper has it, one column at a time, in double precision, with the
    /// inverse of the moments of the columns that are left.
    fn oracle(
        weights: &[f32],
        columns: usize,
        hessian: &Hessian,
        lambda: f64,
        fit: &Fit,
    ) -> Vec<i8> {
        let (n, group, range) = (columns, fit.scheme.group(), fit.scheme.range());
        let mean = hessian.diagonal().iter().sum::<f64>() / n as f64;
        let mut codes = Vec::new();
        // Inverse of what is left, by Gauss and Jordan.
        let inverse_of = |from: usize| -> Vec<Vec<f64>> {
            let m = n - from;
            let damped = |i: usize, j: usize| {
                hessian.at(from + i, from + j) + if i == j { lambda } else { 0.0 }
            };
            let mut a: Vec<Vec<f64>> = (0..m)
                .map(|i| {
                    let unit = (0..m).map(|j| if i == j { 1.0 } else { 0.0 });
                    (0..m).map(|j| damped(i, j)).chain(unit).collect()
                })
                .collect();
            for p in 0..m {
                let pivot = a[p][p];
                a[p].iter_mut().for_each(|x| *x /= pivot);
                let row = a[p].clone();
                for (i, other) in a.iter_mut().enumerate().filter(|(i, _)| *i != p) {
                    let factor = other[p];
                    assert!(i < m);
                    other.iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
                }
            }
            a.into_iter().map(|row| row[m..].to_vec()).collect()
        };
        let inverses: Vec<_> = (0..n).map(|from| inverse_of(from)[0].clone()).collect();
        // Coarse grids are fitted to the moments, fine ones to what is left of them.
        let importance: Vec<f32> = if fit.scheme.bits() < 6 {
            hessian.diagonal().iter().map(|d| (d / mean) as f32).collect()
        } else {
            inverses.iter().map(|row| (1.0 / (mean * row[0])) as f32).collect()
        };
        for row in weights.chunks(n) {
            let mut now: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
            let mut step = Step { scale: 1.0, zero: 0 };
            for j in 0..n {
                if j.is_multiple_of(group) {
                    let part: Vec<f32> = now[j..j + group].iter().map(|&w| w as f32).collect();
                    step = fit.step(&part, &importance[j..j + group]);
                }
                let code = step.code(now[j] as f32, range);
                codes.push(code as i8);
                let error = (now[j] - f64::from(fit.value(step, code))) / inverses[j][0];
                for (w, h) in now[j..].iter_mut().zip(&inverses[j]) {
                    *w -= error * h;
                }
            }
        }
        codes
    }

    #[test]
    fn blocks_give_what_single_columns_give() {
        let (rows, n) = (5, 192);
        let (weights, hessian) = (matrix(rows, n), moments(600, n, 11));
        let factor = factor(&hessian, false);
        for scheme in ["2g32", "3g64z", "4g64", "8g32"] {
            let fit = fit(scheme);
            let found = gptq(&weights, rows, n, &factor, &fit).unwrap();
            let expected = oracle(&weights, n, &hessian, factor.lambda(), &fit);
            let same = found.codes.iter().zip(&expected).filter(|(a, b)| a == b).count();
            // A weight on the border of two codes may fall on either side.
            assert!(same * 100 >= expected.len() * 97, "{scheme}: {same} of {}", expected.len());
        }
    }

    #[test]
    fn errors_are_those_of_the_moments_and_below_rounding_to_the_nearest() {
        let (rows, n) = (70, 320);
        let (weights, hessian) = (matrix(rows, n), moments(900, n, 12));
        for act_order in [false, true] {
            let factor = factor(&hessian, act_order);
            for scheme in ["2g64", "2g64z", "3g64", "4g32z", "5g64", "8g64"] {
                let fit = fit(scheme);
                let found = gptq(&weights, rows, n, &factor, &fit).unwrap();
                let exact = moment_error(&weights, &found.values(&fit), &hessian).unwrap();
                let stated = found.error.unwrap();
                assert!((exact - stated).abs() < 1e-2 * exact, "{scheme}: {exact} {stated}");
                let nearest =
                    round_to_nearest(&weights, rows, n, factor.importance(), &fit).unwrap();
                let plain = moment_error(&weights, &nearest.values(&fit), &hessian).unwrap();
                assert!(exact < plain, "{scheme}: {exact} {plain}");
            }
        }
    }

    #[test]
    fn without_correlation_it_is_rounding_to_the_nearest() {
        let (rows, n) = (33, 96);
        let weights = matrix(rows, n);
        // One input for each column, of its own size.
        let mut x = vec![0.0; n * n];
        for j in 0..n {
            x[j * n + j] = 1.0 + (j % 5) as f32;
        }
        let mut hessian = Hessian::new(n);
        hessian.add(&x).unwrap();
        let factor = factor(&hessian, false);
        let fit = fit("3g32");
        let found = gptq(&weights, rows, n, &factor, &fit).unwrap();
        let nearest = round_to_nearest(&weights, rows, n, factor.importance(), &fit).unwrap();
        // Which is best there: errors of columns add up.
        assert_eq!((&found.codes, &found.steps), (&nearest.codes, &nearest.steps));
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (rows, n) = (100, 256);
        let (weights, hessian) = (matrix(rows, n), moments(400, n, 13));
        let factor = factor(&hessian, true);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| gptq(&weights, rows, n, &factor, &fit("3g64z")).unwrap())
        };
        assert_eq!(run(1), run(4));
    }

    #[test]
    fn the_last_column_is_rounded_best_for_what_the_others_have_become() {
        // Two columns: the error of the first is made up for by the second, which then takes
        // the nearest value: no other code of the second is better.
        let weights = [0.31, -0.52];
        let mut whole = Vec::new();
        for n in 0..64_u8 {
            let a = f32::from(n % 8) - 3.5;
            whole.extend([a, 0.8 * a + f32::from(n / 8) * 0.1]);
        }
        // The other columns of the group have no input.
        let widen = |row: &[f32]| -> Vec<f32> {
            row.iter().copied().chain(std::iter::repeat_n(0.0, 30)).collect()
        };
        let x: Vec<f32> = whole.chunks(2).flat_map(widen).collect();
        let mut hessian = Hessian::new(32);
        hessian.add(&x).unwrap();
        let factor = factor(&hessian, false);
        let fit = fit("2g32");
        let weights = widen(&weights);
        let found = gptq(&weights, 1, 32, &factor, &fit).unwrap();
        let error = |codes: &[i8]| {
            let other = Quantised { codes: codes.to_vec(), ..found.clone() };
            moment_error(&weights, &other.values(&fit), &hessian).unwrap()
        };
        let own = error(&found.codes);
        for code in -2..2 {
            let mut codes = found.codes.clone();
            codes[1] = code;
            assert!(error(&codes) >= own * 0.999_9, "{code}");
        }
    }

    #[test]
    fn a_weight_that_is_not_finite_is_named() {
        let mut weights = matrix(4, 64);
        weights[64 * 2 + 9] = f32::NAN;
        let factor = factor(&moments(100, 64, 1), false);
        let error = gptq(&weights, 4, 64, &factor, &fit("4g64")).unwrap_err();
        assert!(matches!(error, GridError::Weight { row: 2, column: 9, .. }), "{error}");
        for (rows, columns) in [(3, 64), (4, 48)] {
            assert!(matches!(
                gptq(&weights, rows, columns, &factor, &fit("4g64")),
                Err(GridError::Size { .. })
            ));
        }
    }
}
