//! All masks with so many experts dropped, and where the plans of searches and rankings stand
//! among them.

use rco_core::search::search;
use rco_model::engine::{Sweep, SweepState};
use rco_model::head::Target;
use rco_model::{Batch, Model};
use rco_quant::QuantError;
use rco_quant::prune::rankings::{plans, rankings};
use rco_quant::prune::reference::Reference;
use rco_quant::prune::{PruneError, PruneJob, PruneLoss, PrunePrepared};
use serde::Serialize;

use crate::error::BenchError;

/// A plan among all.
#[derive(Debug, Clone, Serialize)]
pub struct EnumerationRow {
    /// How the plan was made.
    pub contender: String,
    /// Experts that go.
    pub dropped: u64,
    /// Masks that keep every layer at as many experts as a token needs.
    pub masks: u64,
    /// Tokens of the text that all saw, the search too.
    pub tokens: usize,
    /// Evaluations of the search.
    pub evaluations: u64,
    /// Mean KL on that text.
    pub kl: f64,
    /// That of the best mask.
    pub best: f64,
    /// `kl / best`.
    pub ratio: f64,
    /// Masks that are better.
    pub better: u64,
}

/// Losses of all masks, by depth-first search: what the layers before have in common is
/// computed once.
struct Walk<'a> {
    sweep: Sweep<'a>,
    target: Target<'a>,
    /// Blocks with experts: number, experts, fewest that remain.
    layers: Vec<(usize, usize, usize)>,
    losses: Vec<f64>,
    best: (f64, Vec<Vec<usize>>),
    progress: &'a mut dyn FnMut(usize),
}

impl Walk<'_> {
    fn visit(
        &mut self,
        depth: usize,
        left: usize,
        state: &SweepState,
        dropped: &mut Vec<Vec<usize>>,
    ) -> Result<(), QuantError> {
        let Some(&(layer, experts, least)) = self.layers.get(depth) else {
            let loss = self.sweep.loss(state, self.target)?.mean;
            if loss < self.best.0 {
                self.best = (loss, dropped.clone());
            }
            self.losses.push(loss);
            (self.progress)(self.losses.len());
            return Ok(());
        };
        let room: usize = self.layers[depth + 1..].iter().map(|(_, n, least)| n - least).sum();
        let block = self.sweep.open(layer, state)?;
        for mask in 0..1_u64 << experts {
            let gone = mask.count_ones() as usize;
            if gone > left || gone > experts - least || left - gone > room {
                continue;
            }
            let gone: Vec<usize> = (0..experts).filter(|e| (mask >> e) & 1 == 1).collect();
            let next = self.sweep.close(&block, &gone)?;
            let left = left - gone.len();
            dropped.push(gone);
            self.visit(depth + 1, left, &next, dropped)?;
            dropped.pop();
        }
        Ok(())
    }
}

/// Enumerates all masks of the budget of `job` on its calibration text, which has to be one
/// batch, and searches one on the same text. Every block has to have experts, 63 at most.
///
/// # Errors
/// Whatever the model or the search meets.
pub fn enumerate(
    job: &PruneJob,
    prepared: &PrunePrepared,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<EnumerationRow>, BenchError> {
    let (map, budget) = (job.map(), job.budget());
    let model: &Model = &prepared.reference.original;
    let batch: &Batch = prepared.reference.teacher.calibration.batch(0);
    let head = model.head().map_err(QuantError::from)?;
    let hidden = model.hidden(batch).map_err(QuantError::from)?;
    let dropped = map.total() as u64 - budget.total();
    let layers = map.layers().iter();
    let sweep = Sweep::new(model, batch).map_err(QuantError::from)?;
    let mut walk = Walk {
        target: Target::Teacher { head: &head, hidden: &hidden },
        layers: layers.map(|l| (l.layer, l.experts, l.per_token)).collect(),
        losses: Vec::new(),
        best: (f64::INFINITY, Vec::new()),
        progress,
        sweep,
    };
    let start = walk.sweep.start();
    walk.visit(0, dropped as usize, &start, &mut Vec::new())?;
    let Walk { losses, best, .. } = walk;

    let mut rows = Vec::new();
    let mut add = |contender: &str, kl: f64, evaluations: u64| {
        rows.push(EnumerationRow {
            contender: contender.to_owned(),
            dropped,
            masks: losses.len() as u64,
            tokens: batch.rows(),
            evaluations,
            kl,
            best: best.0,
            ratio: kl / best.0,
            // One that the sweep rounds otherwise is the same.
            better: losses.iter().filter(|&&l| l < kl * (1.0 - 1e-5)).count() as u64,
        });
    };
    let known = plans(map, budget, &rankings(&prepared.uses, job.settings().common.seed));
    for (name, plan) in &known {
        add(name, measured(prepared, job, plan)?, 0);
    }
    let kept: Vec<Vec<usize>> = map
        .layers()
        .iter()
        .zip(&best.1)
        .map(|(l, gone)| (0..l.experts).filter(|e| !gone.contains(e)).collect())
        .collect();
    add("the best mask, measured as plans are", measured(prepared, job, &map.plan(&kept))?, 0);
    let PrunePrepared { reference, sensitivities, .. } = prepared;
    let Reference { original, teacher, origin, .. } = reference;
    let mut loss = PruneLoss::new(original, map, teacher, sensitivities, known, origin);
    let problem = budget.problem(map)?;
    let settings = job.work().search(job.settings().common.seed);
    let mut silent = rco_core::search::Silent;
    let found = search(&problem, &mut loss, &settings, &mut silent)?;
    // The choice is made on held-out text; here the best on the text that all saw counts.
    let candidates = found.candidates.iter().filter_map(|c| c.loss_calibration);
    let best_found = candidates.fold(f64::INFINITY, f64::min);
    add("rco prune", best_found, found.counts.limited());
    Ok(rows)
}

fn measured(
    prepared: &PrunePrepared,
    job: &PruneJob,
    plan: &rco_core::Assignment,
) -> Result<f64, BenchError> {
    let dropped =
        job.map().dropped(prepared.reference.original.config(), plan).map_err(PruneError::from)?;
    let model = prepared.reference.original.clone().without_experts(dropped);
    let report =
        prepared.reference.teacher.loss(&model, &prepared.reference.teacher.calibration, 0);
    Ok(report.map_err(QuantError::from)?.mean)
}
