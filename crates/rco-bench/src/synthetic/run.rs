//! Runs every contender on every instance.

use std::sync::atomic::{AtomicUsize, Ordering};

use rco_core::search::{SearchSettings, Silent, search};
use rco_problems::planted::Shape;

use super::family::ENUMERATED_GROUPS;
use super::{Contender, Family, Row, contenders, draw};
use crate::BenchError;

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticSettings {
    /// Families.
    pub families: Vec<Family>,
    /// Numbers of groups.
    pub groups: Vec<usize>,
    /// Options of each group.
    pub options: Vec<usize>,
    /// Budgets, from 0 (all cheapest) to 1 (all dearest).
    pub tightness: Vec<f64>,
    /// Seeds of each shape.
    pub seeds: u64,
    /// Limits of evaluations; more than one shows how results grow with effort.
    pub limits: Vec<u64>,
    /// Names of the contenders; empty for all.
    pub methods: Vec<String>,
    /// Instances worked on side by side; 0 for one per core.
    pub threads: usize,
}

impl Default for SyntheticSettings {
    fn default() -> Self {
        Self {
            families: Family::all(),
            groups: vec![32, 252],
            options: vec![4, 7],
            tightness: vec![0.25, 0.5, 0.75],
            seeds: 5,
            limits: vec![400],
            methods: Vec::new(),
            threads: 0,
        }
    }
}

struct Task {
    family: Family,
    shape: Shape,
    seed: u64,
    limit: u64,
}

/// Runs everything; `progress` is told how many of how many instances are done.
/// The rows come in a fixed order and, times aside, with fixed contents.
///
/// # Errors
/// The first [`BenchError`] in that order.
pub fn run(
    settings: &SyntheticSettings,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Row>, BenchError> {
    let contenders: Vec<Contender> = contenders()
        .into_iter()
        .filter(|c| settings.methods.is_empty() || settings.methods.iter().any(|m| m == c.name))
        .collect();
    if let Some(unknown) =
        settings.methods.iter().find(|m| contenders.iter().all(|c| c.name != **m))
    {
        return Err(BenchError::UnknownContender { name: unknown.clone() });
    }
    run_with(settings, &contenders, progress)
}

/// As [`run`], with contenders of the caller's own.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    settings: &SyntheticSettings,
    contenders: &[Contender],
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Row>, BenchError> {
    let tasks = tasks(settings);
    let rows = side_by_side(&tasks, settings.threads, progress, |task| run_task(task, contenders));
    let mut out = Vec::new();
    for task in rows {
        out.extend(task?);
    }
    Ok(out)
}

/// Works on all tasks with plain threads; results in the order of the tasks. Not with
/// rayon: a thread of its pool that waits for the pool of a search would take up
/// another task meanwhile, and the time of the first would be wrong.
fn side_by_side<T: Sync, R: Send>(
    tasks: &[T],
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    };
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(tasks.len()))
            .map(|_| {
                scope.spawn(|| {
                    let mut own = Vec::new();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(task) = tasks.get(at) else { return own };
                        own.push((at, work(task)));
                        progress(done.fetch_add(1, Ordering::Relaxed) + 1, tasks.len());
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| match worker.join() {
                Ok(own) => own,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn tasks(settings: &SyntheticSettings) -> Vec<Task> {
    let mut tasks = Vec::new();
    for &family in &settings.families {
        for (at, &groups) in settings.groups.iter().enumerate() {
            for (k, &options) in settings.options.iter().enumerate() {
                // The enumerated family has one size.
                if family == Family::Enumerated && (at, k) != (0, 0) {
                    continue;
                }
                let groups = if family == Family::Enumerated { ENUMERATED_GROUPS } else { groups };
                for &tightness in &settings.tightness {
                    for seed in 0..settings.seeds {
                        for &limit in &settings.limits {
                            let shape = Shape { groups, options, tightness };
                            tasks.push(Task { family, shape, seed, limit });
                        }
                    }
                }
            }
        }
    }
    tasks
}

fn run_task(task: &Task, contenders: &[Contender]) -> Result<Vec<Row>, BenchError> {
    contenders
        .iter()
        .map(|contender| {
            let mut best: Option<Row> = None;
            for (at, settings) in contender.settings.iter().enumerate() {
                let row = run_one(task, contender, at, settings)?;
                if best.as_ref().is_none_or(|b| row.loss < b.loss) {
                    best = Some(row);
                }
            }
            best.ok_or(BenchError::NoSettings { name: contender.name })
        })
        .collect()
}

fn run_one(
    task: &Task,
    contender: &Contender,
    at: usize,
    settings: &SearchSettings,
) -> Result<Row, BenchError> {
    let mut instance = draw(task.family, task.shape, task.seed)?;
    let settings =
        SearchSettings { seed: task.seed, evaluations: Some(task.limit), ..settings.clone() };
    let outcome = search(&instance.problem, instance.objective.as_mut(), &settings, &mut Silent)?;
    let budget = instance.problem.budgets()[0].limit;
    let raw = outcome.raw.first();
    let cost = instance.problem.cost_of(&outcome.assignment, 0);
    Ok(Row {
        family: task.family.name(),
        groups: instance.problem.group_count(),
        options: instance.problem.options_of(0).len(),
        tightness: task.shape.tightness,
        seed: task.seed,
        limit: task.limit,
        method: contender.name.to_owned(),
        setting: at,
        settings: contender.settings.len(),
        loss: outcome.loss_heldout,
        optimum: instance.optimum,
        score: instance.score(outcome.loss_heldout),
        value_ratio: (task.family.is_separable() && instance.optimum < 0.0)
            .then(|| 100.0 * outcome.loss_heldout / instance.optimum),
        cost,
        budget,
        over_budget: !instance.problem.is_feasible(&outcome.assignment),
        raw_over_budget: raw.map(|r| !r.feasible),
        raw_cost: raw.map(|r| 100.0 * r.costs[0] as f64 / budget as f64),
        evaluations: outcome.counts.limited(),
        seconds: outcome.seconds,
    })
}
