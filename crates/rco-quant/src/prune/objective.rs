//! The loss of a plan that drops experts: mean KL from the original model, routed as it will
//! be, and what single changes would do to it.

use std::fmt::Write as _;

use rco_core::Assignment;
use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_model::{
    ExpertFlips, FlipForm, GradientVisitor, Model, ModelError, WeightGradient, WeightKey,
};

use super::error::PruneError;
use super::experts::{DROP, ExpertMap, KEEP};
use crate::hash::sha256;
use crate::teacher::{Taught, Teacher};

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

    /// Change of the loss for every group.
    fn totals(&self, map: &ExpertMap) -> Vec<f64> {
        let of = |layer: usize| self.found.iter().find(|f| f.layer == layer);
        let layers = map.layers().iter();
        layers
            .flat_map(|l| of(l.layer).map_or_else(|| vec![0.0; l.experts], ExpertFlips::totals))
            .collect()
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
        Self { original, map, teacher, measured, form, curvature, scores, known, fingerprint }
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

    fn mean(&self, plan: &Assignment, taught: &Taught, batches: usize) -> Result<f64, PruneError> {
        let model = self.model(plan)?;
        let (mut sum, mut tokens) = (0.0, 0);
        for report in self.teacher.losses(&model, taught, 0..batches)? {
            sum += report.tokens.iter().map(|t| t.loss).sum::<f64>();
            tokens += report.tokens.len();
        }
        Ok(sum / tokens.max(1) as f64)
    }

    /// Loss, and the change of it for every group when its option changes.
    fn changes(&self, plan: &Assignment) -> Result<(f64, Vec<f64>), PruneError> {
        let model = self.model(plan)?;
        let taught = &self.teacher.calibration;
        let rows: usize = (0..self.measured).map(|n| taught.batch(n).rows()).sum();
        let (mut loss, mut changes) = (0.0, vec![0.0; self.map.total()]);
        for n in 0..self.measured {
            let mut flips = Flips::new(self.form);
            let report = self.teacher.gradient(&model, taught, n, &mut flips)?;
            let share = taught.batch(n).rows() as f64 / rows.max(1) as f64;
            loss += share * report.mean;
            for (sum, change) in changes.iter_mut().zip(flips.totals(self.map)) {
                *sum += share * change;
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
        let (taught, batches) = match split {
            Split::HeldOut => (&self.teacher.heldout, self.teacher.heldout.len()),
            _ => (&self.teacher.calibration, self.measured),
        };
        self.mean(plan, taught, batches).map_err(failed)
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
