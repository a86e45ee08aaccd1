//! What option gradients promise, against what single moves measure, on the bundled model.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use rco_core::Assignment;
use rco_core::search::{Draw, Objective, Silent, Split};
use rco_formats::gguf::TensorType;
use rco_quant::effort::Effort;
use rco_quant::job::{Job, JobSettings, MeasuredIn, Order, Reporter, Target};
use rco_quant::menu::{Form, TypeFilter};
use rco_quant::objective::PlanLoss;

struct Quiet;

impl Reporter for Quiet {
    fn stage(&mut self, _: &str, _: Option<u64>) {}
    fn advance(&mut self, _: u64, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn observer(&mut self) -> Box<dyn rco_core::search::Observer + '_> {
        Box::new(Silent)
    }
}

fn job() -> Job {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let text = Path::new(&root).join("../../assets/text/scripture.txt");
    let types = [TensorType::Q2_K, TensorType::Q4_K, TensorType::Q5_K, TensorType::Q6_K];
    Job::open(JobSettings {
        model: Path::new(&root).join("../../assets/tiny-moe/tiny-moe.bf16.gguf"),
        orders: vec![Order { target: Target::Size(5_000_000), output: PathBuf::new() }],
        texts: vec![text],
        imatrix: None,
        options: Vec::new(),
        filter: TypeFilter { only: types.to_vec(), ..TypeFilter::default() },
        pins: Vec::new(),
        ties: Vec::new(),
        fuse_friendly: false,
        drop_experts: false,
        measured_in: MeasuredIn::Engine,
        split: None,
        effort: Effort::Trial,
        seed: 1,
        memory: None,
        threads: 1,
        force: false,
        verify: false,
        tuning: None,
    })
    .unwrap()
}

/// Pearson's coefficient.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let cov: f64 = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum();
    let var = |v: &[f64], m: f64| v.iter().map(|x| (x - m).powi(2)).sum::<f64>();
    cov / (var(a, ma) * var(b, mb)).sqrt()
}

#[test]
fn with_curvature_the_gradient_foretells_what_moves_do_and_without_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let job = job();
    let prepared = job.prepare(folder.path(), &mut Quiet).unwrap();
    let groups = &prepared.groups;
    let problem = groups.problem(5_000_000, &[]).unwrap();
    let plan = groups.nearest(|_| Some(Form::own(TensorType::Q4_K)));

    // A quantisation type is all or nothing: a move's change is far from infinitesimal.
    let engine = prepared.engine().unwrap();
    let measured_on = engine.teacher.calibration.len();
    let mut loss = PlanLoss::new(
        &engine.candidates,
        &engine.teacher,
        measured_on,
        1,
        prepared.scores.clone(),
        Vec::new(),
        &prepared.origin,
    );
    let mean = |loss: &mut PlanLoss<'_>| {
        let mut sum = vec![0.0; problem.option_count()];
        for draw in 0..measured_on as u64 {
            let found = loss.evaluate(&plan, Draw(draw)).unwrap();
            for (s, g) in sum.iter_mut().zip(found.gradient) {
                *s += g / measured_on as f64;
            }
        }
        sum
    };
    let plain = mean(&mut loss);
    let mut curved_loss = loss.with_curvature(prepared.scores.clone());
    let curved = mean(&mut curved_loss);

    let before = curved_loss.loss(&plan, Split::Calibration).unwrap();
    let (mut found, mut by_plain, mut by_curved) = (Vec::new(), Vec::new(), Vec::new());
    for group in (0..groups.menu().choices.len()).step_by(2) {
        let range = problem.options_of(group);
        for k in (0..range.len()).filter(|&k| k != plan.option(group)) {
            let mut choices = plan.choices().to_vec();
            choices[group] = k as u32;
            let after = curved_loss.loss(&Assignment::new(choices), Split::Calibration).unwrap();
            found.push(after - before);
            by_plain.push(plain[range.start + k]);
            by_curved.push(curved[range.start + k]);
        }
    }
    let (plain, curved) = (correlation(&found, &by_plain), correlation(&found, &by_curved));
    assert!(curved > 0.7 && curved > plain + 0.2, "{curved:.3} with, {plain:.3} without");
}
