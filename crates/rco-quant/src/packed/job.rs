//! From a folder and a number of bytes to a packed folder that has been read again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_core::search::SearchOutcome;
use rco_core::{Assignment, Problem};
use rco_formats::safetensors::HfFolder;
use rco_model::Model;
use rco_model::engine::Settings;
use rco_model::eval::{Comparison, Summary};
use rco_model::weights::open_folder;
use serde::Serialize;

use super::candidates::FolderModels;
use super::database::{Build, OptionDatabase};
use super::error::PackedError;
use super::folder::{FolderPlan, shard_bytes, written_plan};
use super::foreign::ForeignFolder;
use super::known;
use super::menu::{Form, Linear, Menu};
use super::price::{RulePrice, prices};
use super::scales::TunedScales;
use super::settings::{Limit, PackSettings};
use super::sizes::Sizes;
use super::source::Source;
use super::texts::Texts;
use crate::error::QuantError;
use crate::fisher;
use crate::hash::{sha256, sha256_folder};
use crate::job::Reporter;
use crate::objective::{PlanLoss, PlanModels};
use crate::samples::SampleFile;
use crate::scales::TuningOutcome;
use crate::search_folder::search_in;
use crate::states::StateCache;
use crate::teacher::Teacher;

/// Relative difference allowed between the model of the plan and what was written.
const SAME: f64 = 1e-3;
/// Nats allowed besides.
const SAME_NATS: f64 = 1e-6;

/// A job whose inputs have been opened and checked, as far as headers say.
#[derive(Debug)]
pub struct PackJob {
    pub(super) settings: PackSettings,
    pub(super) source: Source,
    pub(super) foreign: Vec<ForeignFolder>,
    pub(super) menu: Menu,
    /// Budget in bytes of each order, and what counts towards it.
    pub(super) budgets: Vec<(u64, Sizes)>,
}

/// Everything that a search needs, whatever the budget.
#[derive(Debug)]
pub struct PackPrepared {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// Every matrix in every form.
    pub database: OptionDatabase,
    /// The model in every form.
    pub models: FolderModels,
    /// The original on the texts.
    pub teacher: Teacher,
    /// Windows that scales are tuned on: all but those that only choose and report.
    pub windows: Vec<Vec<u32>>,
    /// Scores of all options in the flat order.
    pub scores: Vec<f64>,
    /// What all of this was made from.
    pub origin: String,
}

/// A folder that was made, or that a plan was made for.
#[derive(Debug, Clone, Serialize)]
pub struct FolderOutcome {
    /// The folder.
    pub path: PathBuf,
    /// Budget in bytes.
    pub budget: u64,
    /// Bytes that count towards it: of the files of tensors, or of the matrices.
    pub bytes: u64,
    /// Bytes of the files of tensors in packed form.
    pub tensor_bytes: u64,
    /// Bytes of the files that were written.
    pub written_bytes: u64,
    /// Bits of the matrices for each of their weights, scales and zero points included.
    pub linear_bpw: f64,
    /// Bits of the files of tensors for each weight.
    pub bpw: f64,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// Form of every matrix.
    pub plan: Vec<(String, String)>,
    /// The search.
    pub search: SearchOutcome,
    /// How its scales were tuned, if they were.
    pub tuning: Option<TuningOutcome>,
    /// What the rules of the runtime cost, by the scores that the search starts from.
    pub rules: Vec<RulePrice>,
    /// Experts that saw too few tokens and were rounded to the nearest.
    pub nearest: Vec<String>,
    /// What was written, read again, against the original on held-out text.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What a job has made.
#[derive(Debug, Clone, Serialize)]
pub struct PackOutcome {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// Bytes of the source's files of tensors.
    pub source_bytes: u64,
    /// The folders, in the order of the orders.
    pub folders: Vec<FolderOutcome>,
}

impl PackJob {
    /// Opens the folder and checks that what is asked for can be done.
    ///
    /// # Errors
    /// A folder that cannot be read, is quantised or contradicts its configuration, settings
    /// that fit no grid or runtime, a budget that cannot be met.
    pub fn open(settings: PackSettings) -> Result<Self, PackedError> {
        let source = Source::open(&settings.model)?;
        if settings.texts.is_empty() {
            return Err(PackedError::NoText);
        }
        let foreign = ForeignFolder::open_all(&settings.options, &source, settings.runtime)?;
        let menu = Menu::new(&source, &settings, &foreign)?;
        let whole = Sizes::new(&source, &menu, shard_bytes(&source, &settings))?;
        let matrices = Sizes::of_matrices(&menu)?;
        let weights = source.folder().tensors().map(|(_, t)| t.elements()).sum();
        let mut budgets = Vec::with_capacity(settings.orders.len());
        for order in &settings.orders {
            let (budget, sizes) = match order.limit {
                Limit::Bytes(bytes) => (bytes, &whole),
                Limit::Bpw(bits) => (bits.bytes(weights), &whole),
                Limit::LinearBpw(bits) => (bits.bytes(menu.weights()), &matrices),
            };
            sizes.problem(&menu, &menu.ties(), budget)?;
            let (_, largest) = sizes.range();
            if largest <= budget {
                let source_bytes = largest;
                return Err(PackedError::SourceFits { source_bytes, budget });
            }
            budgets.push((budget, sizes.clone()));
        }
        Ok(Self { settings, source, foreign, menu, budgets })
    }

    /// The settings.
    pub fn settings(&self) -> &PackSettings {
        &self.settings
    }

    /// The source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The folders of options.
    pub fn foreign(&self) -> &[ForeignFolder] {
        &self.foreign
    }

    /// The matrices and their forms.
    pub fn menu(&self) -> &Menu {
        &self.menu
    }

    /// Bytes that an order allows.
    ///
    /// # Panics
    /// If there are not so many orders, as all that take the number of an order.
    pub fn budget(&self, order: usize) -> u64 {
        self.budgets[order].0
    }

    /// The problem of an order: a group for each matrix, tied as the runtime asks for, and one
    /// for the rest.
    ///
    /// # Errors
    /// Ties that cannot be.
    pub fn problem(&self, order: usize) -> Result<Problem, PackedError> {
        let (budget, sizes) = &self.budgets[order];
        sizes.problem(&self.menu, &self.menu.ties(), *budget)
    }

    /// What a plan takes of the budget of an order, in bytes.
    pub fn bytes(&self, order: usize, plan: &Assignment) -> u64 {
        self.budgets[order].1.bytes(plan)
    }

    /// Plans with one form everywhere, whatever their size. They keep to all ties.
    pub fn uniform_plans(&self) -> Vec<(String, Assignment)> {
        known::uniform(&self.menu)
    }

    /// Plans that compete with those of the search for an order.
    pub fn known(&self, order: usize) -> Vec<(String, Assignment)> {
        let (budget, sizes) = &self.budgets[order];
        known::plans(&self.menu, &self.foreign, sizes, *budget)
    }

    /// SHA-256 of the source's tensors. Reads all of them.
    ///
    /// # Errors
    /// A failed read.
    pub fn source_sha256(&self) -> Result<String, PackedError> {
        Ok(sha256_folder(self.source.folder())?)
    }

    /// Tokens of a window: what the effort says, the model's context permitting.
    pub fn window(&self) -> usize {
        let config = self.source.folder().config();
        let context = config.get("max_position_embeddings").and_then(serde_json::Value::as_u64);
        let context = usize::try_from(context.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        self.settings.effort.plan().window.min(context).max(2)
    }

    /// All that comes before the search; what the run folder holds already is not computed
    /// again.
    ///
    /// # Errors
    /// Whatever any of the stages meets.
    pub fn prepare(
        &self,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<PackPrepared, PackedError> {
        let Self { settings, source, foreign, menu, .. } = self;
        let work = settings.effort.plan();
        reporter.stage("reading the model", None);
        let source_sha256 = self.source_sha256()?;
        source.check_finite()?;
        let mut options = String::new();
        for folder in foreign {
            folder.check_rest(source)?;
            let _ = write!(options, " {}", folder.sha256()?);
        }
        reporter.stage("preparing text", None);
        let texts = Texts::new(source, &settings.texts, &work, self.window(), settings.seed)?;
        if let Some((found, best)) = texts.too_few(&work) {
            reporter.note(&format!(
                "the text has {found} of the {best} calibration windows that are best for this \
                 effort: give more text for better options and plans"
            ));
        }
        let (calibration, heldout) = texts.batches(work.per_gradient)?;
        let origin = format!("{source_sha256} {} {}", texts.sha256(), work.per_gradient);

        let weights = source.weights()?;
        let config = Arc::clone(source.config());
        let model = Model::new(Arc::clone(&config), Arc::clone(&weights), Settings::default())?;
        let build = Build {
            source,
            menu,
            settings,
            foreign,
            model: &model,
            batches: &texts.moments(work.per_gradient)?,
            origin: &format!("{origin}{options}"),
        };
        let database = OptionDatabase::build(&build, &folder.join("options"), reporter)?;
        let few = database.too_few(menu);
        if !few.is_empty() {
            let count = few.len();
            reporter.note(&format!(
                "{count} matrices of experts saw too few tokens for GPTQ and are rounded to the \
                 nearest: give more text"
            ));
        }
        let models = FolderModels::new(config, weights, menu, &database)?;

        reporter.stage("original model", Some((calibration.len() + heldout.len()) as u64));
        let mut cache = StateCache::open(&folder.join("teacher"), &origin)?;
        let mut advance = |done: usize| reporter.advance(done as u64, "");
        let teacher = Teacher::new(&model, calibration, heldout, &mut cache, &mut advance)?;

        let wanted = work.fisher_packed();
        reporter.stage("sensitivities", Some(wanted));
        let errors = database.errors(menu);
        let mut of_samples = format!(
            "{origin} {} {} parts of {}",
            settings.seed,
            settings.factor.act_order,
            fisher::PART
        );
        of_samples.push_str(&options);
        for error in &errors {
            let _ = write!(of_samples, " {:016x}", error.to_bits());
        }
        let of_samples = sha256(of_samples.as_bytes());
        let count = models.option_count();
        let mut file = SampleFile::open(&folder.join("fisher.jsonl"), &of_samples, count)?;
        for index in file.samples().len() as u64..wanted {
            reporter.advance(index, "");
            let batch = texts.window(index as usize)?;
            file.push(fisher::sample_in_parts(&models, &batch, settings.seed, index)?)?;
        }
        let samples = &file.samples()[..wanted as usize];
        let scores = fisher::scores(samples, &errors, models.offsets());
        let origin = of_samples;
        let windows = texts.all();
        Ok(PackPrepared { source_sha256, database, models, teacher, windows, scores, origin })
    }

    /// Searches a plan for every order.
    ///
    /// # Errors
    /// Whatever the searches meet.
    pub fn search(
        &self,
        prepared: &PackPrepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<SearchOutcome>, PackedError> {
        let orders = 0..self.budgets.len();
        orders.map(|n| self.search_one(n, prepared, folder, reporter)).collect()
    }

    fn search_one(
        &self,
        n: usize,
        prepared: &PackPrepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<SearchOutcome, PackedError> {
        let budget = self.budget(n);
        let work = self.settings.effort.plan();
        let (problem, known) = (self.problem(n)?, self.known(n));
        let run = folder.join(format!("search-{n}-{budget}"));
        let PackPrepared { models, teacher, scores, origin, .. } = prepared;
        let (measured, seed) = (work.measured_batches(), self.settings.seed);
        let loss = PlanLoss::new(models, teacher, measured, seed, scores.clone(), known, origin);
        let mut loss = loss.with_curvature(scores.clone());
        Ok(search_in(&run, &problem, &mut loss, work.search_packed(seed), reporter)?)
    }

    /// The forms that an assignment chooses, in the order of the menu.
    pub fn forms(&self, plan: &Assignment) -> Vec<Form> {
        let linears = self.menu.linears.iter().enumerate();
        linears.map(|(n, linear)| linear.forms[plan.option(n)]).collect()
    }

    /// SHA-256 of a plan: of a line `module form` for each matrix, and of one for tuned scales.
    fn plan_sha256(&self, forms: &[Form], tuned: Option<&TunedScales>) -> String {
        let mut text = String::new();
        for (linear, form) in self.menu.linears.iter().zip(forms) {
            let _ = writeln!(text, "{} {form}", linear.module);
        }
        if let Some(scales) = tuned.and_then(TunedScales::sha256) {
            let _ = writeln!(text, "scales {scales}");
        }
        sha256(text.as_bytes())
    }

    /// Tunes the scales of every plan, writes its folder, reads it again and compares it with the
    /// original.
    ///
    /// # Errors
    /// A plan above its budget, and whatever tuning, writing and checking meet.
    pub fn build(
        &self,
        prepared: &PackPrepared,
        plans: &[SearchOutcome],
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<PackOutcome, PackedError> {
        let mut folders = Vec::with_capacity(plans.len());
        for (n, search) in plans.iter().enumerate() {
            let plan = &search.assignment;
            let tuned = match self.settings.tuning_steps() {
                0 => None,
                _ => Some(self.tune(
                    n,
                    prepared,
                    plan,
                    Some(search.loss_heldout),
                    folder,
                    reporter,
                )?),
            };
            folders.push(self.build_one(n, prepared, search, tuned.as_ref(), reporter)?);
        }
        Ok(PackOutcome {
            source_sha256: prepared.source_sha256.clone(),
            source_bytes: self.source.folder().file_size(),
            folders,
        })
    }

    fn build_one(
        &self,
        n: usize,
        prepared: &PackPrepared,
        search: &SearchOutcome,
        tuned: Option<&TunedScales>,
        reporter: &mut dyn Reporter,
    ) -> Result<FolderOutcome, PackedError> {
        let (budget, sizes) = &self.budgets[n];
        let path = &self.settings.orders[n].output;
        let Self { settings, source, menu, .. } = self;
        let PackPrepared { database, .. } = prepared;
        let forms = self.forms(&search.assignment);
        let plan_sha256 = self.plan_sha256(&forms, tuned);
        let matrix = |linear: &Linear, form| {
            let tuned = tuned.and_then(|tuned| tuned.matrix(&linear.module));
            tuned.or_else(|| database.matrix(linear, form))
        };
        let plan = |settings: &PackSettings| {
            FolderPlan::new(source, menu, &matrix, &forms, settings, &plan_sha256)
        };
        let folder = plan(settings)?;
        let packed = PackSettings { format: super::Output::CompressedTensors, ..settings.clone() };
        let tensor_bytes = plan(&packed)?.tensor_bytes(path)?;
        let linear_bytes: u64 =
            menu.linears.iter().zip(&forms).filter_map(|(l, &form)| l.data_bytes(form)).sum();
        let bytes = if sizes.rest() > 0 { tensor_bytes } else { linear_bytes };
        if bytes > *budget {
            return Err(QuantError::PlanTooLarge { budget: *budget, bytes }.into());
        }
        reporter.stage("writing", None);
        // A run that was killed after this point finds its folder there.
        let own = written_plan(path).is_some_and(|found| found == plan_sha256);
        let predicted = folder.tensor_bytes(path)?;
        let written_bytes = folder.write(path, settings.force || own)?;
        if written_bytes != predicted {
            let problem = format!("{predicted} bytes were predicted, {written_bytes} written");
            return Err(PackedError::Differs { path: path.clone(), problem });
        }
        let expected = tuned.map_or(search.loss_heldout, TunedScales::loss);
        let summary = check(path, prepared, expected, reporter)?;
        let weights: u64 = source.folder().tensors().map(|(_, t)| t.elements()).sum();
        let names = menu.linears.iter().map(|linear| linear.module.clone());
        Ok(FolderOutcome {
            path: path.clone(),
            budget: *budget,
            bytes,
            tensor_bytes,
            written_bytes,
            linear_bpw: 8.0 * linear_bytes as f64 / menu.weights() as f64,
            bpw: 8.0 * tensor_bytes as f64 / weights as f64,
            plan_sha256,
            plan: names.zip(forms.iter().map(ToString::to_string)).collect(),
            search: search.clone(),
            tuning: tuned.map(|tuned| tuned.outcome().clone()),
            rules: prices(menu, sizes, *budget, &prepared.scores)?,
            nearest: database.too_few(menu),
            summary,
        })
    }
}

/// Reads what was written and compares it with the original and with the plan.
fn check(
    path: &Path,
    prepared: &PackPrepared,
    expected: f64,
    reporter: &mut dyn Reporter,
) -> Result<Summary, PackedError> {
    let taught = &prepared.teacher.heldout;
    reporter.stage("reading it again", Some(taught.len() as u64));
    let (config, weights) = open_folder(HfFolder::open(path)?)?;
    let written = Model::new(Arc::new(config), weights, Settings::default())?;
    let mut comparison = Comparison::default();
    for report in prepared.teacher.losses(&written, taught, 0..taught.len())? {
        comparison.add(&report);
    }
    let none = || PackedError::Differs {
        path: path.to_owned(),
        problem: "there is no held-out text to check it on".to_owned(),
    };
    let summary = comparison.summary().ok_or_else(none)?;
    let found = summary.kl_mean.value;
    if (found - expected).abs() > SAME * expected + SAME_NATS {
        let problem =
            format!("its mean KL on held-out text is {found:.6}, that of the plan {expected:.6}");
        return Err(PackedError::Differs { path: path.to_owned(), problem });
    }
    Ok(summary)
}
