//! Numerical checks of the geometry on random problems, in the manner of the slope
//! tests of Manopt: an approximation of order q has an error that falls as `h^q`, so the
//! error over `h` in log-log has slope `q`. For `rco check geometry` and for tests.

use super::normal::dot;
use super::{Direction, Manifold, ManifoldError, RESIDUAL};
use crate::budget::Budget;
use crate::decisions::Decisions;
use crate::relax::softmax;
use crate::rng::{self, Purpose, Stream};

/// How far a slope may lie below the expected one. It may lie above: the leading term of
/// an error can vanish by chance.
const SLOPE_TOLERANCE: f64 = 0.2;
/// Largest error of an identity.
const IDENTITY_TOLERANCE: f64 = 1e-12;
/// Directions that every error is taken over, as a root of the sum of squares: along one
/// alone two orders of an error may cancel.
const DIRECTIONS: usize = 6;
/// Lengths of the steps, spread over about a hundred logits. Errors of shorter ones drown
/// in rounding, or the retraction rightly leaves the point where it is.
const LENGTHS: [f64; 5] = [3e-1, 1e-1, 3e-2, 1e-2, 3e-3];

/// What a row of the report measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Log-log slope of an error over the step length; passes if not below the expected one.
    Slope,
    /// Relative error; passes at or below the expected one.
    Error,
}

/// One check.
#[derive(Debug, Clone, PartialEq)]
pub struct GeometryRow {
    /// What was checked, and on which problem.
    pub name: String,
    /// Slope or error.
    pub quantity: Quantity,
    /// The measured value.
    pub measured: f64,
    /// The expected slope, or the largest allowed error.
    pub expected: f64,
    /// Whether the check passed.
    pub pass: bool,
}

/// All checks of one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct GeometryReport {
    /// Seed of the random problems.
    pub seed: u64,
    /// The checks.
    pub rows: Vec<GeometryRow>,
}

impl GeometryReport {
    /// Whether every check passed.
    pub fn pass(&self) -> bool {
        self.rows.iter().all(|row| row.pass)
    }
}

/// Checks normal, projection, retraction and transport on random problems with ragged
/// options, sizes over several orders of magnitude, one to three budgets, along both
/// directions.
///
/// # Errors
/// [`ManifoldError`] if a random problem cannot be retracted, which is a failure of
/// the geometry too.
pub fn check_geometry(seed: u64) -> Result<GeometryReport, ManifoldError> {
    let mut rows = Vec::new();
    for resources in 1..=3 {
        for direction in [Direction::Cost, Direction::CostPerWeight] {
            let index = rows.len() as u64;
            let stream = rng::stream(seed, Purpose::Instance, index);
            let label = match direction {
                Direction::Cost => "cost",
                Direction::CostPerWeight => "cost per weight",
            };
            let plural = if resources == 1 { "" } else { "s" };
            let label = format!("{resources} budget{plural}, {label}");
            Subject::new(stream, resources, direction, label)?.check(&mut rows)?;
        }
    }
    Ok(GeometryReport { seed, rows })
}

/// A point on a random manifold with a random direction to leave it.
struct Subject {
    label: String,
    manifold: Manifold,
    stream: Stream,
    active: Vec<bool>,
    logits: Vec<f64>,
    probs: Vec<f64>,
    /// Random vectors of length 1.
    free: Vec<Vec<f64>>,
    /// Their tangent parts, of length 1.
    tangent: Vec<Vec<f64>>,
}

impl Subject {
    fn new(
        mut stream: Stream,
        resources: usize,
        direction: Direction,
        label: String,
    ) -> Result<Self, ManifoldError> {
        let decisions = random_decisions(&mut stream, 24, resources);
        let dimension = decisions.option_count();
        let mut logits: Vec<f64> = (0..dimension).map(|_| 1.5 * stream.normal()).collect();
        let mut probs = vec![0.0; dimension];
        // Limits at the expected cost of other random logits can be met together.
        let other: Vec<f64> = (0..dimension).map(|_| 0.5 * stream.normal()).collect();
        softmax(decisions.offsets(), &other, &mut probs);
        let budgets: Vec<Budget> = (0..resources)
            .map(|r| {
                let costs = decisions.costs(r);
                let limit: f64 = probs.iter().zip(costs).map(|(p, &c)| p * c as f64).sum();
                Budget::exactly(format!("resource {r}"), limit as u64)
            })
            .collect();
        let mut manifold = Manifold::new(&decisions, &budgets, direction)?;
        let active = vec![true; resources];
        manifold.retract(&mut logits, &mut probs, &active)?;
        let (mut free, mut tangent) = (Vec::new(), Vec::new());
        for _ in 0..DIRECTIONS {
            let mut vector: Vec<f64> = (0..dimension).map(|_| stream.normal()).collect();
            normalise(&mut vector);
            free.push(vector.clone());
            manifold.project(&probs, &active, &mut vector);
            normalise(&mut vector);
            tangent.push(vector);
        }
        Ok(Self { label, manifold, stream, active, logits, probs, free, tangent })
    }

    fn check(mut self, rows: &mut Vec<GeometryRow>) -> Result<(), ManifoldError> {
        self.check_normal(rows);
        self.check_projection(rows);
        self.check_retraction(rows)?;
        self.check_newton(rows);
        self.check_transport(rows)?;
        self.check_extremes(rows)
    }

    /// `C(α + h v) = C(α) + h ⟨n, v⟩ + O(h²)`, relative to the range of `C`.
    fn check_normal(&self, rows: &mut Vec<GeometryRow>) {
        let mut normal = vec![0.0; self.logits.len()];
        for r in 0..self.active.len() {
            self.manifold.normal(&self.probs, r, &mut normal);
            let errors = errors_along(&self.free, |v, h| {
                let change = self.cost_at(v, h, r) - self.cost_at(v, 0.0, r);
                change - h * dot(&normal, v)
            });
            rows.push(self.slope(&format!("normal of resource {r} is the gradient"), 2.0, &errors));
        }
    }

    fn check_projection(&mut self, rows: &mut Vec<GeometryRow>) {
        let mut once = self.free[0].clone();
        self.manifold.project(&self.probs, &self.active, &mut once);
        let mut twice = once.clone();
        self.manifold.project(&self.probs, &self.active, &mut twice);
        rows.push(self.error("projection is idempotent", distance(&once, &twice)));
        let mut normal = vec![0.0; self.logits.len()];
        let mut worst = 0.0_f64;
        for r in 0..self.active.len() {
            self.manifold.normal(&self.probs, r, &mut normal);
            worst = worst.max(dot(&normal, &once).abs() / dot(&normal, &normal).sqrt());
        }
        rows.push(self.error("projection is orthogonal to the normals", worst));
        for r in 0..self.active.len() {
            let errors =
                errors_along(&self.tangent, |v, h| self.cost_at(v, h, r) - self.cost_at(v, 0.0, r));
            let name = format!("tangent step keeps the cost of resource {r}");
            rows.push(self.slope(&name, 2.0, &errors));
        }
    }

    /// A retraction is the identity at 0 and agrees with the step to first order.
    fn check_retraction(&mut self, rows: &mut Vec<GeometryRow>) -> Result<(), ManifoldError> {
        let zero = vec![0.0; self.logits.len()];
        let back = self.retracted(&zero, 0.0)?;
        let name = "retraction keeps a point of the manifold";
        rows.push(self.error(name, distance(&back, &self.logits)));
        let mut errors = [0.0_f64; LENGTHS.len()];
        let mut worst = 0.0_f64;
        for v in self.tangent.clone() {
            for (error, h) in errors.iter_mut().zip(LENGTHS) {
                let back = self.retracted(&v, h)?;
                *error = error.hypot(distance(&back, &self.moved(&v, h)));
                worst = worst.max(self.residual(&back));
            }
        }
        rows.push(self.slope("retraction is a step to first order", 2.0, &errors));
        rows.push(self.row("residual of the retraction", Quantity::Error, worst, RESIDUAL));
        Ok(())
    }

    /// One Newton step from a residual of `h` leaves one of `h²`.
    fn check_newton(&mut self, rows: &mut Vec<GeometryRow>) {
        let resources = self.active.len();
        let mut errors = [0.0_f64; LENGTHS.len()];
        for v in &self.free {
            for (error, h) in errors.iter_mut().zip(LENGTHS) {
                let moved: Vec<f64> = self.logits.iter().zip(v).map(|(z, v)| z + h * v).collect();
                self.manifold.prepare(&self.active);
                self.manifold.moments(&moved);
                let work = &mut self.manifold.work;
                work.matrix.copy_from_slice(&work.hessian);
                for r in 0..resources {
                    work.lambda[r] = self.manifold.budgets[r].target - work.cost[r];
                }
                super::newton::solve(&mut work.matrix, resources, &mut work.lambda);
                self.manifold.moments(&moved);
                for r in 0..resources {
                    *error = error.hypot(self.manifold.gap(r));
                }
            }
        }
        rows.push(self.slope("Newton step of the retraction", 2.0, &errors));
    }

    /// Transport gives tangent vectors and changes them by `O(h)`.
    fn check_transport(&mut self, rows: &mut Vec<GeometryRow>) -> Result<(), ManifoldError> {
        let mut normal = vec![0.0; self.logits.len()];
        let mut there = vec![0.0; self.logits.len()];
        let mut errors = [0.0_f64; LENGTHS.len()];
        let mut worst = 0.0_f64;
        for (at, v) in self.tangent.clone().iter().enumerate() {
            let momentum = self.tangent[(at + 1) % DIRECTIONS].clone();
            for (error, h) in errors.iter_mut().zip(LENGTHS) {
                let back = self.retracted(v, h)?;
                softmax(self.manifold.offsets(), &back, &mut there);
                let mut carried = momentum.clone();
                self.manifold.transport(&there, &self.active, &mut carried);
                *error = error.hypot(distance(&carried, &momentum));
                for r in 0..self.active.len() {
                    self.manifold.normal(&there, r, &mut normal);
                    worst = worst.max(dot(&normal, &carried).abs() / dot(&normal, &normal).sqrt());
                }
            }
        }
        rows.push(self.error("transported momentum is tangent", worst));
        rows.push(self.slope("transport is continuous", 1.0, &errors));
        Ok(())
    }

    /// Retraction from logits of ±500.
    fn check_extremes(&mut self, rows: &mut Vec<GeometryRow>) -> Result<(), ManifoldError> {
        let mut worst = 0.0_f64;
        for _ in 0..4 {
            let mut far: Vec<f64> = (0..self.logits.len())
                .map(|_| if self.stream.below(2) == 0 { 500.0 } else { -500.0 })
                .collect();
            let mut probs = vec![0.0; far.len()];
            self.manifold.retract(&mut far, &mut probs, &self.active)?;
            worst = worst.max(self.residual(&far));
        }
        rows.push(self.row("residual from logits of ±500", Quantity::Error, worst, RESIDUAL));
        Ok(())
    }

    /// Largest relative residual at some logits.
    fn residual(&self, logits: &[f64]) -> f64 {
        let mut probs = vec![0.0; logits.len()];
        softmax(self.manifold.offsets(), logits, &mut probs);
        let residuals = (0..self.active.len()).map(|r| self.manifold.residual(&probs, r).abs());
        residuals.fold(0.0, f64::max)
    }

    fn moved(&self, along: &[f64], h: f64) -> Vec<f64> {
        self.logits.iter().zip(along).map(|(z, v)| z + h * v).collect()
    }

    /// Expected cost at `α + h v`.
    fn cost_at(&self, along: &[f64], h: f64, resource: usize) -> f64 {
        let mut probs = vec![0.0; self.logits.len()];
        softmax(self.manifold.offsets(), &self.moved(along, h), &mut probs);
        self.manifold.expected_cost_of(&probs, resource)
    }

    fn retracted(&mut self, along: &[f64], h: f64) -> Result<Vec<f64>, ManifoldError> {
        let mut logits = self.moved(along, h);
        let mut probs = vec![0.0; logits.len()];
        self.manifold.retract(&mut logits, &mut probs, &self.active)?;
        Ok(logits)
    }

    fn slope(&self, name: &str, expected: f64, errors: &[f64]) -> GeometryRow {
        self.row(name, Quantity::Slope, log_slope(&LENGTHS, errors), expected)
    }

    fn error(&self, name: &str, measured: f64) -> GeometryRow {
        self.row(name, Quantity::Error, measured, IDENTITY_TOLERANCE)
    }

    fn row(&self, name: &str, quantity: Quantity, measured: f64, expected: f64) -> GeometryRow {
        let pass = match quantity {
            Quantity::Slope => measured >= expected - SLOPE_TOLERANCE,
            Quantity::Error => measured <= expected,
        };
        GeometryRow { name: format!("{name} ({})", self.label), quantity, measured, expected, pass }
    }
}

/// Errors for every length, over several directions.
fn errors_along(
    directions: &[Vec<f64>],
    error: impl Fn(&[f64], f64) -> f64,
) -> [f64; LENGTHS.len()] {
    LENGTHS.map(|h| directions.iter().map(|v| error(v, h)).fold(0.0, f64::hypot))
}

/// Least-squares slope of `ln error` over `ln length`.
fn log_slope(lengths: &[f64], errors: &[f64]) -> f64 {
    let n = lengths.len() as f64;
    let mean = |v: &[f64]| v.iter().map(|x| x.ln()).sum::<f64>() / n;
    let (mx, my) = (mean(lengths), mean(errors));
    let covariance: f64 =
        lengths.iter().zip(errors).map(|(x, y)| (x.ln() - mx) * (y.ln() - my)).sum();
    covariance / lengths.iter().map(|x| (x.ln() - mx).powi(2)).sum::<f64>()
}

fn normalise(v: &mut [f64]) {
    let length = dot(v, v).sqrt();
    for x in v {
        *x /= length;
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
}

/// Ragged decisions (1 to 9 options), sizes from 1 to about 1000, costs of about
/// 2 to 16 bits per unit of size.
fn random_decisions(stream: &mut Stream, count: usize, resources: usize) -> Decisions {
    let mut out = Decisions {
        offsets: vec![0],
        costs: vec![Vec::new(); resources],
        sizes: Vec::new(),
        member_offsets: vec![0],
        members: Vec::new(),
        option_index: Vec::new(),
    };
    for i in 0..count {
        let options = 1 + stream.below(9);
        let size = 1000_f64.powf(stream.uniform());
        for k in 0..options {
            out.option_index.push(k as u32);
            for costs in &mut out.costs {
                costs.push((size * (200.0 + 1400.0 * stream.uniform())) as u64);
            }
        }
        out.offsets.push(out.option_index.len());
        out.sizes.push(size.ceil() as u64);
        out.members.push(i as u32);
        out.member_offsets.push(i + 1);
    }
    out
}
