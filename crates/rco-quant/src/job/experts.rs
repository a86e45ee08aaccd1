//! Versions of a model with fewer experts, for budgets that types and experts share.
//!
//! What a stack of experts costs is a product: experts that remain times the bytes of one in the
//! type of the stack. GGUF has one number of experts for all blocks, so the product is a sum
//! over tensors again once that number is fixed: numbers are enumerated, and the search for
//! types within each of them is exact about bytes as ever. Which experts remain at a number is
//! searched on the 16-bit weights, as `rco prune --per-layer` does.
//!
//! Every version is compared with the whole original. Encoded tensors are shared: an expert is
//! encoded the same way whatever its neighbours.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rco_core::search::{
    CheckpointSettings, MethodName, PolishSettings, PolishWhen, SearchSettings, Silent, search,
};
use rco_formats::atomic::{WriteOptions, write_bytes};
use rco_formats::gguf::GgufModel;
use rco_model::config::ModelConfig;
use rco_model::weights::GgufWeights;
use serde::{Deserialize, Serialize};

use super::Reporter;
use super::open::{Engine, Job};
use super::stages::{EngineMeasure, Inputs, Measure, Prepared};
use super::texts::Texts;
use crate::effort::Effort;
use crate::error::QuantError;
use crate::groups::Groups;
use crate::hash::sha256;
use crate::menu::Menu;
use crate::objective::Candidates;
use crate::output::{metadata, tensors};
use crate::prune::aim::Aim;
use crate::prune::effort::PruneWork;
use crate::prune::rankings::{Ranking, expert_use, plans, rankings};
use crate::prune::{ExpertBudget, ExpertMap, PruneError, PruneLoss, fisher, model_with};

/// Eighths of the experts that may go.
const EIGHTHS: [usize; 4] = [1, 2, 3, 4];
/// Versions whose types are searched, those of the best knapsacks.
const SEARCHED: usize = 2;
/// Batches that masks are measured on, as a multiple of those that plans are: they differ by
/// more, but each token tells of two experts in a block only.
const MORE_BATCHES: usize = 2;

/// A number of experts that was tried for a budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionTried {
    /// Its number, as in [`Prepared::version`].
    #[serde(skip)]
    pub version: usize,
    /// Experts that remain in each block.
    pub experts: usize,
    /// KL on held-out text of the knapsack on its sensitivities.
    pub knapsack: f64,
    /// KL on held-out text of the plan that was searched; `None` if none was.
    pub searched: Option<f64>,
}

/// Experts that remain in each block, as a run folder keeps them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mask {
    origin: String,
    kept: Vec<Vec<usize>>,
    /// KL of the 16-bit model on held-out text.
    kl: f64,
}

/// Numbers of experts that may remain in each block, most first, without that of the original.
pub(super) fn numbers(map: &ExpertMap) -> Vec<usize> {
    let layers = map.layers();
    let most = map.most();
    let least = layers.iter().map(|l| l.per_token).max().unwrap_or(0);
    let mut out: Vec<usize> = EIGHTHS.iter().map(|n| most - (most * n).div_ceil(8)).collect();
    out.retain(|&kept| kept >= least);
    out.dedup();
    out
}

/// The smallest version, as far as its size goes.
pub(super) fn smallest(
    model: &GgufModel,
    config: &ModelConfig,
) -> Result<(GgufModel, Vec<Vec<usize>>), QuantError> {
    let map = ExpertMap::new(config)?;
    let least = numbers(&map).last().copied();
    let of = |experts: usize| (0..least.unwrap_or(experts).min(experts)).collect();
    let kept: Vec<Vec<usize>> = map.layers().iter().map(|l| of(l.experts)).collect();
    Ok((model_with(model, &map, &kept)?, kept))
}

impl Job {
    /// The versions of a prepared model, most experts first.
    ///
    /// # Errors
    /// A model without experts, and whatever any of the stages meets.
    pub(super) fn versions(
        &self,
        whole: &Prepared,
        texts: &Texts,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Prepared>, QuantError> {
        let (Some(engine), Some(measure)) = (&self.engine, whole.engine()) else {
            return Ok(Vec::new());
        };
        let map = ExpertMap::new(&engine.config)?;
        let budget = self.budgets.iter().copied().min().unwrap_or(0);
        let mut masks = Masks::new(self, whole, measure, &map, folder);
        // What the smallest budget loses: a number of experts that loses more without any type
        // being smaller can win nowhere, and fewer can even less.
        let mut bound = self.knapsack(budget, whole)?.unwrap_or(f64::INFINITY);
        let mut out = Vec::new();
        // A trial makes do with half of the numbers.
        let step = if self.settings.effort == Effort::Trial { 2 } else { 1 };
        for number in numbers(&map).into_iter().step_by(step) {
            let Mask { kept, kl, .. } = masks.find(number, reporter)?;
            if kl >= bound {
                reporter.note(&format!(
                    "{number} experts in each layer lose {kl:.6} by themselves, more than types do"
                ));
                break;
            }
            let of = (&map, kept);
            let version = self.version(whole, engine, measure, texts, of, folder, reporter)?;
            if let Some(kl) = self.knapsack(budget, &version)? {
                bound = bound.min(kl);
            }
            out.push(version);
        }
        Ok(out)
    }

    /// KL on held-out text of the knapsack on the sensitivities; `None` if no plan is small
    /// enough.
    fn knapsack(&self, budget: u64, version: &Prepared) -> Result<Option<f64>, QuantError> {
        let problem = match version.groups.problem(budget, &self.ties) {
            Err(QuantError::BudgetTooSmall { .. }) => return Ok(None),
            problem => problem?,
        };
        let work = self.settings.effort.plan();
        let settings = knapsack_only(work.search(self.settings.seed));
        let mut loss = version.loss(&work, self.provenance(budget), Vec::new());
        Ok(Some(search(&problem, &mut *loss, &settings, &mut Silent)?.loss_heldout))
    }

    /// A version: the same options of the tensors that remain, sensitivities of its own.
    #[allow(clippy::too_many_arguments, reason = "each is a thing of its own")]
    fn version(
        &self,
        whole: &Prepared,
        engine: &Engine,
        measure: &EngineMeasure,
        texts: &Texts,
        (map, kept): (&ExpertMap, Vec<Vec<usize>>),
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Prepared, QuantError> {
        let number = kept.first().map_or(0, Vec::len);
        let model = Arc::new(model_with(&self.model, map, &kept)?);
        let config = Arc::new(ModelConfig::from_gguf(&model)?);
        let weights = GgufWeights::new(Arc::clone(&model), &config)?;
        let database = whole.database.of_version(Arc::clone(&model), map, &kept)?;
        let groups = self.groups_of(whole.groups.menu(), &model, kept.clone())?;
        let candidates =
            Candidates::new(config, weights, &groups, database.clone(), engine.settings)?;
        let origin = sha256(format!("{} {kept:?}", whole.origin).as_bytes());
        let inputs = Inputs { groups: &groups, database: &database, texts };
        let samples = folder.join(format!("fisher-{number}.jsonl"));
        reporter.note(&format!("sensitivities with {number} experts"));
        let scores = self.scores(&candidates, &inputs, &origin, &samples, reporter)?;
        let measure = EngineMeasure {
            original: measure.original.clone(),
            candidates,
            teacher: Arc::clone(&measure.teacher),
        };
        Ok(Prepared {
            source_sha256: whole.source_sha256.clone(),
            options: whole.options.clone(),
            importance: whole.importance.clone(),
            database,
            groups,
            measure: Measure::Engine(Box::new(measure)),
            scores,
            origin,
            windows: whole.windows.clone(),
            prompt: whole.prompt.clone(),
            smaller: Vec::new(),
        })
    }

    /// The menu as groups of the file of a version. Those of all budgets are alike: the budget is
    /// a number in the header.
    pub(super) fn groups_of(
        &self,
        menu: &Menu,
        version: &GgufModel,
        kept: Vec<Vec<usize>>,
    ) -> Result<Groups, QuantError> {
        let metadata = metadata(version, self.provenance(0))?;
        let reserve = self.split_reserve(&metadata)?;
        Groups::new(menu.of_version(version, kept)?, &metadata, &tensors(version), reserve)
    }

    /// The versions that a budget is searched in: of all that can meet it those whose knapsacks
    /// on their own sensitivities lose least; with what all of them lose.
    pub(super) fn promising(
        &self,
        budget: u64,
        prepared: &Prepared,
        reporter: &mut dyn Reporter,
    ) -> Result<(Vec<usize>, Vec<VersionTried>), QuantError> {
        let config = self.engine.as_ref().map(|engine| &engine.config);
        let most = config.map_or(Ok(0), |c| ExpertMap::new(c).map(|map| map.most()))?;
        let (mut order, mut tried) = (Vec::new(), Vec::new());
        reporter.stage("experts against types", Some(prepared.versions().count() as u64));
        for (version, of) in prepared.versions().enumerate() {
            reporter.advance(version as u64, "");
            let Some(knapsack) = self.knapsack(budget, of)? else { continue };
            let experts = of.groups.menu().experts.first().map_or(most, Vec::len);
            order.push((version, knapsack));
            tried.push(VersionTried { version, experts, knapsack, searched: None });
        }
        order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        Ok((order.into_iter().take(SEARCHED).map(|(n, _)| n).collect(), tried))
    }
}

/// The search for which experts remain.
struct Masks<'a> {
    whole: &'a Prepared,
    measure: &'a EngineMeasure,
    map: &'a ExpertMap,
    folder: &'a Path,
    work: PruneWork,
    seed: u64,
    /// Batches that masks are measured on.
    batches: usize,
    origin: String,
    /// Rankings of all experts, and what each of them costs by itself; once they are needed.
    known: Option<(Vec<Ranking>, Vec<f64>)>,
}

impl<'a> Masks<'a> {
    fn new(
        job: &Job,
        whole: &'a Prepared,
        measure: &'a EngineMeasure,
        map: &'a ExpertMap,
        folder: &'a Path,
    ) -> Self {
        let (effort, seed) = (job.settings.effort, job.settings.seed);
        let all = measure.teacher.calibration.len();
        let batches = (MORE_BATCHES * effort.plan().measured_batches()).min(all);
        let origin = sha256(format!("{} {seed} {effort:?} {batches}", whole.origin).as_bytes());
        let work = effort.experts();
        Self { whole, measure, map, folder, work, seed, batches, origin, known: None }
    }

    /// Which experts remain when `kept` do in each block; a mask of the run folder is read.
    fn find(&mut self, kept: usize, reporter: &mut dyn Reporter) -> Result<Mask, QuantError> {
        let path = self.folder.join(format!("experts-{kept}.json"));
        if let Some(mask) = read_mask(&path, &self.origin)? {
            return Ok(mask);
        }
        if self.known.is_none() {
            self.known = Some(self.learn(reporter)?);
        }
        let (ranked, sensitivities) = match &self.known {
            Some((ranked, sensitivities)) => (&ranked[..], &sensitivities[..]),
            None => (&[][..], &[][..]),
        };
        let Self { whole, measure, map, seed, .. } = *self;
        reporter.stage(&format!("which {kept} experts"), None);
        let budget = ExpertBudget::kept_in_each(map, kept as u64)?;
        let known = plans(map, &budget, ranked);
        let EngineMeasure { original, teacher, .. } = measure;
        let loss = PruneLoss::new(original, map, teacher, sensitivities, known, &whole.origin);
        let run = self.folder.join(format!("experts-{kept}"));
        std::fs::create_dir_all(&run).map_err(QuantError::io(&run, "creating the folder"))?;
        let mut settings = self.work.search(seed);
        settings.checkpoint = Some(CheckpointSettings::new(&run));
        let problem = budget.problem(map)?;
        let mut watching = reporter.observer();
        let found = search(&problem, &mut loss.on(self.batches), &settings, &mut *watching)?;
        drop(watching);
        let (origin, kl) = (self.origin.clone(), found.loss_heldout);
        let mask = Mask { origin, kept: map.kept(&found.assignment), kl };
        write_mask(&path, &mask)?;
        Ok(mask)
    }

    /// How experts are used, and what each costs by itself.
    fn learn(&self, reporter: &mut dyn Reporter) -> Result<(Vec<Ranking>, Vec<f64>), QuantError> {
        let EngineMeasure { original, teacher, .. } = self.measure;
        let batch = |n: usize| teacher.calibration.batch(n % self.batches);
        let uses = expert_use(original, self.map, (0..self.batches).map(batch))?;
        let passes = self.work.fisher as usize * self.batches;
        reporter.stage("sensitivities of experts", Some(passes as u64));
        let mut samples = Vec::new();
        for n in 0..passes {
            reporter.advance(n as u64, "");
            let found = fisher::samples(original, self.map, batch(n), self.seed, n as u64)?;
            samples.extend(found);
        }
        Ok((rankings(&uses, self.seed), fisher::sensitivities(&samples, &Aim::default(), 1)))
    }
}

/// The settings of a search that takes the knapsack on the scores and measures it.
fn knapsack_only(settings: SearchSettings) -> SearchSettings {
    let mut out = SearchSettings { method: MethodName::Proxy, ..settings };
    out.polish = PolishSettings { when: PolishWhen::Never, ..out.polish };
    out
}

fn read_mask(path: &Path, origin: &str) -> Result<Option<Mask>, QuantError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(QuantError::io(path, "reading")(source)),
    };
    let mask: Mask = serde_json::from_slice(&bytes)
        .map_err(|source| QuantError::Json { path: path.to_owned(), source })?;
    Ok((mask.origin == origin).then_some(mask))
}

fn write_mask(path: &Path, mask: &Mask) -> Result<(), QuantError> {
    let json = serde_json::to_vec(mask)
        .map_err(|source| QuantError::Json { path: path.to_owned(), source })?;
    write_bytes(path, &json, WriteOptions::force()).map_err(PruneError::from)?;
    Ok(())
}
