//! The loss of a plan that drops experts: mean KL from the original model, routed as it will
//! be, and what single changes would do to it.

use std::fmt::Write as _;

use rco_core::Assignment;
use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_model::{
    ExpertFlips, FlipForm, GradientVisitor, Model, ModelError, WeightGradient, WeightKey,
};

use super::aim::Aim;
use super::error::PruneError;
use super::experts::{DROP, ExpertMap, KEEP, LayerExperts};
use crate::hash::sha256;
use crate::teacher::Teacher;

/// Takes the estimates of all blocks.
#[derive(Debug)]
pub(super) struct Flips {
    form: FlipForm,
    /// By block: estimates of every sequence.
    pub(super) found: Vec<ExpertFlips>,
}

impl Flips {
    pub(super) fn new(form: FlipForm) -> Self {
        Self { form, found: Vec::new() }
    }

    /// Change of the loss for every group that comes from one sequence.
    fn of_sequence(&self, map: &ExpertMap, sequence: usize) -> Vec<f64> {
        let of = |layer: usize| self.found.iter().find(|f| f.layer == layer);
        let layers = map.layers().iter();
        let values = |l: &LayerExperts| match of(l.layer) {
            Some(found) => found.values[sequence * l.experts..][..l.experts].to_vec(),
            None => vec![0.0; l.experts],
        };
        layers.flat_map(values).collect()
    }
}

impl GradientVisitor for Flips {
    fn wants(&self, _: WeightKey) -> bool {
        false
    }

    fn visit(&mut self, _: &WeightGradient<'_>) -> Result<(), ModelError> {
        Ok(())
    }

    fn flip_form(&self, _: usize) -> Option<FlipForm> {
        Some(self.form)
    }

    fn visit_flips(&mut self, flips: &ExpertFlips) -> Result<(), ModelError> {
        self.found.push(flips.clone());
        Ok(())
    }
}

/// The mean KL of plans from the original model, as the search sees it. Every loss and every
/// gradient is taken on all of the calibration text: two plans differ by less than two
/// samples do.
pub struct PruneLoss<'a> {
    original: &'a Model,
    map: &'a ExpertMap,
    teacher: &'a Teacher,
    /// What the domains of the texts count.
    aim: Aim,
    /// Batches of the calibration text that losses and gradients are taken on.
    measured: usize,
    form: FlipForm,
    /// What each expert costs by itself to second order; added to every change.
    curvature: Option<Vec<f64>>,
    /// Scores of all options, in the flat order.
    scores: Vec<f64>,
    known: Vec<(String, Assignment)>,
    fingerprint: String,
}

impl<'a> PruneLoss<'a> {
    /// A loss with the `sensitivities` of all experts ([`super::fisher`]) and plans known from
    /// elsewhere.
    pub fn new(
        original: &'a Model,
        map: &'a ExpertMap,
        teacher: &'a Teacher,
        sensitivities: &[f64],
        known: Vec<(String, Assignment)>,
        origin: &str,
    ) -> Self {
        let mut scores = Vec::with_capacity(2 * sensitivities.len());
        for &score in sensitivities {
            let mut options = [0.0; 2];
            options[DROP] = score;
            scores.extend(options);
        }
        let mut text = format!("experts {origin}");
        for score in &scores {
            let _ = write!(text, " {:016x}", score.to_bits());
        }
        let fingerprint = sha256(text.as_bytes());
        let (form, curvature) = (FlipForm::Exact, Some(sensitivities.to_vec()));
        let measured = teacher.calibration.len();
        let aim = Aim::default();
        Self { original, map, teacher, aim, measured, form, curvature, scores, known, fingerprint }
    }

    /// Judges by the domains of the texts; without it all text counts alike.
    #[must_use]
    pub fn with_aim(mut self, aim: &Aim) -> Self {
        aim.describe(&mut self.fingerprint);
        self.aim = aim.clone();
        self
    }

    /// Takes losses and gradients on the first `batches` of the calibration text only.
    #[must_use]
    pub fn on(mut self, batches: usize) -> Self {
        self.measured = batches.clamp(1, self.teacher.calibration.len().max(1));
        let _ = write!(self.fingerprint, " on {}", self.measured);
        self
    }

    /// Another form of estimates, and whether the sensitivities are added: a comparison.
    #[must_use]
    pub fn with_form(mut self, form: FlipForm, curved: bool) -> Self {
        self.form = form;
        if !curved {
            self.curvature = None;
        }
        let _ = write!(self.fingerprint, " {form:?} {curved}");
        self
    }

    /// The model of a plan.
    ///
    /// # Errors
    /// Fewer experts left in a block than a token is sent to.
    pub fn model(&self, plan: &Assignment) -> Result<Model, ModelError> {
        let dropped = self.map.dropped(self.original.config(), plan)?;
        Ok(self.original.clone().without_experts(dropped))
    }

    fn judged(&self, plan: &Assignment, split: Split) -> Result<f64, PruneError> {
        let (taught, batches) = match split {
            Split::HeldOut => (&self.teacher.heldout, self.teacher.heldout.len()),
            _ => (&self.teacher.calibration, self.measured),
        };
        let reports = self.teacher.losses(&self.model(plan)?, taught, 0..batches)?;
        Ok(self.aim.loss(&self.aim.sums(taught, &reports), split))
    }

    /// Loss, and the change of it for every group when its option changes.
    fn changes(&self, plan: &Assignment) -> Result<(f64, Vec<f64>), PruneError> {
        let model = self.model(plan)?;
        let taught = &self.teacher.calibration;
        // What a domain counts may depend on the losses of all of its text.
        let mut by_domain = vec![vec![0.0; self.map.total()]; self.aim.domains()];
        let mut reports = Vec::with_capacity(self.measured);
        let mut before = 0;
        for n in 0..self.measured {
            let mut flips = Flips::new(self.form);
            reports.push(self.teacher.gradient(&model, taught, n, &mut flips)?);
            let batch = taught.batch(n);
            for s in 0..batch.sequences() {
                let sums = &mut by_domain[self.aim.domain(before + s)];
                for (sum, change) in sums.iter_mut().zip(flips.of_sequence(self.map, s)) {
                    *sum += batch.rows() as f64 * change;
                }
            }
            before += batch.sequences();
        }
        let sums = self.aim.sums(taught, &reports);
        let loss = self.aim.loss(&sums, Split::Calibration);
        let mut changes = vec![0.0; self.map.total()];
        for (slope, of_domain) in self.aim.slopes(&sums).into_iter().zip(by_domain) {
            for (change, sum) in changes.iter_mut().zip(of_domain) {
                *change += slope * sum;
            }
        }
        // An estimate of first order misses what the change by itself costs: at the original
        // model, where the gradient is zero, it misses everything.
        for (change, more) in changes.iter_mut().zip(self.curvature.iter().flatten()) {
            *change += more;
        }
        Ok((loss, changes))
    }
}

fn failed(error: PruneError) -> ObjectiveError {
    ObjectiveError { message: error.to_string(), source: Some(Box::new(error)) }
}

impl Objective for PruneLoss<'_> {
    fn evaluate(&mut self, plan: &Assignment, _: Draw) -> Result<Evaluation, ObjectiveError> {
        let (loss, changes) = self.changes(plan).map_err(failed)?;
        let mut gradient = vec![0.0; 2 * changes.len()];
        for (g, change) in changes.into_iter().enumerate() {
            let other = if plan.option(g) == KEEP { DROP } else { KEEP };
            gradient[2 * g + other] = change;
        }
        Ok(Evaluation { loss, gradient })
    }

    fn loss(&mut self, plan: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        self.judged(plan, split).map_err(failed)
    }

    fn proxy_scores(&self) -> Option<&[f64]> {
        Some(&self.scores)
    }

    fn known_plans(&self) -> &[(String, Assignment)] {
        &self.known
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}
