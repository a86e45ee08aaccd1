//! The triangular matrix by which GPTQ passes errors on.

use faer::linalg::cholesky::llt::factor::{
    LltRegularization, cholesky_in_place, cholesky_in_place_scratch,
};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{MatMut, MatRef, Par, Spec};

use super::error::GridError;
use super::hessian::Hessian;

/// How the second moments are prepared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FactorSettings {
    /// What is added to the diagonal, as a share of its mean.
    pub damping: f64,
    /// Columns are rounded in the order of their second moments, largest first, with scales
    /// that were fitted before. Without it they are rounded from left to right, and each
    /// group is fitted to what it has become by then.
    pub act_order: bool,
}

impl Default for FactorSettings {
    fn default() -> Self {
        Self { damping: 0.01, act_order: false }
    }
}

/// Bits from which on groups are fitted to what is left of the second moments.
const FINE: u8 = 6;
/// The same for scales that are fitted before any error is passed on.
const FINE_IN_ORDER: u8 = 4;

/// Times that the damping is raised tenfold where there is no factor.
const TRIALS: u32 = 3;

/// `U`, upper triangular, with `(H + λ)⁻¹ = Uᵀ U`, columns in the order in which they are
/// rounded.
#[derive(Debug, Clone)]
pub struct Factor {
    columns: usize,
    /// Row after row.
    upper: Vec<f32>,
    /// Second moments of the columns, for fits; 1 where all are 0.
    importance: Vec<f32>,
    /// `1 / U_jj²` of the columns divided by their mean, for fits of fine grids.
    left: Vec<f32>,
    /// The column rounded at each place; `None`: from left to right.
    order: Option<Vec<u32>>,
    /// What was added to the diagonal.
    lambda: f64,
    /// Columns whose input was always 0.
    dead: Vec<bool>,
}

impl Factor {
    /// Prepares second moments.
    ///
    /// Writing the columns in reverse turns the lower triangular factor of Cholesky into an
    /// upper triangular `R` with `H = R Rᵀ`, so that `U = R⁻¹`: one factorisation and one
    /// triangular inverse, and no inverse of `H`.
    ///
    /// A column whose input was always 0 passes no error on and takes none; it is rounded to
    /// the nearest, since other text may use it.
    ///
    /// # Errors
    /// [`GridError::Moment`] for moments that are not finite, [`GridError::Indefinite`].
    pub fn new(hessian: &Hessian, settings: &FactorSettings) -> Result<Self, GridError> {
        hessian.check()?;
        let n = hessian.columns();
        let diagonal = hessian.diagonal();
        let mean = diagonal.iter().sum::<f64>() / n.max(1) as f64;
        let dead = diagonal.iter().map(|&d| d <= 0.0).collect::<Vec<_>>();
        let order = settings.act_order.then(|| {
            let mut order: Vec<u32> = (0..n as u32).collect();
            order.sort_by(|&a, &b| diagonal[b as usize].total_cmp(&diagonal[a as usize]));
            order
        });
        let importance = if mean > 0.0 {
            diagonal.iter().map(|&d| (d / mean) as f32).collect()
        } else {
            vec![1.0; n]
        };
        let unit = if mean > 0.0 { mean } else { 1.0 };
        let column = |place: usize| order.as_ref().map_or(place, |order| order[place] as usize);
        let mut damping = settings.damping;

        for _ in 0..TRIALS {
            let lambda = damping * unit;
            // Column-major, reversed.
            let mut lower = vec![0.0; n * n];
            for q in 0..n {
                let j = column(n - 1 - q);
                for p in q..n {
                    lower[q * n + p] = hessian.at(column(n - 1 - p), j);
                }
                lower[q * n + q] += if diagonal[j] > 0.0 { lambda } else { lambda + unit };
            }
            if let Some(upper) = invert(&mut lower, n) {
                let left = left(&upper, n, column);
                return Ok(Self { columns: n, upper, importance, left, order, lambda, dead });
            }
            damping = (damping * 10.0).max(1e-4);
        }
        Err(GridError::Indefinite { damping: damping / 10.0 })
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row `place` of `U` from the diagonal on.
    pub(super) fn row(&self, place: usize) -> &[f32] {
        &self.upper[place * self.columns + place..(place + 1) * self.columns]
    }

    /// `U`, row after row.
    pub(super) fn upper(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.upper, self.columns, self.columns)
    }

    /// Second moments of the columns, divided by their mean.
    pub fn importance(&self) -> &[f32] {
        &self.importance
    }

    /// What an error in a column costs once the columns behind it have made up for it as well as
    /// they can: `1 / U_jj²`, the second moment of the column that they do not explain, over the
    /// mean of all columns. The error of GPTQ is the sum of the squared errors weighted so.
    fn left(&self) -> &[f32] {
        &self.left
    }

    /// What the squared errors of columns count in the fit of a group with codes of `bits`.
    ///
    /// Under what is [left](Self::left) the error on the calibration text is smaller at every
    /// width, by up to two fifths where few inputs are huge. But coarse grids fitted so rely on
    /// columns making up for each other on other text as they do on this one, and lose up to a
    /// sixth in KL there (benchmarks/gptq). So only fine grids are.
    pub(super) fn weighting(&self, bits: u8) -> &[f32] {
        let fine = if self.order.is_some() { FINE_IN_ORDER } else { FINE };
        if bits >= fine { self.left() } else { self.importance() }
    }

    /// The column rounded at each place, where that is not from left to right.
    pub fn order(&self) -> Option<&[u32]> {
        self.order.as_deref()
    }

    /// What was added to the diagonal.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// Whether the input of a column was always 0.
    pub fn is_dead(&self, column: usize) -> bool {
        self.dead[column]
    }
}

/// `1 / U_jj²` by column over its mean; `column` gives the column at each place.
fn left(upper: &[f32], n: usize, column: impl Fn(usize) -> usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    for place in 0..n {
        out[column(place)] = f64::from(upper[place * n + place]).powi(-2);
    }
    let mean = out.iter().sum::<f64>() / n.max(1) as f64;
    out.into_iter().map(|x| (x / mean) as f32).collect()
}

/// `U` of a reversed matrix whose lower triangle is given column after column; `None` if it is
/// not positive definite.
fn invert(lower: &mut [f64], n: usize) -> Option<Vec<f32>> {
    let scratch = cholesky_in_place_scratch::<f64>(n, Par::Seq, Spec::default());
    let mut memory = faer::dyn_stack::MemBuffer::new(scratch);
    cholesky_in_place(
        MatMut::from_column_major_slice_mut(lower, n, n),
        LltRegularization::default(),
        Par::Seq,
        faer::dyn_stack::MemStack::new(&mut memory),
        Spec::default(),
    )
    .ok()?;
    let mut inverse = vec![0.0; n * n];
    invert_lower_triangular(
        MatMut::from_column_major_slice_mut(&mut inverse, n, n),
        MatRef::from_column_major_slice(lower, n, n),
        Par::Seq,
    );
    let mut upper = vec![0.0; n * n];
    for (place, row) in upper.chunks_exact_mut(n.max(1)).enumerate() {
        for (q, u) in row.iter_mut().enumerate().skip(place) {
            *u = inverse[(n - 1 - q) * n + (n - 1 - place)] as f32;
        }
    }
    let sound = (0..n).all(|p| upper[p * n + p] > 0.0) && upper.iter().all(|u| u.is_finite());
    sound.then_some(upper)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rco_core::rng::{Purpose, stream};

    /// Correlated inputs: neighbours have half of each other, and some columns are larger.
    pub(in crate::grid) fn inputs(count: usize, columns: usize, seed: u64) -> Vec<f32> {
        let mut random = stream(seed, Purpose::Draw, 7);
        let mut out = Vec::with_capacity(count * columns);
        for _ in 0..count {
            let mut last = 0.0;
            for j in 0..columns {
                let fresh = random.uniform() - 0.5;
                last = 0.7 * last + fresh;
                out.push((last * if j % 7 == 3 { 4.0 } else { 1.0 }) as f32);
            }
        }
        out
    }

    pub(in crate::grid) fn moments(count: usize, columns: usize, seed: u64) -> Hessian {
        let mut hessian = Hessian::new(columns);
        hessian.add(&inputs(count, columns, seed)).unwrap();
        hessian
    }

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        for act_order in [false, true] {
            let n = 40;
            let hessian = moments(200, n, 3);
            let settings = FactorSettings { act_order, ..FactorSettings::default() };
            let factor = Factor::new(&hessian, &settings).unwrap();
            let column = |place: usize| factor.order().map_or(place, |o| o[place] as usize);
            // Uᵀ U (H + λ) = 1.
            let u = |p: usize, q: usize| if q < p { 0.0 } else { f64::from(factor.row(p)[q - p]) };
            for i in 0..n {
                for j in 0..n {
                    let mut sum = 0.0;
                    for k in 0..n {
                        let inverse: f64 = (0..n).map(|p| u(p, i) * u(p, k)).sum();
                        let damped = if k == j { factor.lambda() } else { 0.0 };
                        sum += inverse * (hessian.at(column(k), column(j)) + damped);
                    }
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((sum - expected).abs() < 1e-3, "{i} {j}: {sum}");
                }
            }
            if act_order {
                let diagonal = hessian.diagonal();
                let order = factor.order().unwrap();
                let sorted =
                    order.windows(2).all(|w| diagonal[w[0] as usize] >= diagonal[w[1] as usize]);
                assert!(sorted);
            }
        }
    }

    #[test]
    fn columns_without_input_stand_alone() {
        let n = 8;
        let mut x = inputs(50, n, 4);
        for row in x.chunks_mut(n) {
            row[5] = 0.0;
        }
        let mut hessian = Hessian::new(n);
        hessian.add(&x).unwrap();
        let factor = Factor::new(&hessian, &FactorSettings::default()).unwrap();
        assert_eq!((0..n).filter(|&j| factor.is_dead(j)).collect::<Vec<_>>(), [5]);
        assert!(factor.row(5)[1..].iter().all(|&u| u == 0.0));
        assert!((0..5).all(|p| factor.row(p)[5 - p] == 0.0));
        // Nothing was seen at all.
        let factor = Factor::new(&Hessian::new(n), &FactorSettings::default()).unwrap();
        assert!((0..n).all(|j| factor.is_dead(j)));
    }

    #[test]
    fn fewer_inputs_than_columns_are_damped() {
        let factor = Factor::new(&moments(10, 64, 5), &FactorSettings::default()).unwrap();
        assert!(factor.row(0).iter().all(|u| u.is_finite()));
        // Not damped at all it has no factor; it is raised until there is one.
        let settings = FactorSettings { damping: 0.0, act_order: false };
        assert!(Factor::new(&moments(10, 64, 5), &settings).is_ok());
    }
}
