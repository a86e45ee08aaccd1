//! From a model and a number of layers to a shorter model that has been read again.

use std::fmt::Write as _;
use std::path::Path;

use rco_core::Assignment;
use rco_core::search::SearchOutcome;
use rco_formats::atomic::WriteOptions;
use serde::Serialize;

use super::objective::{LayersLoss, Shortened, kept, plan_without, problem};
use super::{cut, folder};
use crate::error::QuantError;
use crate::hash::sha256;
use crate::job::Reporter;
use crate::prune::made::{Made, check_kind};
use crate::prune::reference::Reference;
use crate::prune::source::Source;
use crate::prune::{CommonSettings, PruneError};
use crate::samples::SampleFile;
use crate::search_folder::search_in;

/// Blocks that remain at least: without any there is no model.
const LEAST: usize = 1;

/// What a job is asked to do.
#[derive(Debug, Clone)]
pub struct LayersSettings {
    /// Model, texts, output, work.
    pub common: CommonSettings,
    /// Layers to drop.
    pub layers: u64,
}

/// A job whose inputs have been opened and checked, as far as headers say.
#[derive(Debug)]
pub struct LayersJob {
    settings: LayersSettings,
    source: Source,
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
    /// Bytes of the smallest and of the largest file or folder that may come out; nothing for a
    /// folder of several files of tensors.
    pub output_bytes: Option<(u64, u64)>,
    /// Tokens that are computed forwards, about.
    pub tokens: u64,
}

/// What a job has made.
#[derive(Debug, Clone, Serialize)]
pub struct LayersOutcome {
    /// The model that was written, and how it was found.
    #[serde(flatten)]
    pub made: Made,
    /// Layers that went, as they were numbered.
    pub dropped: Vec<usize>,
}

impl LayersJob {
    /// Opens the model and checks that so many layers can go.
    ///
    /// # Errors
    /// A model that cannot be read, a number that leaves nothing, an output of another kind.
    pub fn open(settings: LayersSettings) -> Result<Self, PruneError> {
        let CommonSettings { model, output, text, .. } = &settings.common;
        text.check()?;
        let source = Source::open(model)?;
        if let Some(file) = source.gguf() {
            cut::blocks(file)?;
        } else if text.files.is_empty() {
            return Err(PruneError::NoText);
        }
        let (blocks, asked) = (source.config().blocks.len(), settings.layers);
        let most = blocks.saturating_sub(LEAST) as u64;
        if asked == 0 || asked > most {
            return Err(PruneError::Layers { asked, blocks: blocks as u64, most });
        }
        check_kind(&source, output.as_deref())?;
        Ok(Self { settings, source })
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

    fn blocks(&self) -> usize {
        self.source.config().blocks.len()
    }

    fn remaining(&self) -> usize {
        self.blocks() - self.settings.layers as usize
    }

    /// Candidates of every step of the elimination: the blocks that cost least by themselves.
    fn tried(&self) -> usize {
        (self.settings.common.work.polish as usize / 8).clamp(2, self.blocks())
    }

    /// What the job would do. Reads nothing but headers.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn outlook(&self) -> Result<LayersOutlook, PruneError> {
        let (blocks, work) = (self.blocks(), self.settings.common.work);
        let mut order: Vec<usize> = (0..blocks).collect();
        let each = self.bytes_of_blocks();
        order.sort_by_key(|&block| (each[block], block));
        let size = |kept: &[usize]| -> Result<Option<u64>, PruneError> {
            let mut kept = kept.to_vec();
            kept.sort_unstable();
            self.predicted_bytes(&kept)
        };
        let remaining = self.remaining();
        let ends = (size(&order[..remaining])?, size(&order[blocks - remaining..])?);
        let output_bytes = ends.0.zip(ends.1);
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

    /// Bytes of the tensors of every block.
    fn bytes_of_blocks(&self) -> Vec<u64> {
        let mut each = vec![0; self.blocks()];
        let mut add = |block: Option<usize>, bytes: u64| {
            if let Some(sum) = block.and_then(|block| each.get_mut(block)) {
                *sum += bytes;
            }
        };
        if let Some(file) = self.source.gguf() {
            for (_, info) in file.tensors() {
                add(cut::block_of(&info.spec.name).map(|(block, _)| block), info.length);
            }
        } else if let Some(hf) = self.source.folder() {
            for (_, tensor) in hf.tensors() {
                let block = folder::block_of(&tensor.name).map(|(_, block, _)| block);
                add(block, tensor.elements() * tensor.dtype.bits() / 8);
            }
        }
        each
    }

    /// Bytes of the output of a plan; nothing for a folder of several files of tensors.
    fn predicted_bytes(&self, kept: &[usize]) -> Result<Option<u64>, PruneError> {
        if let Some(file) = self.source.gguf() {
            let writer = cut::writer(file, kept, None, self.settings.common.seed)?;
            return Ok(Some(writer.file_size()?));
        }
        let Some(hf) = self.source.folder() else { return Ok(None) };
        let files = folder::plan(hf, self.source.config(), kept, &sha256(b""))?;
        files.bytes(hf.path())
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
        let common = &self.settings.common;
        let reference = Reference::new(&self.source, common, folder, reporter)?;
        let found = self.search(&reference, folder, reporter)?;
        let kept = kept(self.blocks(), &found.assignment);
        let sha256 = plan_sha256(&kept);
        let write = |path: &Path, options| self.write(path, &kept, &sha256, options);
        let (source, plan) = (&self.source, sha256.clone());
        let made = Made::new(source, common, &reference, found, plan, write, reporter)?;
        let dropped = (0..self.blocks()).filter(|block| !kept.contains(block)).collect();
        Ok(LayersOutcome { made, dropped })
    }

    /// Searches the plan. Dropping blocks has no derivative, so the search starts from what each
    /// of them costs by itself and from an elimination one by one, and corrects the former by
    /// what plans are measured to lose.
    fn search(
        &self,
        reference: &Reference,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<SearchOutcome, PruneError> {
        let (blocks, common) = (self.blocks(), &self.settings.common);
        let work = common.work;
        let shortened = Shortened::new(&self.source, &reference.original);
        let origin = &reference.origin;
        let mut of_losses = format!("layers {origin}");
        reference.aim.describe(&mut of_losses);
        let of_losses = sha256(of_losses.as_bytes());
        let mut losses = SampleFile::open(&folder.join("losses.jsonl"), &of_losses, 1)?;
        let measure = LayersLoss::new(shortened, reference, &[], Vec::new());
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
        let mut loss = LayersLoss::new(shortened, reference, &singles, known);
        let run = reference.aim.search_folder(folder);
        let mut settings = work.search(common.seed);
        settings.refine.plans = work.steps + work.polish;
        settings.refine.spread = 1.0;
        let problem = problem(blocks, self.remaining() as u64)?;
        let found = search_in(&run, &problem, &mut loss, settings, reporter)?;
        let plan = kept(blocks, &found.assignment);
        reference.check_limits(&found, || shortened.model(&plan))?;
        Ok(found)
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

    /// Writes file or folder; gives its bytes, which are those predicted.
    fn write(
        &self,
        path: &Path,
        kept: &[usize],
        sha256: &str,
        options: WriteOptions,
    ) -> Result<u64, PruneError> {
        let expected = self.predicted_bytes(kept)?;
        let found = if let Some(file) = self.source.gguf() {
            let writer = cut::writer(file, kept, Some(sha256), self.settings.common.seed)?;
            writer.write(path, options)?
        } else if let Some(hf) = self.source.folder() {
            let files = folder::plan(hf, self.source.config(), kept, sha256)?;
            files.write(path, options)?
        } else {
            0
        };
        match expected {
            Some(expected) if expected != found => {
                Err(QuantError::SizeDiffers { path: path.to_owned(), expected, found }.into())
            }
            _ => Ok(found),
        }
    }
}

/// SHA-256 of a plan: of a line `layer` for each that remains.
fn plan_sha256(kept: &[usize]) -> String {
    let mut text = String::new();
    for layer in kept {
        let _ = writeln!(text, "layer {layer}");
    }
    sha256(text.as_bytes())
}
