//! From a model and a number of experts to a smaller model that has been read again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rco_core::Assignment;
use rco_core::search::{CheckpointSettings, Fanout, JsonlHistory, SearchOutcome, search};
use rco_formats::atomic::WriteOptions;
use rco_model::eval::{Comparison, Summary};
use rco_model::head::LossReport;
use rco_model::{ExpertUse, Model};
use serde::Serialize;

use super::amount::Amount;
use super::budget::ExpertBudget;
use super::effort::PruneWork;
use super::error::PruneError;
use super::experts::ExpertMap;
use super::folder::FolderPlan;
use super::objective::PruneLoss;
use super::source::Source;
use super::texts::{PruneTexts, TextOrder};
use super::{fisher, gguf, rankings};
use crate::error::QuantError;
use crate::hash::sha256;
use crate::job::Reporter;
use crate::place::{PlaceError, check_target};
use crate::samples::SampleFile;
use crate::states::StateCache;
use crate::teacher::Teacher;
use crate::verify::{Verified, verify};

/// Relative difference allowed between the model of the plan and what was written.
const SAME: f64 = 1e-3;
/// Nats allowed besides.
const SAME_NATS: f64 = 1e-6;

/// What a job is asked to do.
#[derive(Debug, Clone)]
pub struct PruneSettings {
    /// The model: a GGUF file or a Hugging Face folder.
    pub model: PathBuf,
    /// Experts to drop.
    pub amount: Amount,
    /// The same number in every block.
    pub per_layer: bool,
    /// Fewest that remain in a block.
    pub min_experts: Option<u64>,
    /// The file or folder to write; `None` only looks ahead.
    pub output: Option<PathBuf>,
    /// Texts, one for each domain; none takes text that the model itself writes.
    pub texts: Vec<PathBuf>,
    /// How much work to spend.
    pub work: PruneWork,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Threads of the runtime; the engine runs on rayon's global pool.
    pub threads: usize,
    /// Overwrite the output.
    pub force: bool,
    /// Compare a GGUF file with the original in llama.cpp.
    pub verify: bool,
}

/// A job whose inputs have been opened and checked, as far as headers say.
#[derive(Debug)]
pub struct PruneJob {
    pub(super) settings: PruneSettings,
    pub(super) source: Source,
    pub(super) map: ExpertMap,
    pub(super) budget: ExpertBudget,
}

/// Everything that a search needs, whatever the budget.
pub struct PrunePrepared {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// The texts.
    pub texts: PruneTexts,
    /// The original model.
    pub original: Model,
    /// What it makes of the texts.
    pub teacher: Teacher,
    /// How its experts are used on the calibration text.
    pub uses: Vec<ExpertUse>,
    /// What each expert costs by itself.
    pub sensitivities: Vec<f64>,
    /// What all of this was made from.
    pub origin: String,
}

/// Experts that remain in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerKept {
    /// The block.
    pub layer: usize,
    /// Experts it had.
    pub of: usize,
    /// Those that remain, as they were numbered.
    pub kept: Vec<usize>,
}

/// How the smaller model does on the held-out text of a domain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DomainScore {
    /// The domain.
    pub domain: String,
    /// What was written against the original, in our engine.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What a job has made.
#[derive(Debug, Clone, Serialize)]
pub struct PruneOutcome {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// Bytes of the source.
    pub source_bytes: u64,
    /// The file or folder that was written.
    pub path: Option<PathBuf>,
    /// Its bytes; those of a folder with configuration and tokenizer.
    pub bytes: Option<u64>,
    /// Experts that remain, by block.
    pub layers: Vec<LayerKept>,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// The search.
    pub search: SearchOutcome,
    /// What was written, read again and scored by domain.
    pub domains: Vec<DomainScore>,
    /// A GGUF file in llama.cpp.
    pub verified: Option<Verified>,
}

impl PruneJob {
    /// Opens the model and checks that what is asked for can be done.
    ///
    /// # Errors
    /// A model that cannot be read or has no experts, a budget that cannot be met, an output
    /// that cannot hold the plan.
    pub fn open(settings: PruneSettings) -> Result<Self, PruneError> {
        let source = Source::open(&settings.model)?;
        let map = ExpertMap::new(source.config())?;
        let PruneSettings { amount, per_layer, min_experts, .. } = settings;
        let budget = ExpertBudget::new(&map, amount, per_layer, min_experts)?;
        budget.problem(&map)?;
        if let Some(output) = &settings.output {
            let is_gguf = output.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
            if is_gguf != source.gguf().is_some() {
                let wanted = if is_gguf { "a GGUF file" } else { "a Hugging Face folder" };
                let (output, found) = (output.clone(), source.kind());
                return Err(PruneError::OtherKind { output, wanted, found });
            }
        }
        if source.gguf().is_some() && budget.uniform().is_none() {
            return Err(PruneError::UnevenGguf);
        }
        if source.gguf().is_none() && settings.texts.is_empty() {
            return Err(PruneError::NoText);
        }
        Ok(Self { settings, source, map, budget })
    }

    /// The settings.
    pub fn settings(&self) -> &PruneSettings {
        &self.settings
    }

    /// The model.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Its experts.
    pub fn map(&self) -> &ExpertMap {
        &self.map
    }

    /// How many remain.
    pub fn budget(&self) -> &ExpertBudget {
        &self.budget
    }

    /// The work of the search.
    pub fn work(&self) -> PruneWork {
        self.settings.work
    }

    /// Tokens of a window: what the effort says, the model's context permitting.
    pub fn window(&self) -> usize {
        self.source.window(self.work().window)
    }

    /// Bytes of the output, where they do not depend on the plan.
    pub(super) fn predicted_bytes(&self) -> Result<Option<u64>, PruneError> {
        let (Some(model), Some(kept)) = (self.source.gguf(), self.budget.uniform()) else {
            return Ok(None);
        };
        let kept: Vec<Vec<usize>> =
            self.map.layers().iter().map(|_| (0..kept as usize).collect()).collect();
        let writer = gguf::writer(model, &self.map, &kept, None, self.settings.seed)?;
        Ok(Some(writer.file_size()?))
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
    ) -> Result<PrunePrepared, PruneError> {
        let work = self.work();
        reporter.stage("reading the model", None);
        let source_sha256 = self.source.sha256()?;
        self.source.check_finite()?;
        let original = self.source.model()?;
        reporter.stage("preparing text", None);
        let (source, settings) = (&self.source, &self.settings);
        let PruneSettings { texts: files, seed, threads, .. } = settings;
        let order = TextOrder { files, seed: *seed, threads: *threads };
        let texts = PruneTexts::new(source, &order, &work, self.window(), folder, reporter)?;
        let (calibration, heldout) = texts.batches(work.together)?;

        reporter.stage("original model", Some((calibration.len() + heldout.len()) as u64));
        let origin = format!("{source_sha256} {} {}", texts.sha256(), work.together);
        let mut cache = StateCache::open(&folder.join("teacher"), &origin)?;
        let mut advance = |done: usize| reporter.advance(done as u64, "");
        let teacher = Teacher::new(&original, calibration, heldout, &mut cache, &mut advance)?;
        let batches = || (0..teacher.calibration.len()).map(|n| teacher.calibration.batch(n));
        let uses = rankings::expert_use(&original, &self.map, batches())?;

        let count = batches().len() as u64 * work.fisher;
        reporter.stage("sensitivities", Some(count));
        let of_samples = sha256(format!("{origin} {}", settings.seed).as_bytes());
        let mut file =
            SampleFile::open(&folder.join("fisher.jsonl"), &of_samples, self.map.total())?;
        let mut before = 0;
        for index in 0..count {
            reporter.advance(index, "");
            let batch = teacher.calibration.batch(index as usize % teacher.calibration.len());
            // Those of a batch that were kept are taken anew with the rest of it.
            let have = file.samples().len().saturating_sub(before);
            before += batch.sequences();
            if have < batch.sequences() {
                let found = fisher::samples(&original, &self.map, batch, settings.seed, index)?;
                for sample in found.into_iter().skip(have) {
                    file.push(sample)?;
                }
            }
        }
        let sensitivities = fisher::sensitivities(&file.samples()[..before]);
        Ok(PrunePrepared { source_sha256, texts, original, teacher, uses, sensitivities, origin })
    }

    /// Searches the plan.
    ///
    /// # Errors
    /// Whatever the search meets.
    pub fn search(
        &self,
        prepared: &PrunePrepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<SearchOutcome, PruneError> {
        let rankings = rankings::rankings(&prepared.uses, self.settings.seed);
        let known = rankings::plans(&self.map, &self.budget, &rankings);
        let PrunePrepared { original, teacher, sensitivities, origin, .. } = prepared;
        let mut loss = PruneLoss::new(original, &self.map, teacher, sensitivities, known, origin);
        let run = folder.join("search");
        std::fs::create_dir_all(&run).map_err(QuantError::io(&run, "creating the folder"))?;
        let mut settings = self.work().search(self.settings.seed);
        settings.checkpoint = Some(CheckpointSettings::new(&run));
        let problem = self.budget.problem(&self.map)?;
        let mut history = JsonlHistory::new(run.join("history.jsonl"));
        let mut watching = reporter.observer();
        let mut observers = Fanout(vec![&mut *watching, &mut history]);
        Ok(search(&problem, &mut loss, &settings, &mut observers)?)
    }

    /// SHA-256 of a plan: of a line `layer expert` for each expert that remains.
    pub fn plan_sha256(&self, plan: &Assignment) -> String {
        let mut text = String::new();
        for l in self.layers(plan) {
            for e in l.kept {
                let _ = writeln!(text, "{} {e}", l.layer);
            }
        }
        sha256(text.as_bytes())
    }

    fn layers(&self, plan: &Assignment) -> Vec<LayerKept> {
        let layers = self.map.layers().iter().zip(self.map.kept(plan));
        layers.map(|(l, kept)| LayerKept { layer: l.layer, of: l.experts, kept }).collect()
    }

    /// Writes the model of a plan, reads it again and scores what was written.
    ///
    /// # Errors
    /// Whatever writing and checking meet.
    pub fn build(
        &self,
        prepared: &PrunePrepared,
        search: SearchOutcome,
        reporter: &mut dyn Reporter,
    ) -> Result<PruneOutcome, PruneError> {
        let plan = search.assignment.clone();
        let plan_sha256 = self.plan_sha256(&plan);
        let mut outcome = PruneOutcome {
            source_sha256: prepared.source_sha256.clone(),
            source_bytes: self.source.bytes(),
            path: self.settings.output.clone(),
            bytes: None,
            layers: self.layers(&plan),
            plan_sha256,
            search,
            domains: Vec::new(),
            verified: None,
        };
        let Some(path) = &self.settings.output else { return Ok(outcome) };
        reporter.stage("writing", None);
        let bytes = self.write(path, &plan, &outcome.plan_sha256)?;
        outcome.bytes = Some(bytes);

        reporter.stage("reading it again", Some(prepared.teacher.heldout.len() as u64));
        let written = Source::open(path)?.model()?;
        let (domains, mean) = self.score(prepared, &written, reporter)?;
        WrittenCheck { path, found: mean, expected: outcome.search.loss_heldout }.check()?;
        outcome.domains = domains;
        if self.settings.verify && self.source.gguf().is_some() {
            reporter.stage("checking in llama.cpp", None);
            outcome.verified = Some(verify(
                self.source.path(),
                path,
                &prepared.original,
                &written,
                &prepared.teacher,
                self.work().verified,
                self.settings.threads,
                &prepared.texts.prompt,
            )?);
        }
        Ok(outcome)
    }

    /// Writes file or folder; gives its bytes, which are those predicted.
    fn write(&self, path: &Path, plan: &Assignment, sha256: &str) -> Result<u64, PruneError> {
        let kept = self.map.kept(plan);
        // A run that was killed after this point finds its output there, and writes it again.
        let force = self.settings.force || written_plan(path).is_some_and(|found| found == sha256);
        let options = WriteOptions { force };
        let (expected, found) = if let Some(model) = self.source.gguf() {
            let writer = gguf::writer(model, &self.map, &kept, Some(sha256), self.settings.seed)?;
            gguf::write(&writer, path, options)?;
            let found = std::fs::metadata(path).map_err(QuantError::io(path, "reading"))?.len();
            (self.predicted_bytes()?, found)
        } else if let Some(folder) = self.source.folder() {
            let files = FolderPlan::new(folder, self.source.config(), &self.map, &kept, sha256)?;
            let expected = files.bytes(self.source.path())?;
            (expected, files.write(path, options)?)
        } else {
            (None, 0)
        };
        match expected {
            Some(expected) if expected != found => {
                Err(QuantError::SizeDiffers { path: path.to_owned(), expected, found }.into())
            }
            _ => Ok(found),
        }
    }

    /// Scores a model on the held-out text of every domain; and its mean KL over all of it.
    ///
    /// # Errors
    /// Whatever the model meets.
    pub fn score(
        &self,
        prepared: &PrunePrepared,
        model: &Model,
        reporter: &mut dyn Reporter,
    ) -> Result<(Vec<DomainScore>, f64), PruneError> {
        score_domains(&prepared.teacher, &prepared.texts, model, reporter)
    }
}

/// What was written against what was planned, on held-out text.
pub(super) struct WrittenCheck<'a> {
    pub(super) path: &'a Path,
    /// Mean KL of what was written.
    pub(super) found: f64,
    /// That of the plan.
    pub(super) expected: f64,
}

impl WrittenCheck<'_> {
    /// Refuses a model that is not that of its plan.
    pub(super) fn check(&self) -> Result<(), PruneError> {
        let Self { path, found, expected } = *self;
        if (found - expected).abs() <= SAME * expected + SAME_NATS {
            return Ok(());
        }
        let problem =
            format!("its mean KL on held-out text is {found:.6}, that of the plan {expected:.6}");
        Err(PruneError::Differs { path: path.to_owned(), problem })
    }
}

/// Scores a model on the held-out text of every domain; and its mean KL over all of it.
pub(super) fn score_domains(
    teacher: &Teacher,
    texts: &PruneTexts,
    model: &Model,
    reporter: &mut dyn Reporter,
) -> Result<(Vec<DomainScore>, f64), PruneError> {
    let count = texts.domains.len().max(1);
    let mut by_domain = vec![Comparison::default(); count];
    let (mut window, mut sum, mut tokens) = (0, 0.0, 0);
    let reports = teacher.losses(model, &teacher.heldout, 0..teacher.heldout.len())?;
    for (n, report) in reports.into_iter().enumerate() {
        let batch = teacher.heldout.batch(n);
        let len = batch.sequence_len();
        for s in 0..batch.sequences() {
            let of = s * len..(s + 1) * len;
            let own = report.tokens.iter().filter(|t| of.contains(&t.row)).copied();
            let own = LossReport { mean: report.mean, tokens: own.collect() };
            by_domain[(window + s) % count].add(&own);
        }
        window += batch.sequences();
        sum += report.tokens.iter().map(|t| t.loss).sum::<f64>();
        tokens += report.tokens.len();
        reporter.advance(n as u64 + 1, "");
    }
    let scores = texts.domains.iter().zip(&by_domain);
    let scores = scores.filter_map(|(domain, comparison)| {
        Some(DomainScore { domain: domain.clone(), summary: comparison.summary()? })
    });
    Ok((scores.collect(), sum / tokens.max(1) as f64))
}

/// SHA-256 of the plan that a model of ours was made by; `None` for any other.
pub fn written_plan(path: &Path) -> Option<String> {
    if path.is_dir() {
        let bytes = std::fs::read(path.join("config.json")).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        return json.get("rco")?.get("plan_sha256")?.as_str().map(str::to_owned);
    }
    crate::job::written_plan(path)
}

/// Refuses an output that exists and may not be replaced.
///
/// # Errors
/// [`PlaceError::Exists`] or [`PlaceError::NoModel`].
pub fn check_output(path: &Path, force: bool) -> Result<(), PruneError> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
        return match path.symlink_metadata() {
            Ok(_) if !force => Err(PlaceError::Exists { path: path.to_owned() }.into()),
            _ => Ok(()),
        };
    }
    Ok(check_target(path, force)?)
}
