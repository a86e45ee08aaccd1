//! The finished file in the runtime that will use it.

use std::path::Path;

use rco_formats::gguf::GgufModel;
use rco_ggml::{Runtime, RuntimeSettings, Sampling};
use rco_model::Model;
use rco_model::eval::{Comparison, Summary};
use rco_model::head::{LossReport, Target, compare_logits};

use crate::error::QuantError;
use crate::groups::Groups;
use crate::menu::Form;
use crate::teacher::Teacher;

/// Tokens of the sentence that the file writes.
const SENTENCE: usize = 32;
/// Relative difference allowed between the two means.
const RELATIVE: f64 = 0.02;
/// Standard errors of the difference allowed besides: a token that is routed to another
/// expert by the last bit must not fail a file.
const ERRORS: f64 = 3.0;
/// Nats allowed besides, for what sums in another order make of a divergence near 0.
const SLACK: f64 = 2e-5;

/// What the runtime made of a file.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Verified {
    /// The file against the original, both in llama.cpp.
    pub runtime: Summary,
    /// What our engine makes of the same, if it runs the model.
    #[serde(flatten)]
    pub checked: Option<EngineCheck>,
    /// What the file wrote after a prompt, prompt included.
    pub sentence: String,
}

/// The same plan in our engine.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct EngineCheck {
    /// The plan against the original in our engine on the same tokens, activations rounded
    /// as llama.cpp does.
    pub engine: Summary,
    /// The same with activations in 32 bits: the loss that the search sees.
    pub exact: Summary,
    /// Mean of the tokens' differences, runtime minus engine.
    pub difference: f64,
    /// Its standard error.
    pub difference_error: f64,
    /// The difference allowed.
    pub allowed: f64,
}

/// Checks that a file has the size and the types that were planned.
///
/// # Errors
/// [`QuantError::SizeDiffers`], [`QuantError::Changed`], or a file that cannot be read.
pub fn check_file(
    path: &Path,
    groups: &Groups,
    forms: &[Form],
    expected: u64,
) -> Result<(), QuantError> {
    let file = GgufModel::open(path)?;
    let found = file.file_size();
    if found != expected {
        return Err(QuantError::SizeDiffers { path: path.to_owned(), expected, found });
    }
    for (choice, &Form { ty, .. }) in groups.menu().choices.iter().zip(forms) {
        let name = &choice.tensor.name;
        let found = file.tensor(name).map(|(_, t)| t.spec.ty);
        if found != Some(ty) {
            let found = found.map_or_else(|| "nothing".to_owned(), |t| t.to_string());
            let problem = format!("{name} was planned as {ty}, the file has {found}");
            return Err(QuantError::Changed { path: path.to_owned(), problem });
        }
    }
    Ok(())
}

/// Loads the original and the file in llama.cpp, compares them on `windows` of the held-out
/// text, and compares the outcome with what the engine finds on the same tokens with `original`
/// and `model`.
///
/// # Errors
/// [`QuantError::RuntimeDisagrees`], or a file that the runtime cannot load.
#[allow(clippy::too_many_arguments, reason = "each is a thing of its own")]
pub fn verify(
    source: &Path,
    file: &Path,
    original: &Model,
    model: &Model,
    teacher: &Teacher,
    windows: usize,
    threads: usize,
    prompt: &str,
) -> Result<Verified, QuantError> {
    let heldout = &teacher.heldout;
    let (rounded_original, rounded) = (original.in_runtime(), model.in_runtime());
    let head = rounded_original.head()?;
    let mut wanted: Vec<(Vec<u32>, Vec<f64>)> = Vec::new();
    let (mut exact, mut ours, mut theirs) =
        (Comparison::default(), Comparison::default(), Comparison::default());
    for n in 0..heldout.len() {
        let left = windows.saturating_sub(wanted.len());
        if left == 0 {
            break;
        }
        let batch = heldout.batch(n);
        let len = batch.sequence_len();
        let taken = left.min(batch.sequences());
        let first = |report: LossReport| LossReport {
            tokens: report.tokens.into_iter().filter(|t| t.row < taken * len).collect(),
            ..report
        };
        exact.add(&first(teacher.loss(model, heldout, n)?));
        let hidden = rounded_original.hidden(batch)?;
        let target = Target::Teacher { head: &head, hidden: &hidden };
        let report = first(rounded.loss(batch, target)?);
        for (w, tokens) in report.tokens.chunks(len).enumerate() {
            let window = batch.tokens()[w * len..(w + 1) * len].to_vec();
            wanted.push((window, tokens.iter().map(|t| t.loss).collect()));
        }
        ours.add(&report);
    }
    drop((rounded_original, rounded, head));
    let windows = wanted.iter().map(|(window, _)| window.as_slice());
    let (reports, sentence) = run_in_runtime(source, file, windows, threads, prompt)?;
    let mut differences = Vec::new();
    for (report, (_, losses)) in reports.iter().zip(&wanted) {
        differences.extend(report.tokens.iter().zip(losses).map(|(t, ours)| t.loss - ours));
        theirs.add(report);
    }
    let (Some(runtime), Some(engine), Some(exact)) =
        (theirs.summary(), ours.summary(), exact.summary())
    else {
        return Err(NO_TEXT);
    };
    let n = differences.len() as f64;
    let difference = differences.iter().sum::<f64>() / n;
    let squares: f64 = differences.iter().map(|d| (d - difference).powi(2)).sum();
    let difference_error = (squares / (n * (n - 1.0).max(1.0))).sqrt();
    let allowed = RELATIVE * engine.kl_mean.value + ERRORS * difference_error + SLACK;
    if difference.abs() > allowed {
        return Err(QuantError::RuntimeDisagrees {
            path: file.to_owned(),
            runtime: runtime.kl_mean.value,
            error: runtime.kl_mean.error,
            engine: engine.kl_mean.value,
            allowed,
        });
    }
    let checked = EngineCheck { engine, exact, difference, difference_error, allowed };
    Ok(Verified { runtime, checked: Some(checked), sentence })
}

const NO_TEXT: QuantError =
    QuantError::Overflow { what: "no held-out text; the number of windows" };

/// Loads the original and the file in llama.cpp and compares them on `windows`, without our
/// engine.
///
/// # Errors
/// A file that the runtime cannot load.
pub fn verify_in_runtime<'a>(
    source: &Path,
    file: &Path,
    windows: impl IntoIterator<Item = &'a [u32]>,
    threads: usize,
    prompt: &str,
) -> Result<Verified, QuantError> {
    let (reports, sentence) = run_in_runtime(source, file, windows, threads, prompt)?;
    let mut comparison = Comparison::default();
    for report in &reports {
        comparison.add(report);
    }
    let runtime = comparison.summary().ok_or(NO_TEXT)?;
    Ok(Verified { runtime, checked: None, sentence })
}

/// The file against the original on each window, and what the file writes.
fn run_in_runtime<'a>(
    source: &Path,
    file: &Path,
    windows: impl IntoIterator<Item = &'a [u32]>,
    threads: usize,
    prompt: &str,
) -> Result<(Vec<LossReport>, String), QuantError> {
    let windows: Vec<&[u32]> = windows.into_iter().collect();
    let context = windows.iter().map(|w| w.len()).max().unwrap_or(1).max(SENTENCE * 4);
    let settings = RuntimeSettings { threads, context };
    let mut original = Runtime::open(source, &settings)?;
    let mut compressed = Runtime::open(file, &settings)?;
    let mut reports = Vec::with_capacity(windows.len());
    for window in windows {
        let (teacher, model) = (original.logits(window)?, compressed.logits(window)?);
        reports.push(compare_logits(window, &teacher, &model)?);
    }
    drop(original);
    let mut tokens = compressed.vocabulary().encode(prompt, true);
    tokens.truncate(context - SENTENCE);
    let more = compressed.generate(&tokens, SENTENCE, Sampling::Greedy)?;
    tokens.extend(more);
    Ok((reports, compressed.vocabulary().decode(&tokens)))
}
