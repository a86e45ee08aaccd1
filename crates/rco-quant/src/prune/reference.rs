//! The original model and the texts that smaller ones are judged by.

use std::path::Path;

use rco_model::Model;

use super::aim::Aim;
use super::error::PruneError;
use super::settings::CommonSettings;
use super::source::Source;
use super::texts::{PruneTexts, TextOrder};
use crate::job::Reporter;
use crate::states::StateCache;
use crate::teacher::Teacher;

/// What every plan is compared with, whatever it drops.
#[derive(Debug)]
pub struct Reference {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// The texts.
    pub texts: PruneTexts,
    /// What they count.
    pub aim: Aim,
    /// The original model.
    pub original: Model,
    /// What it makes of the texts.
    pub teacher: Teacher,
    /// What all of this was made from.
    pub origin: String,
}

impl Reference {
    /// Reads model and texts; states of the original that the run folder holds already are not
    /// computed again.
    pub(super) fn new(
        source: &Source,
        settings: &CommonSettings,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Self, PruneError> {
        let CommonSettings { text, work, seed, threads, .. } = settings;
        reporter.stage("reading the model", None);
        let source_sha256 = source.sha256()?;
        source.check_finite()?;
        let original = source.model()?;
        reporter.stage("preparing text", None);
        let (aim, files) = (Aim::new(text), text.all());
        let order = TextOrder { files: &files, seed: *seed, threads: *threads };
        let window = source.window(work.window);
        let texts = PruneTexts::new(source, &order, work, window, folder, reporter)?;
        let (calibration, heldout) = texts.batches(work.together)?;
        reporter.stage("original model", Some((calibration.len() + heldout.len()) as u64));
        let origin = format!("{source_sha256} {} {}", texts.sha256(), work.together);
        let mut cache = StateCache::open(&folder.join("teacher"), &origin)?;
        let mut advance = |done: usize| reporter.advance(done as u64, "");
        let teacher = Teacher::new(&original, calibration, heldout, &mut cache, &mut advance)?;
        Ok(Self { source_sha256, texts, aim, original, teacher, origin })
    }
}
