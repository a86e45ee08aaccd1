//! A smaller model: written, read again, scored.

use std::path::{Path, PathBuf};

use rco_core::search::SearchOutcome;
use rco_formats::atomic::WriteOptions;
use rco_model::Model;
use rco_model::eval::{Comparison, Summary};
use rco_model::head::LossReport;
use serde::Serialize;

use super::aim::OVER_LIMIT;
use super::error::PruneError;
use super::reference::Reference;
use super::settings::CommonSettings;
use super::source::Source;
use crate::job::Reporter;
use crate::place::{PlaceError, check_target};
use crate::verify::{Verified, verify};

/// Relative difference allowed between the model of the plan and what was written.
const SAME: f64 = 1e-3;
/// Nats allowed besides.
const SAME_NATS: f64 = 1e-6;

/// How the smaller model does on the held-out text of a domain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DomainScore {
    /// The domain.
    pub domain: String,
    /// Mean KL that it may have at most.
    pub limit: Option<f64>,
    /// What was written against the original, in our engine.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What a job has made, whatever the model lost.
#[derive(Debug, Clone, Serialize)]
pub struct Made {
    /// SHA-256 of the source.
    pub source_sha256: String,
    /// Bytes of the source.
    pub source_bytes: u64,
    /// The file or folder that was written.
    pub path: Option<PathBuf>,
    /// Its bytes; those of a folder with configuration and tokenizer.
    pub bytes: Option<u64>,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// The search.
    pub search: SearchOutcome,
    /// What was written, read again and scored by domain.
    pub domains: Vec<DomainScore>,
    /// A GGUF file in llama.cpp.
    pub verified: Option<Verified>,
}

impl Made {
    /// Writes the model of a plan by `write`, which gives its bytes; reads it again, scores it,
    /// and compares a GGUF file with the original in llama.cpp.
    pub(super) fn new(
        source: &Source,
        settings: &CommonSettings,
        reference: &Reference,
        search: SearchOutcome,
        plan_sha256: String,
        write: impl FnOnce(&Path, WriteOptions) -> Result<u64, PruneError>,
        reporter: &mut dyn Reporter,
    ) -> Result<Self, PruneError> {
        let mut made = Self {
            source_sha256: reference.source_sha256.clone(),
            source_bytes: source.bytes(),
            path: settings.output.clone(),
            bytes: None,
            plan_sha256,
            search,
            domains: Vec::new(),
            verified: None,
        };
        let Some(path) = &settings.output else { return Ok(made) };
        reporter.stage("writing", None);
        // A run that was killed after this point finds its output there, and writes it again.
        let own = written_plan(path).is_some_and(|found| found == made.plan_sha256);
        made.bytes = Some(write(path, WriteOptions { force: settings.force || own })?);

        reporter.stage("reading it again", Some(reference.teacher.heldout.len() as u64));
        let written = Source::open(path)?.model()?;
        let (domains, found) = reference.score(&written, reporter)?;
        made.domains = domains;
        let expected = made.search.loss_heldout;
        if (found - expected).abs() > SAME * expected + SAME_NATS {
            let problem = format!(
                "its mean KL on held-out text is {found:.6}, that of the plan {expected:.6}"
            );
            return Err(PruneError::Differs { path: path.clone(), problem });
        }
        if settings.verify && source.gguf().is_some() {
            reporter.stage("checking in llama.cpp", None);
            made.verified = Some(verify(
                source.path(),
                path,
                &reference.original,
                &written,
                &reference.teacher,
                settings.work.verified,
                settings.threads,
                &reference.texts.prompt,
            )?);
        }
        Ok(made)
    }
}

impl Reference {
    /// Scores a model on the held-out text of every domain; and its loss over all of it, as
    /// plans are judged.
    ///
    /// # Errors
    /// Whatever the model meets.
    pub fn score(
        &self,
        model: &Model,
        reporter: &mut dyn Reporter,
    ) -> Result<(Vec<DomainScore>, f64), PruneError> {
        let Self { texts, aim, teacher, .. } = self;
        let mut by_domain = vec![Comparison::default(); aim.domains()];
        let reports = teacher.losses(model, &teacher.heldout, 0..teacher.heldout.len())?;
        let mut window = 0;
        for (n, report) in reports.iter().enumerate() {
            let batch = teacher.heldout.batch(n);
            let len = batch.sequence_len();
            for s in 0..batch.sequences() {
                let of = s * len..(s + 1) * len;
                let own = report.tokens.iter().filter(|t| of.contains(&t.row)).copied();
                let own = LossReport { mean: report.mean, tokens: own.collect() };
                by_domain[aim.domain(window + s)].add(&own);
            }
            window += batch.sequences();
            reporter.advance(n as u64 + 1, "");
        }
        let scores = texts.domains.iter().zip(&by_domain).enumerate();
        let scores = scores.filter_map(|(d, (domain, comparison))| {
            let (domain, limit) = (domain.clone(), aim.limit(d));
            Some(DomainScore { domain, limit, summary: comparison.summary()? })
        });
        let sums = aim.sums(&teacher.heldout, &reports);
        Ok((scores.collect(), aim.loss(&sums, rco_core::search::Split::HeldOut)))
    }

    /// Refuses a plan that is above a limit on held-out text; `model` is that of the plan.
    pub(super) fn check_limits(
        &self,
        found: &SearchOutcome,
        model: impl FnOnce() -> Result<Model, PruneError>,
    ) -> Result<(), PruneError> {
        if found.loss_heldout < OVER_LIMIT {
            return Ok(());
        }
        let Self { texts, aim, teacher, .. } = self;
        let reports = teacher.losses(&model()?, &teacher.heldout, 0..teacher.heldout.len())?;
        let sums = aim.sums(&teacher.heldout, &reports);
        let above = (0..aim.domains()).filter_map(|d| {
            let (kl, limit) = (sums.mean(d)?, aim.limit(d)?);
            (kl > limit).then(|| (texts.domains[d].clone(), kl, limit))
        });
        match above.max_by(|a, b| (a.1 - a.2).total_cmp(&(b.1 - b.2))) {
            Some((text, found, limit)) => Err(PruneError::AboveLimit { text, found, limit }),
            None => Ok(()),
        }
    }
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

/// Refuses an output of another kind than the source.
pub(super) fn check_kind(source: &Source, output: Option<&Path>) -> Result<(), PruneError> {
    let Some(output) = output else { return Ok(()) };
    let is_gguf = output.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    if is_gguf == source.gguf().is_some() {
        return Ok(());
    }
    let wanted = if is_gguf { "a GGUF file" } else { "a Hugging Face folder" };
    Err(PruneError::OtherKind { output: output.to_owned(), wanted, found: source.kind() })
}
