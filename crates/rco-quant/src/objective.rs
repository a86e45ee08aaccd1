//! The loss of a plan: mean KL from the original model, and its option gradients.

use std::fmt::Write as _;
use std::sync::Arc;

use rco_core::Assignment;
use rco_core::rng::{Purpose, stream};
use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split, Strain};
use rco_formats::gguf::GgufModel;
use rco_model::config::ModelConfig;
use rco_model::engine::{OptionGradients, OptionTensors, Settings};
use rco_model::weights::{GgufWeights, WeightSource};
use rco_model::{Model, WeightKey};

use crate::database::OptionDatabase;
use crate::error::QuantError;
use crate::groups::Groups;
use crate::hash::sha256;
use crate::menu::Choice;
use crate::teacher::{Taught, Teacher};

/// A model whose weights may take several forms: what a plan is a plan of.
pub trait PlanModels: std::fmt::Debug {
    /// The original model.
    ///
    /// # Errors
    /// Weights that do not fit the configuration.
    fn original(&self) -> Result<Model, QuantError>;

    /// The model of a plan.
    ///
    /// # Errors
    /// Weights that do not fit the configuration.
    fn model(&self, plan: &Assignment) -> Result<Model, QuantError>;

    /// Options whose gradient is wanted at `plan`, or at the original: all but the chosen
    /// ones, whose difference from the weights at hand is 0, and none of groups with one
    /// option.
    fn options(&self, plan: Option<&Assignment>) -> OptionTensors;

    /// The original weight of every group that is something else in `plan`, in the slot of the
    /// group's number. `None`, the default, where the errors of a group's options are not as good
    /// as independent.
    fn originals(&self, _plan: &Assignment) -> Option<OptionTensors> {
        None
    }

    /// First flat option of each group; the last entry is their number, without the group of
    /// the rest.
    fn offsets(&self) -> &[usize];

    /// Number of options of all groups.
    fn option_count(&self) -> usize {
        self.offsets().last().copied().unwrap_or(0)
    }
}

impl PlanModels for Candidates {
    fn original(&self) -> Result<Model, QuantError> {
        Candidates::original(self)
    }

    fn model(&self, plan: &Assignment) -> Result<Model, QuantError> {
        Candidates::model(self, plan)
    }

    fn options(&self, plan: Option<&Assignment>) -> OptionTensors {
        Candidates::options(self, plan)
    }

    fn originals(&self, plan: &Assignment) -> Option<OptionTensors> {
        let mut out = OptionTensors::default();
        let source = Arc::new(self.source.clone());
        for (g, keys) in self.keys.iter().enumerate() {
            if self.source_option(g) != Some(plan.option(g)) {
                for &key in keys {
                    out.add(g, key, Arc::clone(&source) as Arc<dyn WeightSource>);
                }
            }
        }
        Some(out)
    }

    fn offsets(&self) -> &[usize] {
        &self.offsets
    }
}

/// A model whose tensors may take the types of an option database.
#[derive(Debug)]
pub struct Candidates {
    config: Arc<ModelConfig>,
    source: GgufWeights,
    settings: Settings,
    /// `sources[group][option]`: where the group's weights are found in that form.
    sources: Vec<Vec<Arc<GgufWeights>>>,
    /// Weights of each group.
    keys: Vec<Vec<WeightKey>>,
    choices: Vec<Choice>,
    database: OptionDatabase,
    /// First flat option of each group; the last entry is their number, without the
    /// group of the rest.
    offsets: Vec<usize>,
}

impl Candidates {
    /// Joins the model with its options.
    ///
    /// # Errors
    /// A database that lacks an option, or weights that do not fit the configuration.
    pub fn new(
        config: Arc<ModelConfig>,
        source: GgufWeights,
        groups: &Groups,
        database: OptionDatabase,
        settings: Settings,
    ) -> Result<Self, QuantError> {
        // One set of weights for each file serves all groups.
        let mut by_file: Vec<(Arc<GgufModel>, Vec<&str>)> = Vec::new();
        let choices = &groups.menu().choices;
        let file_of = |choice: &Choice, form| {
            database.file(choice, form).ok_or_else(|| {
                let form = groups.menu().named(form);
                let problem = format!("it has no {form} of {}", choice.tensor.name);
                QuantError::ForeignOptions { path: "the option database".to_owned(), problem }
            })
        };
        for choice in choices {
            let name = choice.tensor.name.as_str();
            for &form in choice.forms.iter().filter(|&&form| form != choice.source()) {
                let file = file_of(choice, form)?;
                match by_file.iter_mut().find(|(f, _)| Arc::ptr_eq(f, file)) {
                    Some((_, names)) => names.push(name),
                    None => by_file.push((Arc::clone(file), vec![name])),
                }
            }
        }
        let mut weights: Vec<(Arc<GgufModel>, Arc<GgufWeights>)> = Vec::new();
        for (file, names) in by_file {
            let chosen = names.into_iter().map(|name| (name, Arc::clone(&file)));
            let joined = Arc::new(source.with_choices(chosen)?);
            weights.push((file, joined));
        }
        let original = Arc::new(source.clone());
        let mut sources = Vec::new();
        let mut keys = Vec::new();
        let mut offsets = vec![0];
        for choice in choices {
            let mut options = Vec::with_capacity(choice.forms.len());
            for &form in &choice.forms {
                let file = file_of(choice, form)?;
                let found = weights.iter().find(|(f, _)| Arc::ptr_eq(f, file));
                // Only the source itself is not among them.
                options.push(Arc::clone(found.map_or(&original, |(_, joined)| joined)));
            }
            offsets.push(offsets[offsets.len() - 1] + options.len());
            sources.push(options);
            let found = source.tensors().find(|(name, _)| *name == choice.tensor.name);
            keys.push(found.map(|(_, keys)| keys.to_vec()).unwrap_or_default());
        }
        let choices = choices.clone();
        Ok(Self { config, source, settings, sources, keys, choices, database, offsets })
    }

    /// The original model.
    ///
    /// # Errors
    /// Weights that do not fit the configuration.
    pub fn original(&self) -> Result<Model, QuantError> {
        Ok(Model::new(Arc::clone(&self.config), Arc::new(self.source.clone()), self.settings)?)
    }

    /// The model of a plan.
    ///
    /// # Errors
    /// Weights that do not fit the configuration.
    pub fn model(&self, plan: &Assignment) -> Result<Model, QuantError> {
        let weights = Arc::new(self.weights(plan)?);
        Ok(Model::new(Arc::clone(&self.config), weights, self.settings)?)
    }

    /// The weights of a plan.
    ///
    /// # Errors
    /// Tensors that are missing.
    pub(crate) fn weights(&self, plan: &Assignment) -> Result<GgufWeights, QuantError> {
        let mut chosen = Vec::with_capacity(self.choices.len());
        for (g, choice) in self.choices.iter().enumerate() {
            let form = choice.forms[plan.option(g)];
            if form != choice.source()
                && let Some(file) = self.database.file(choice, form)
            {
                chosen.push((choice.tensor.name.as_str(), Arc::clone(file)));
            }
        }
        Ok(self.source.with_choices(chosen)?)
    }

    /// The weights of a group.
    pub(crate) fn keys(&self, group: usize) -> &[WeightKey] {
        &self.keys[group]
    }

    /// Number of options of all groups.
    pub fn option_count(&self) -> usize {
        self.offsets[self.offsets.len() - 1]
    }

    /// Options whose gradient is wanted at `plan`: all but the chosen ones, whose difference
    /// from the weights at hand is 0, and none of groups with one option.
    pub(crate) fn options(&self, plan: Option<&Assignment>) -> OptionTensors {
        let mut out = OptionTensors::default();
        for (g, sources) in self.sources.iter().enumerate() {
            let chosen = plan.map_or_else(|| self.source_option(g), |p| Some(p.option(g)));
            if sources.len() < 2 {
                continue;
            }
            for (k, source) in sources.iter().enumerate().filter(|(k, _)| Some(*k) != chosen) {
                for &key in &self.keys[g] {
                    let source = Arc::clone(source) as Arc<dyn WeightSource>;
                    out.add(self.offsets[g] + k, key, source);
                }
            }
        }
        out
    }

    /// The option of a group that is the source itself; a pin may have removed it.
    fn source_option(&self, group: usize) -> Option<usize> {
        let choice = &self.choices[group];
        choice.forms.iter().position(|&form| form == choice.source())
    }

    /// Another file of the same model.
    ///
    /// # Errors
    /// Tensors of other names or shapes.
    pub fn other(&self, file: Arc<GgufModel>) -> Result<Model, QuantError> {
        let weights = GgufWeights::new(file, &self.config)?;
        Ok(Model::new(Arc::clone(&self.config), Arc::new(weights), self.settings)?)
    }

    /// First flat option of each group, and their number.
    pub(crate) fn offsets(&self) -> &[usize] {
        &self.offsets
    }
}

/// The mean KL of plans from the original model, as the search sees it.
#[derive(Debug)]
pub struct PlanLoss<'a> {
    candidates: &'a dyn PlanModels,
    teacher: &'a Teacher,
    /// Batches that a plan is measured on when moves are accepted.
    measured: usize,
    seed: u64,
    /// Separable scores of all options, the rest's 0 last.
    scores: Vec<f64>,
    known: Vec<(String, Assignment)>,
    /// Half the curvature of the loss along each option's difference from the source.
    curvature: Option<Vec<f64>>,
    fingerprint: String,
}

impl<'a> PlanLoss<'a> {
    /// A loss with separable `scores` (flat order of the groups of the menu) and plans known
    /// from elsewhere. `measured` batches of the calibration text measure a plan.
    pub fn new(
        candidates: &'a dyn PlanModels,
        teacher: &'a Teacher,
        measured: usize,
        seed: u64,
        mut scores: Vec<f64>,
        known: Vec<(String, Assignment)>,
        origin: &str,
    ) -> Self {
        // The group of the rest has one option.
        scores.push(0.0);
        let mut text = format!("{origin} {measured} {seed}");
        for taught in [&teacher.calibration, &teacher.heldout] {
            for n in 0..taught.len() {
                let _ = write!(text, "|{:?}", taught.batch(n).tokens());
            }
        }
        for score in &scores {
            let _ = write!(text, " {:016x}", score.to_bits());
        }
        let fingerprint = sha256(text.as_bytes());
        Self { candidates, teacher, measured, seed, scores, known, curvature: None, fingerprint }
    }

    /// Adds to the option gradients what their straight line misses: `half` holds half the
    /// curvature of the loss along each option's difference from the source (the scores of
    /// [`crate::fisher`]).
    ///
    /// Moving a tensor from option `c` to `k` takes away the error `e_c` and brings in `e_k`.
    /// The gradient says `⟨∇L, e_k − e_c⟩`, of which `−2·s_c` is the tensor's own part with
    /// `s = ½ eᵀHe`: to first order every other option looks better by that, however coarse
    /// it is. The errors of two types are as good as independent, so the second-order term
    /// `½ (e_k − e_c)ᵀ H (e_k − e_c)` is `s_k + s_c`; with it the own part becomes
    /// `s_k − s_c`, and what the gradient knows of the other tensors stays.
    #[must_use]
    pub fn with_curvature(mut self, half: Vec<f64>) -> Self {
        self.fingerprint.push_str(" curvature");
        self.curvature = Some(half);
        self
    }

    /// The batch of a draw: each pass through the text takes them in another order.
    fn batch_of(&self, draw: Draw) -> usize {
        let count = self.teacher.calibration.len() as u64;
        let (pass, place) = (draw.0 / count, draw.0 % count);
        stream(self.seed, Purpose::Draw, pass).order(count as usize)[place as usize]
    }

    fn mean(
        &self,
        plan: &Assignment,
        taught: &Taught,
        batches: impl Iterator<Item = usize>,
    ) -> Result<f64, QuantError> {
        Ok(self.teacher.mean(&self.candidates.model(plan)?, taught, batches)?)
    }

    fn gradient(&self, plan: &Assignment, draw: Draw) -> Result<Evaluation, QuantError> {
        let model = self.candidates.model(plan)?;
        let options = self.candidates.options(Some(plan));
        let mut visitor = OptionGradients::new(&options, []);
        let taught = &self.teacher.calibration;
        let report = self.teacher.gradient(&model, taught, self.batch_of(draw), &mut visitor)?;
        let mut gradient = visitor.into_values();
        // Slots end with the last option that was asked for.
        gradient.resize(self.candidates.option_count() + 1, 0.0);
        if let Some(half) = &self.curvature {
            for (g, range) in self.candidates.offsets().windows(2).map(|w| w[0]..w[1]).enumerate() {
                let chosen = range.start + plan.option(g);
                for j in range.filter(|&j| j != chosen) {
                    gradient[j] += half[j] + half[chosen];
                }
            }
        }
        Ok(Evaluation { loss: report.mean, gradient })
    }
}

impl PlanLoss<'_> {
    /// What is between a plan and the original is the error of the plan.
    fn strain_of(&self, plan: &Assignment, draw: Draw) -> Result<Option<Strain>, QuantError> {
        let Some(originals) = self.candidates.originals(plan) else { return Ok(None) };
        let model = self.candidates.model(plan)?;
        let mut visitor = OptionGradients::new(&originals, []);
        let taught = &self.teacher.calibration;
        let report = self.teacher.gradient(&model, taught, self.batch_of(draw), &mut visitor)?;
        let mut groups: Vec<f64> = visitor.into_values().into_iter().map(|g| -g).collect();
        // The rest has no error.
        groups.resize(self.candidates.offsets().len(), 0.0);
        Ok(Some(Strain { loss: report.mean, groups }))
    }
}

fn failed(error: QuantError) -> ObjectiveError {
    ObjectiveError { message: error.to_string(), source: Some(Box::new(error)) }
}

impl Objective for PlanLoss<'_> {
    fn evaluate(&mut self, plan: &Assignment, draw: Draw) -> Result<Evaluation, ObjectiveError> {
        self.gradient(plan, draw).map_err(failed)
    }

    fn strain(&mut self, plan: &Assignment, draw: Draw) -> Result<Option<Strain>, ObjectiveError> {
        self.strain_of(plan, draw).map_err(failed)
    }

    fn loss(&mut self, plan: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        let (calibration, heldout) = (&self.teacher.calibration, &self.teacher.heldout);
        let loss = match split {
            Split::Draws { first, count } => {
                let draws = (0..u64::from(count)).map(|n| self.batch_of(Draw(first.0 + n)));
                self.mean(plan, calibration, draws)
            }
            Split::HeldOut => self.mean(plan, heldout, 0..heldout.len()),
            _ => self.mean(plan, calibration, 0..self.measured.min(calibration.len())),
        };
        loss.map_err(failed)
    }

    fn proxy_scores(&self) -> Option<&[f64]> {
        Some(&self.scores)
    }

    fn known_plans(&self) -> &[(String, Assignment)] {
        &self.known
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}
