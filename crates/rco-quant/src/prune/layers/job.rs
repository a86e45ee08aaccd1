//! From a model and a number of layers to a shorter model that has been read again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_core::Assignment;
use rco_core::search::{CheckpointSettings, Fanout, JsonlHistory, SearchOutcome, search};
use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::GgufModel;
use serde::Serialize;

use super::cut;
use super::objective::{LayersLoss, Shortened, kept, plan_without, problem};
use crate::error::QuantError;
use crate::hash::sha256;
use crate::job::Reporter;
use crate::prune::PruneError;
use crate::prune::effort::PruneWork;
use crate::prune::job::{DomainScore, WrittenCheck, score_domains, written_plan};
use crate::prune::source::Source;
use crate::prune::texts::{PruneTexts, TextOrder};
use crate::samples::SampleFile;
use crate::states::StateCache;
use crate::teacher::Teacher;
use crate::verify::{Verified, verify};

/// Blocks that remain at least: without any there is no model.
const LEAST: usize = 1;

/// What a job is asked to do.
#[derive(Debug, Clone)]
pub struct LayersSettings {
    /// The model: a GGUF file.
    pub model: PathBuf,
    /// Layers to drop.
    pub layers: u64,
    /// The file to write; `None` only looks ahead.
    pub output: Option<PathBuf>,
    /// Texts, one for each domain; none takes text that the model itself writes.
    pub texts: Vec<PathBuf>,
    /// How much work to spend.
    pub work: PruneWork,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Threads of the runtime.
    pub threads: usize,
    /// Overwrite the output.
    pub force: bool,
    /// Compare the file with the original in llama.cpp.
    pub verify: bool,
}

/// A job whose inputs have been opened and checked, as far as headers say.
#[derive(Debug)]
pub struct LayersJob {
    settings: LayersSettings,
    source: Source,
    file: Arc<GgufModel>,
    shortened: Shortened,
}

/// What a job would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayersOutlook {
    /// Family of the model.
    pub family: String,
    /// Layers of the model.
    pub layers: usize,
    /// Layers that go.
    pub dropped: u64,
    /// Bytes of the source.
    pub source_bytes: u64,
    /// Bytes of the smallest and of the largest file that may come out.
    pub output_bytes: (u64, u64),
    /// Tokens that are computed forwards, about.
    pub tokens: u64,
}

/// What a job has made.
#[derive(Debug, Clone, Serialize)]
pub struct LayersOutcome {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// Bytes of the source.
    pub source_bytes: u64,
    /// The file that was written.
    pub path: Option<PathBuf>,
    /// Its bytes.
    pub bytes: Option<u64>,
    /// Layers that went, as they were numbered.
    pub dropped: Vec<usize>,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// The search.
    pub search: SearchOutcome,
    /// What was written, read again and scored by domain.
    pub domains: Vec<DomainScore>,
    /// The file in llama.cpp.
    pub verified: Option<Verified>,
}

/// Everything that a search needs.
struct Prepared {
    sha256: String,
    texts: PruneTexts,
    teacher: Teacher,
    origin: String,
}

impl LayersJob {
    /// Opens the model and checks that so many layers can go.
    ///
    /// # Errors
    /// A model that cannot be read or is no GGUF file, or a number that leaves nothing.
    pub fn open(settings: LayersSettings) -> Result<Self, PruneError> {
        let source = Source::open(&settings.model)?;
        let Some(file) = source.gguf().cloned() else {
            return Err(PruneError::LayersOfFolder { path: settings.model });
        };
        let shortened = Shortened::new(Arc::clone(&file))?;
        let (blocks, asked) = (shortened.blocks(), settings.layers);
        let most = (blocks - LEAST) as u64;
        if asked == 0 || asked > most {
            return Err(PruneError::Layers { asked, blocks: blocks as u64, most });
        }
        Ok(Self { settings, source, file, shortened })
    }

    /// The settings.
    pub fn settings(&self) -> &LayersSettings {
        &self.settings
    }

    /// SHA-256 of the source. Reads all of it.
    ///
    /// # Errors
    /// A failed read.
    pub fn source_sha256(&self) -> Result<String, PruneError> {
        self.source.sha256()
    }

    fn remaining(&self) -> usize {
        self.shortened.blocks() - self.settings.layers as usize
    }

    /// Candidates of every step of the elimination: the blocks that cost least by themselves.
    fn tried(&self) -> usize {
        (self.settings.work.polish as usize / 8).clamp(2, self.shortened.blocks())
    }

    /// What the job would do. Reads nothing but headers.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn outlook(&self) -> Result<LayersOutlook, PruneError> {
        let (blocks, work) = (self.shortened.blocks(), self.settings.work);
        let mut each: Vec<u64> = vec![0; blocks];
        for (_, info) in self.file.tensors() {
            let block = info.spec.name.strip_prefix("blk.").and_then(|n| n.split_once('.'));
            let block = block.and_then(|(block, _)| block.parse::<usize>().ok());
            if let Some(sum) = block.and_then(|block| each.get_mut(block)) {
                *sum += info.length;
            }
        }
        let mut order: Vec<usize> = (0..blocks).collect();
        order.sort_by_key(|&block| (each[block], block));
        let size = |kept: &[usize]| -> Result<u64, PruneError> {
            let mut kept = kept.to_vec();
            kept.sort_unstable();
            Ok(cut::writer(&self.file, &kept, None, self.settings.seed)?.file_size()?)
        };
        let remaining = self.remaining();
        let output_bytes = (size(&order[..remaining])?, size(&order[blocks - remaining..])?);
        let singles = blocks + (self.settings.layers as usize - 1) * self.tried();
        let passes = singles as u64 + work.steps + work.polish;
        let window = self.source.window(work.window) as u64;
        Ok(LayersOutlook {
            family: self.source.config().family.to_string(),
            layers: blocks,
            dropped: self.settings.layers,
            source_bytes: self.source.bytes(),
            output_bytes,
            tokens: window * (passes * work.calibration as u64 + 12 * work.heldout as u64),
        })
    }

    /// All of it in order, over the run folder.
    ///
    /// # Errors
    /// Whatever any of the stages meets.
    pub fn run(
        &self,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<LayersOutcome, PruneError> {
        let prepared = self.prepare(folder, reporter)?;
        let found = self.search(&prepared, folder, reporter)?;
        self.build(&prepared, found, reporter)
    }

    fn prepare(&self, folder: &Path, reporter: &mut dyn Reporter) -> Result<Prepared, PruneError> {
        let Self { settings, source, .. } = self;
        let work = settings.work;
        reporter.stage("reading the model", None);
        let sha256 = source.sha256()?;
        source.check_finite()?;
        let original = source.model()?;
        reporter.stage("preparing text", None);
        let LayersSettings { texts, seed, threads, .. } = settings;
        let order = TextOrder { files: texts, seed: *seed, threads: *threads };
        let window = source.window(work.window);
        let texts = PruneTexts::new(source, &order, &work, window, folder, reporter)?;
        let (calibration, heldout) = texts.batches(work.together)?;
        reporter.stage("original model", Some((calibration.len() + heldout.len()) as u64));
        let origin = format!("{sha256} {} {}", texts.sha256(), work.together);
        let mut cache = StateCache::open(&folder.join("teacher"), &origin)?;
        let mut advance = |done: usize| reporter.advance(done as u64, "");
        let teacher = Teacher::new(&original, calibration, heldout, &mut cache, &mut advance)?;
        Ok(Prepared { sha256, texts, teacher, origin })
    }

    /// Searches the plan. Dropping blocks has no derivative, so the search starts from what each
    /// of them costs by itself and from an elimination one by one, and corrects the former by
    /// what plans are measured to lose.
    fn search(
        &self,
        prepared: &Prepared,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<SearchOutcome, PruneError> {
        let Prepared { teacher, origin, .. } = prepared;
        let (blocks, work, seed) =
            (self.shortened.blocks(), self.settings.work, self.settings.seed);
        let batches = teacher.calibration.len();
        let of_losses = sha256(format!("layers {origin}").as_bytes());
        let mut losses = SampleFile::open(&folder.join("losses.jsonl"), &of_losses, 1)?;
        let measure = LayersLoss::new(&self.shortened, teacher, batches, &[], Vec::new(), origin);
        // Losses come in an order that follows from themselves, so a list is enough to go on.
        let mut next = 0;
        let mut loss = |dropped: &[usize]| -> Result<f64, PruneError> {
            if losses.samples().len() == next {
                let kept = kept(blocks, &plan_without(blocks, dropped));
                losses.push(vec![measure.measure(&kept)?])?;
            }
            next += 1;
            Ok(losses.samples()[next - 1][0])
        };
        reporter.stage("each layer by itself", Some(blocks as u64));
        let mut singles = Vec::with_capacity(blocks);
        for block in 0..blocks {
            reporter.advance(block as u64, "");
            singles.push(loss(&[block])?);
        }
        let known = self.known(&singles, &mut loss, reporter)?;
        let mut loss = LayersLoss::new(&self.shortened, teacher, batches, &singles, known, origin);
        let run = folder.join("search");
        std::fs::create_dir_all(&run).map_err(QuantError::io(&run, "creating the folder"))?;
        let mut settings = work.search(seed);
        settings.refine.plans = work.steps + work.polish;
        settings.refine.spread = 1.0;
        settings.checkpoint = Some(CheckpointSettings::new(&run));
        let problem = problem(blocks, self.remaining() as u64)?;
        let mut history = JsonlHistory::new(run.join("history.jsonl"));
        let mut watching = reporter.observer();
        let mut observers = Fanout(vec![&mut *watching, &mut history]);
        Ok(search(&problem, &mut loss, &settings, &mut observers)?)
    }

    /// Plans that others use: the last layers but one, a run of neighbours that cost least by
    /// themselves, and one after the other, each the best of a few.
    fn known(
        &self,
        singles: &[f64],
        loss: &mut dyn FnMut(&[usize]) -> Result<f64, PruneError>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<(String, Assignment)>, PruneError> {
        let (blocks, layers) = (singles.len(), self.settings.layers as usize);
        let mut out = Vec::new();
        let mut add = |name: &str, dropped: &[usize]| {
            out.push((name.to_owned(), plan_without(blocks, dropped)));
        };
        // The last block writes what the output reads.
        let end = if blocks > layers { blocks - 1 } else { blocks };
        add("the last but one", &(end - layers..end).collect::<Vec<_>>());
        let sum = |first: &usize| singles[*first..first + layers].iter().sum::<f64>();
        let runs = (0..=blocks - layers).min_by(|a, b| sum(a).total_cmp(&sum(b)));
        let first = runs.unwrap_or(0);
        add("neighbours", &(first..first + layers).collect::<Vec<_>>());

        let mut order: Vec<usize> = (0..blocks).collect();
        order.sort_by(|&a, &b| singles[a].total_cmp(&singles[b]).then(a.cmp(&b)));
        let mut dropped = vec![order.remove(0)];
        reporter.stage("one after the other", Some(layers as u64));
        while dropped.len() < layers {
            reporter.advance(dropped.len() as u64, "");
            let mut best = (f64::INFINITY, 0);
            for (place, &block) in order.iter().enumerate().take(self.tried()) {
                let found = loss(&[&dropped[..], &[block]].concat())?;
                if found < best.0 {
                    best = (found, place);
                }
            }
            dropped.push(order.remove(best.1));
        }
        add("one after the other", &dropped);
        Ok(out)
    }

    /// SHA-256 of a plan: of a line `layer` for each that remains.
    fn plan_sha256(kept: &[usize]) -> String {
        let mut text = String::new();
        for layer in kept {
            let _ = writeln!(text, "layer {layer}");
        }
        sha256(text.as_bytes())
    }

    fn build(
        &self,
        prepared: &Prepared,
        search: SearchOutcome,
        reporter: &mut dyn Reporter,
    ) -> Result<LayersOutcome, PruneError> {
        let blocks = self.shortened.blocks();
        let kept = kept(blocks, &search.assignment);
        let plan_sha256 = Self::plan_sha256(&kept);
        let mut outcome = LayersOutcome {
            source_sha256: prepared.sha256.clone(),
            source_bytes: self.source.bytes(),
            path: self.settings.output.clone(),
            bytes: None,
            dropped: (0..blocks).filter(|block| !kept.contains(block)).collect(),
            plan_sha256,
            search,
            domains: Vec::new(),
            verified: None,
        };
        let Some(path) = &self.settings.output else { return Ok(outcome) };
        reporter.stage("writing", None);
        let sha256 = &outcome.plan_sha256;
        // A run that was killed after this point finds its output there, and writes it again.
        let force = self.settings.force || written_plan(path).is_some_and(|found| found == *sha256);
        let writer = cut::writer(&self.file, &kept, Some(sha256), self.settings.seed)?;
        outcome.bytes = Some(writer.write(path, WriteOptions { force })?);

        let Prepared { texts, teacher, .. } = prepared;
        reporter.stage("reading it again", Some(teacher.heldout.len() as u64));
        let written = Source::open(path)?.model()?;
        let (domains, mean) = score_domains(teacher, texts, &written, reporter)?;
        WrittenCheck { path, found: mean, expected: outcome.search.loss_heldout }.check()?;
        outcome.domains = domains;
        if self.settings.verify {
            reporter.stage("checking in llama.cpp", None);
            let (windows, threads) = (self.settings.work.verified, self.settings.threads);
            let original = self.source.model()?;
            let source = self.source.path();
            let prompt = &texts.prompt;
            outcome.verified =
                Some(verify(source, path, &original, &written, teacher, windows, threads, prompt)?);
        }
        Ok(outcome)
    }
}
