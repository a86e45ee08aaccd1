//! How fast the exact knapsack is, next to HiGHS on the same instances.
//!
//! One thread. Every instance is solved several times by one [`Solver`]; the first
//! solution is not timed, so that the workspace has its size. Beside the values of the
//! generator, every size is solved with Gumbel noise added to them, as the search does.

use std::time::Instant;

use rco_core::Problem;
use rco_core::knapsack::{Certificate, Settings as SolverSettings, Solver};
use rco_core::rng::{Purpose, stream};
use rco_problems::generators::Family;
use serde::Serialize;

use crate::BenchError;

/// Timing of an instance ends after this many milliseconds.
const LONG_ENOUGH_MS: f64 = 1_000.0;

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// LLM-shaped sizes: groups and options.
    pub sizes: Vec<(usize, usize)>,
    /// Size of the instances of the other families.
    pub family_size: (usize, usize),
    /// Families that are measured at `family_size`.
    pub families: Vec<Family>,
    /// Noise levels of the LLM-shaped instances, in units of the mean range of a
    /// group's values.
    pub temperatures: Vec<f64>,
    /// Where budgets lie between the smallest and the largest total, 0 to 1.
    pub tightness: Vec<f64>,
    /// Instances of each kind.
    pub seeds: u64,
    /// Timed solutions of each instance; fewer where they take more than a second
    /// together.
    pub repeats: usize,
    /// Limits of the solver.
    pub solver: SolverSettings,
    /// Seconds that HiGHS may take for an instance; `None` leaves HiGHS out.
    pub highs_seconds: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sizes: vec![(252, 7), (6_336, 7), (18_624, 7), (69_120, 15)],
            family_size: (1_000, 10),
            families: Family::ALL.to_vec(),
            temperatures: vec![0.0, 0.01, 0.1, 1.0],
            tightness: vec![0.25, 0.5],
            seeds: 1,
            repeats: 11,
            solver: SolverSettings::default(),
            highs_seconds: Some(20.0),
        }
    }
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Family of the instance.
    pub family: &'static str,
    /// Groups.
    pub groups: usize,
    /// Options of each group.
    pub options: usize,
    /// Where the budget lies.
    pub tightness: f64,
    /// Noise added to the values.
    pub temperature: f64,
    /// Seed of the instance.
    pub seed: u64,
    /// Fastest solution, milliseconds.
    pub min_ms: f64,
    /// Median solution, milliseconds.
    pub median_ms: f64,
    /// Milliseconds to prepare the solver, once for all values.
    pub setup_ms: f64,
    /// Value of the solution.
    pub value: f64,
    /// Proven gap; 0 means optimal.
    pub gap: f64,
    /// Unused budget.
    pub slack: u64,
    /// Groups that reduced-cost fixing left open.
    pub core_groups: usize,
    /// Options that it left open.
    pub core_options: usize,
    /// Partial solutions looked at.
    pub states: u64,
    /// Milliseconds of HiGHS, if it was run.
    pub highs_ms: Option<f64>,
    /// Value that HiGHS found, if any.
    pub highs_value: Option<f64>,
    /// Whether HiGHS says that it is optimal.
    pub highs_proven: Option<bool>,
}

/// All rows with the settings that made them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The settings.
    pub settings: Settings,
    /// One row for each instance.
    pub rows: Vec<Row>,
}

impl Report {
    /// The rows as CSV.
    ///
    /// # Errors
    /// [`csv::Error`] if `writer` fails.
    pub fn write_csv(&self, writer: impl std::io::Write) -> Result<(), csv::Error> {
        let mut out = csv::Writer::from_writer(writer);
        for row in &self.rows {
            out.serialize(row)?;
        }
        Ok(out.flush()?)
    }
}

/// Measures everything that `settings` name. `progress` sees every row when it is done,
/// with its number (from 1) and how many there will be.
///
/// # Errors
/// [`BenchError`] if an instance cannot be built or solved.
pub fn run(
    settings: &Settings,
    mut progress: impl FnMut(&Row, usize, usize),
) -> Result<Report, BenchError> {
    let cases = cases(settings);
    let mut rows = Vec::with_capacity(cases.len());
    for case in &cases {
        let row = measure(case, settings)?;
        progress(&row, rows.len() + 1, cases.len());
        rows.push(row);
    }
    Ok(Report { settings: settings.clone(), rows })
}

/// One instance to measure.
#[derive(Debug, Clone, Copy)]
struct Case {
    family: Family,
    size: (usize, usize),
    tightness: f64,
    temperature: f64,
    seed: u64,
}

fn cases(settings: &Settings) -> Vec<Case> {
    let mut out = Vec::new();
    let mut add = |family: Family, size, temperature| {
        for &tightness in &settings.tightness {
            for seed in 0..settings.seeds {
                out.push(Case { family, size, tightness, temperature, seed });
            }
        }
    };
    for &size in &settings.sizes {
        for &temperature in &settings.temperatures {
            add(Family::LlmShaped, size, temperature);
        }
    }
    for &family in settings.families.iter().filter(|f| **f != Family::LlmShaped) {
        add(family, settings.family_size, 0.0);
    }
    out
}

fn measure(case: &Case, settings: &Settings) -> Result<Row, BenchError> {
    let (groups, options) = case.size;
    let drawn = case.family.generate(groups, options, case.tightness, case.seed)?;
    let problem = drawn.problem;
    let values = perturbed(&problem, drawn.values, case);

    let start = Instant::now();
    let mut solver = Solver::new(problem.decisions(), problem.budgets(), settings.solver)?;
    let setup_ms = milliseconds(start);
    let mut choices = vec![0; problem.decisions().len()];
    let mut certificate: Certificate = solver.solve(&values, &mut choices)?;
    let mut times = Vec::with_capacity(settings.repeats);
    for _ in 0..settings.repeats.max(1) {
        let start = Instant::now();
        certificate = solver.solve(&values, &mut choices)?;
        times.push(milliseconds(start));
        if times.iter().sum::<f64>() > LONG_ENOUGH_MS {
            break;
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    let work = solver.work();
    let highs = settings.highs_seconds.and_then(|seconds| highs(&problem, &values, seconds));
    Ok(Row {
        family: case.family.name(),
        groups,
        options,
        tightness: case.tightness,
        temperature: case.temperature,
        seed: case.seed,
        min_ms: times[0],
        median_ms: times[times.len() / 2],
        setup_ms,
        value: certificate.value,
        gap: certificate.gap,
        slack: certificate.slack,
        core_groups: work.core_decisions,
        core_options: work.core_options,
        states: work.states,
        highs_ms: highs.map(|h| h.ms),
        highs_value: highs.and_then(|h| h.value),
        highs_proven: highs.map(|h| h.proven),
    })
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Adds Gumbel noise, scaled by the temperature and the mean range of a group's values.
fn perturbed(problem: &Problem, mut values: Vec<f64>, case: &Case) -> Vec<f64> {
    if case.temperature == 0.0 {
        return values;
    }
    let range = |group: usize| {
        let own = &values[problem.options_of(group)];
        own.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            - own.iter().copied().fold(f64::INFINITY, f64::min)
    };
    let groups = problem.group_count();
    let scale = case.temperature * (0..groups).map(range).sum::<f64>() / groups as f64;
    let mut random = stream(case.seed, Purpose::Gumbel, 0);
    for value in &mut values {
        *value -= scale * (-random.uniform().ln()).ln();
    }
    values
}

/// What HiGHS made of an instance.
#[derive(Debug, Clone, Copy)]
struct HighsResult {
    ms: f64,
    value: Option<f64>,
    proven: bool,
}

#[cfg(not(feature = "highs"))]
fn highs(_problem: &Problem, _values: &[f64], _seconds: f64) -> Option<HighsResult> {
    None
}

/// Solves the plain mixed-integer program, values scaled to a largest of 1000.
#[cfg(feature = "highs")]
fn highs(problem: &Problem, values: &[f64], seconds: f64) -> Option<HighsResult> {
    use highs::{HighsModelStatus, HighsSolutionStatus, RowProblem, Sense};
    let start = Instant::now();
    let largest = values.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let scale = if largest > 0.0 { 1000.0 / largest } else { 1.0 };
    let mut program = RowProblem::default();
    let columns: Vec<_> =
        values.iter().map(|&v| program.add_integer_column(v * scale, 0.0..=1.0)).collect();
    for group in 0..problem.group_count() {
        program.add_row(1.0..=1.0, problem.options_of(group).map(|j| (columns[j], 1.0)));
    }
    let costs = problem.costs(0);
    let unit = 1000.0 / costs.iter().max().copied().unwrap_or(1).max(1) as f64;
    let row = columns.iter().zip(costs).map(|(&column, &cost)| (column, cost as f64 * unit));
    program.add_row(..=problem.budgets()[0].limit as f64 * unit, row);
    let mut model = program.try_optimise(Sense::Maximise).ok()?;
    model.try_set_option("parallel", "off").ok()?;
    model.try_set_option("threads", 1).ok()?;
    model.try_set_option("time_limit", seconds).ok()?;
    model.try_set_option("mip_rel_gap", 0.0).ok()?;
    model.try_set_option("mip_abs_gap", 1e-9).ok()?;
    let solved = model.try_solve().ok()?;
    let found = solved.primal_solution_status() == HighsSolutionStatus::Feasible;
    Some(HighsResult {
        ms: milliseconds(start),
        value: found.then(|| solved.objective_value() / scale),
        proven: solved.status() == HighsModelStatus::Optimal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_instance_has_a_row_and_agrees_with_highs() {
        let settings = Settings {
            sizes: vec![(21, 4)],
            family_size: (12, 4),
            temperatures: vec![0.0, 0.1],
            tightness: vec![0.4],
            repeats: 2,
            highs_seconds: Some(2.0),
            ..Settings::default()
        };
        let mut seen = 0;
        let report = run(&settings, |_, number, all| {
            seen += 1;
            assert_eq!((number, all), (seen, 7));
        })
        .unwrap();
        assert_eq!(report.rows.len(), 7);
        for row in &report.rows {
            assert_eq!(row.gap, 0.0);
            assert!(row.min_ms <= row.median_ms);
            if let (Some(value), Some(true)) = (row.highs_value, row.highs_proven) {
                assert!((row.value - value).abs() <= 1e-6 * value.abs().max(1.0), "{row:?}");
            }
        }
        let mut text = Vec::new();
        report.write_csv(&mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap().lines().count(), 8);
    }
}
