//! Opening a model for a job: headers only.

use std::sync::{Arc, OnceLock};

use rco_formats::gguf::{GgufModel, Metadata};
use rco_formats::imatrix::Imatrix;
use rco_formats::inspect::{Kind, role};
use rco_model::ModelError;
use rco_model::config::ModelConfig;
use rco_model::engine::{Footprint, Load, Settings};
use rco_model::weights::GgufWeights;

use super::experts;
use super::settings::{JobSettings, MeasuredIn, Target};
use crate::error::QuantError;
use crate::foreign::Foreign;
use crate::groups::Groups;
use crate::hash::sha256_model;
use crate::menu::{Menu, covers, is_decided};
use crate::output::split_reserve;
use crate::rules;
use crate::size::{beside, weights};

/// Types of fewer bits than this share of the smallest budget's bits per weight are not on
/// the menu unless they are asked for: the search does not choose them, and the tables of
/// the encoders of the smallest ones take half a minute.
const LEAST_SHARE: f64 = 0.5;

/// The model as the engine sees it, and how it runs within the memory allowed.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) config: Arc<ModelConfig>,
    pub(super) weights: GgufWeights,
    pub(super) settings: Settings,
}

/// A job whose inputs have been opened and checked, as far as headers say.
#[derive(Debug)]
pub struct Job {
    pub(super) settings: JobSettings,
    pub(super) model: Arc<GgufModel>,
    /// What the engine runs; `None` without gradients.
    pub(super) engine: Option<Engine>,
    /// The importance matrix that was given.
    pub(super) importance: Option<Imatrix>,
    /// The options files.
    pub(super) foreign: Vec<Foreign>,
    /// The menu before anything is encoded.
    pub(super) menu: Menu,
    pub(super) ties: Vec<Vec<String>>,
    /// Budget in bytes of each order.
    pub(super) budgets: Vec<u64>,
    /// Hashes of the source and of the options files, once they are known.
    hashes: OnceLock<(String, Vec<String>)>,
}

impl Job {
    /// Opens the model and what was given besides, and checks that the budgets can be met.
    ///
    /// # Errors
    /// Files that cannot be read, an architecture that is not supported, an importance
    /// matrix or options of another model, rules that match nothing, a budget that is too small or
    /// that the source meets as it is.
    pub fn open(mut settings: JobSettings) -> Result<Self, QuantError> {
        let model = Arc::new(GgufModel::open(&settings.model)?);
        let mut budgets = Vec::with_capacity(settings.orders.len());
        for order in &settings.orders {
            budgets.push(budget_of(&model, order.target)?);
        }
        let least = budgets.iter().copied().min().unwrap_or(0);
        settings.filter.least_bits = LEAST_SHARE * 8.0 * least as f64 / weights(&model)? as f64;
        settings.filter.named = settings.pins.iter().map(rules::Pin::ty).collect();
        let engine = match settings.measured_in {
            MeasuredIn::Engine => Some(engine(&model)?),
            MeasuredIn::Runtime => None,
        };
        let importance = match &settings.imatrix {
            None => None,
            Some(path) => {
                let matrix = Imatrix::open(path)?;
                check_importance(&model, &matrix)?;
                Some(matrix)
            }
        };
        // One that is computed later covers whatever has a linear input.
        let expected = match (&importance, &engine) {
            (Some(matrix), _) => Some(matrix.clone()),
            (None, Some((config, _))) => Some(full_importance(&model, config.tied)?),
            (None, None) => None,
        };
        let foreign = Foreign::open_all(&settings.options, &model)?;
        let mut menu = Menu::new(&model, &settings.filter, expected.as_ref(), &foreign)?;
        rules::pin(&mut menu, &settings.pins)?;
        let ties = rules::ties(&menu, &settings.ties, settings.fuse_friendly)?;
        rules::align(&mut menu, &ties)?;
        let hashes = OnceLock::new();
        if let Some(limit) = settings.memory {
            let needed = encoding_bytes(&menu);
            if needed > limit {
                return Err(ModelError::TooLittleMemory { needed, limit }.into());
            }
        }
        let engine = match engine {
            None => None,
            Some((config, weights)) => {
                let mut run = Settings::default();
                if let Some(limit) = settings.memory {
                    let load = load(&config, &weights, &menu, &settings);
                    run = run.within(limit, &config, &load)?;
                }
                Some(Engine { config, weights, settings: run })
            }
        };
        let job =
            Self { settings, model, engine, importance, foreign, menu, ties, budgets, hashes };
        let smallest = job.smallest_groups()?;
        for &budget in &job.budgets {
            smallest.problem(budget, &[])?;
            let source_bytes = job.model.file_size();
            if source_bytes <= budget {
                return Err(QuantError::SourceFits { source_bytes, budget });
            }
        }
        Ok(job)
    }

    /// The settings.
    pub fn settings(&self) -> &JobSettings {
        &self.settings
    }

    /// The model.
    pub fn model(&self) -> &Arc<GgufModel> {
        &self.model
    }

    /// SHA-256 of the source, and of each options file; of files in several parts over all
    /// parts. Reads all of them the first time.
    ///
    /// # Errors
    /// A failed read.
    pub fn hashes(&self) -> Result<&(String, Vec<String>), QuantError> {
        if let Some(known) = self.hashes.get() {
            return Ok(known);
        }
        let foreign = self.foreign.iter().map(Foreign::sha256).collect::<Result<_, _>>()?;
        let found = (sha256_model(&self.model)?, foreign);
        Ok(self.hashes.get_or_init(|| found))
    }

    /// Bytes of the file that each order allows.
    pub fn budgets(&self) -> &[u64] {
        &self.budgets
    }

    /// What the engine is to hold, and how; `None` without it.
    pub(super) fn footprint(&self) -> Option<Footprint> {
        let Engine { config, weights, settings } = self.engine.as_ref()?;
        let load = load(config, weights, &self.menu, &self.settings);
        Some(Footprint::of(config, settings, &load))
    }

    /// Bytes that the headers of further parts take at most, for the largest budget.
    pub(super) fn split_reserve(&self, metadata: &Metadata) -> Result<u64, QuantError> {
        let largest = self.budgets.iter().copied().max().unwrap_or(0);
        match self.settings.split {
            Some(part) => split_reserve(metadata, largest, part),
            None => Ok(0),
        }
    }

    /// The menu as groups of the smallest version that may be made, as far as its size goes.
    pub(super) fn smallest_groups(&self) -> Result<Groups, QuantError> {
        match &self.engine {
            Some(engine) if self.settings.drop_experts => {
                let (version, kept) = experts::smallest(&self.model, &engine.config)?;
                self.groups_of(&self.menu, &version, kept)
            }
            _ => self.groups_of(&self.menu, &self.model, Vec::new()),
        }
    }
}

/// The model for the engine.
fn engine(model: &Arc<GgufModel>) -> Result<(Arc<ModelConfig>, GgufWeights), QuantError> {
    let config = match ModelConfig::from_gguf(model) {
        Err(
            error @ (ModelError::UnknownArchitecture { .. }
            | ModelError::Unsupported { .. }
            | ModelError::UnexpectedWeight { .. }),
        ) => {
            return Err(QuantError::NoEngine(Box::new(error)));
        }
        config => Arc::new(config?),
    };
    let weights = GgufWeights::new(Arc::clone(model), &config)?;
    Ok((config, weights))
}

/// The largest gradient that the search takes.
fn load(config: &ModelConfig, weights: &GgufWeights, menu: &Menu, settings: &JobSettings) -> Load {
    let work = settings.effort.plan();
    let decided = |name: &str| {
        menu.choices.iter().any(|choice| choice.tensor.name == name && choice.forms.len() > 1)
    };
    let wanted = weights.tensors().filter(|(name, _)| decided(name));
    Load {
        sequences: work.per_gradient,
        length: work.window,
        gradient: true,
        head_gradient: Load::has_head(config, wanted.flat_map(|(_, keys)| keys.iter().copied())),
        taught: (work.calibration + work.heldout) * work.window,
    }
}

/// Bytes that encoding the largest tensor takes: as it is in the file, decoded, encoded, and
/// decoded again.
pub(super) fn encoding_bytes(menu: &Menu) -> u64 {
    let bytes = |choice: &crate::menu::Choice| {
        let source = choice.tensor.byte_length().ok().flatten().unwrap_or(0);
        2 * source + 8 * choice.weights
    };
    menu.choices.iter().map(bytes).max().unwrap_or(0) + (256 << 20)
}

/// Bytes of the file that a target allows.
///
/// # Errors
/// Sizes that overflow, metadata without what a cache depends on.
pub fn budget_of(model: &GgufModel, target: Target) -> Result<u64, QuantError> {
    Ok(match target {
        Target::Size(bytes) => bytes,
        Target::Bpw(bits) => bits.bytes(weights(model)?),
        Target::Memory { bytes, context, kv, parallel } => {
            let beside = beside(model.metadata(), context, parallel, kv)?;
            bytes.saturating_sub(beside.kv_cache).saturating_sub(beside.compute)
        }
    })
}

/// An importance matrix that covers every matrix that is multiplied with something.
fn full_importance(model: &GgufModel, tied: bool) -> Result<Imatrix, QuantError> {
    use rco_formats::imatrix::ImatrixEntry;
    let mut entries = Vec::new();
    for (_, info) in model.tensors() {
        let spec = &info.spec;
        let looked_up = role(&spec.name).kind == Kind::Embedding && !tied;
        if !is_decided(spec) || looked_up {
            continue;
        }
        let matrices = spec.shape.iter().skip(2).product::<u64>() as usize;
        let sums = vec![1.0; spec.row_length() as usize * matrices];
        entries.push(ImatrixEntry::new(&spec.name, sums, vec![1.0; matrices])?);
    }
    Ok(Imatrix::new(entries)?)
}

/// Refuses a matrix of another model.
fn check_importance(model: &GgufModel, matrix: &Imatrix) -> Result<(), QuantError> {
    let foreign = |problem| QuantError::ForeignImportance { problem };
    for entry in matrix.entries() {
        let Some((_, info)) = model.tensor(&entry.name) else {
            return Err(foreign(format!("the model has no tensor {}", entry.name)));
        };
        let matrices = info.spec.shape.iter().skip(2).product();
        matrix.importance(&entry.name, info.spec.row_length(), matrices)?;
    }
    if !model.tensors().any(|(_, t)| is_decided(&t.spec) && covers(matrix, &t.spec)) {
        return Err(foreign("it covers none of the tensors".to_owned()));
    }
    Ok(())
}
