//! What `rco prune` prints.

use std::path::PathBuf;

use rco_core::search::{Candidate, SearchOutcome};
use rco_quant::prune::aim::OVER_LIMIT;
use rco_quant::prune::layers::{LayersOutcome, LayersOutlook, LayersSettings};
use rco_quant::prune::made::{DomainScore, Made};
use rco_quant::prune::sparsity::{SparsityOutcome, SparsityOutlook, SparsitySettings};
use rco_quant::prune::{CommonSettings, PruneOutcome, PruneOutlook, PruneSettings};

use crate::error::CliError;
use crate::number::{amount, count, duration, grouped, percent};
use crate::output::Out;
use crate::table::Columns;

/// Candidates listed.
const MAX_CANDIDATES: usize = 12;

/// What is going to be done.
pub(super) fn outlook(
    out: &mut Out,
    outlook: &PruneOutlook,
    settings: &PruneSettings,
) -> Result<(), CliError> {
    model(out, &settings.common, &outlook.family, outlook.source_bytes)?;
    let (layers, per_token) = (count(outlook.layers as u64, "layer"), outlook.per_token);
    let experts = count(outlook.experts, "expert");
    out.field("experts", format!("{experts} in {layers}, {per_token} for each token"))?;
    let share = percent(outlook.dropped, outlook.experts);
    out.field("to drop", format!("{}, {share}", count(outlook.dropped, "expert")))?;
    let least = outlook.least_per_layer;
    let where_ = match (outlook.kept_per_layer, settings.max_spread) {
        (Some(kept), _) => format!("{kept} in each layer"),
        (None, None) => format!("at least {least} in each layer"),
        (None, Some(0)) => format!("at least {least} in each layer, in all of them as many"),
        (None, Some(spread)) => {
            format!("at least {least} in each layer, in none more than {spread} above another")
        }
    };
    out.field("to keep", format!("{}, {where_}", count(outlook.kept, "expert")))?;
    if let Some(bytes) = outlook.output_bytes {
        out.field("output", format!("exactly {}", amount(bytes, "bytes")))?;
    }
    texts(out, &settings.common)?;
    out.field("time", format!("about {} on two cores", duration(outlook.seconds)))
}

/// What was made.
pub(super) fn outcome(out: &mut Out, outcome: &PruneOutcome) -> Result<(), CliError> {
    made(out, &outcome.made)?;
    checks(out, &outcome.made)?;
    out.heading("Experts that remain")?;
    let mut table = Columns::new(&["layer", "kept", "experts"], 3);
    for layer in &outcome.layers {
        let experts: Vec<String> = layer.kept.iter().map(ToString::to_string).collect();
        let kept = format!("{} of {}", layer.kept.len(), layer.of);
        table.row([layer.layer.to_string(), kept, experts.join(" ")]);
    }
    out.line(table)?;
    domains(out, &outcome.made.domains)?;
    candidates(out, &outcome.made.search)
}

/// What was made of a model without some layers.
pub(super) fn layers_outcome(out: &mut Out, outcome: &LayersOutcome) -> Result<(), CliError> {
    made(out, &outcome.made)?;
    let dropped: Vec<String> = outcome.dropped.iter().map(ToString::to_string).collect();
    out.field("dropped", format!("layers {} (counted from 0)", dropped.join(" ")))?;
    checks(out, &outcome.made)?;
    domains(out, &outcome.made.domains)?;
    candidates(out, &outcome.made.search)
}

/// What is going to be done with single weights.
pub(super) fn sparsity_outlook(
    out: &mut Out,
    outlook: &SparsityOutlook,
    settings: &SparsitySettings,
) -> Result<(), CliError> {
    model(out, &settings.common, &outlook.family, outlook.source_bytes)?;
    let (matrices, weights) = (grouped(outlook.matrices as u64), grouped(outlook.weights));
    out.field("matrices", format!("{matrices}, all of the blocks, with {weights} weights"))?;
    let share = percent(outlook.dropped, outlook.weights);
    out.field("to drop", format!("at least {} weights, {share}", grouped(outlook.dropped)))?;
    out.field("output", "as large as the model: zeros are stored like all weights")?;
    texts(out, &settings.common)?;
    out.field("work", format!("{} through the model", count(outlook.tokens, "token")))
}

/// What was made of a model with zeros.
pub(super) fn sparsity_outcome(out: &mut Out, outcome: &SparsityOutcome) -> Result<(), CliError> {
    made(out, &outcome.made)?;
    let share = percent(outcome.dropped, outcome.weights);
    let (dropped, weights) = (grouped(outcome.dropped), grouped(outcome.weights));
    out.field("zeros", format!("{dropped} of {weights} weights, {share}"))?;
    checks(out, &outcome.made)?;
    out.heading("Zeros by kind of matrix")?;
    let mut kinds: Vec<(&str, u64, u64)> = Vec::new();
    for m in &outcome.matrices {
        let kind = m.name.trim_end_matches(".weight").rsplit('.').next().unwrap_or(&m.name);
        match kinds.iter_mut().find(|(name, ..)| *name == kind) {
            Some((_, dropped, of)) => {
                *dropped += m.dropped;
                *of += m.of;
            }
            None => kinds.push((kind, m.dropped, m.of)),
        }
    }
    let mut table = Columns::new(&["matrix", "weights", "zeros"], 1);
    for (kind, dropped, of) in kinds {
        table.row([kind.to_owned(), grouped(of), percent(dropped, of)]);
    }
    out.line(table)?;
    domains(out, &outcome.made.domains)?;
    candidates(out, &outcome.made.search)
}

/// What is going to be done with layers.
pub(super) fn layers_outlook(
    out: &mut Out,
    outlook: &LayersOutlook,
    settings: &LayersSettings,
) -> Result<(), CliError> {
    model(out, &settings.common, &outlook.family, outlook.source_bytes)?;
    out.field(
        "to drop",
        format!("{} of {}", outlook.dropped, count(outlook.layers as u64, "layer")),
    )?;
    if let Some((least, most)) = outlook.output_bytes {
        let output = if least == most {
            format!("exactly {}", amount(least, "bytes"))
        } else {
            format!("{} to {}", grouped(least), amount(most, "bytes"))
        };
        out.field("output", output)?;
    }
    texts(out, &settings.common)?;
    out.field("work", format!("{} through the model", count(outlook.tokens, "token")))
}

/// The model at hand.
fn model(
    out: &mut Out,
    settings: &CommonSettings,
    family: &str,
    bytes: u64,
) -> Result<(), CliError> {
    out.heading(&format!("Model {}", settings.model.display()))?;
    out.field("family", family)?;
    out.field("size", amount(bytes, "bytes"))
}

fn texts(out: &mut Out, settings: &CommonSettings) -> Result<(), CliError> {
    let judged = &settings.text;
    let list = |files: &[PathBuf]| {
        files.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let text = match (&judged.files[..], &judged.weights[..]) {
        ([], _) => "written by the model itself".to_owned(),
        (files, []) => list(files),
        (files, weights) => {
            let each = files.iter().zip(weights);
            let each = each.map(|(file, weight)| format!("{} (counts {weight})", file.display()));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    out.field("text", text)?;
    if let Some(limit) = judged.limit {
        out.field("protected", format!("{}: at most {limit} nats", list(&judged.protected)))?;
    }
    Ok(())
}

/// Name and size of what was written.
fn made(out: &mut Out, made: &Made) -> Result<(), CliError> {
    let name = made.path.as_ref().map_or_else(|| "Plan".into(), |p| p.display().to_string());
    out.heading(&name)?;
    if let Some(bytes) = made.bytes {
        let share = percent(bytes, made.source_bytes);
        out.field("size", format!("{}, {share} of the original", amount(bytes, "bytes")))?;
    }
    Ok(())
}

/// Losses of the plan, here and in llama.cpp.
fn checks(out: &mut Out, made: &Made) -> Result<(), CliError> {
    let Made { search, verified, .. } = made;
    out.field("held-out KL", format!("{:.6} nats a token", search.loss_heldout))?;
    out.field("found by", format!("{}, {}", search.method, search.origin))?;
    if let Some(checked) = verified {
        let (kl, tokens) = (checked.runtime.kl_mean, checked.runtime.tokens);
        let ours = checked.checked.as_ref();
        let ours = ours
            .map_or_else(String::new, |o| format!("; our engine: {:.6}", o.engine.kl_mean.value));
        let (value, error) = (kl.value, kl.error);
        out.field("llama.cpp", format!("KL {value:.6} ± {error:.6} on {tokens} tokens{ours}"))?;
        out.field("it writes", checked.sentence.replace('\n', " "))?;
    }
    Ok(())
}

/// What was written, by text.
fn domains(out: &mut Out, scores: &[DomainScore]) -> Result<(), CliError> {
    if !scores.is_empty() {
        out.heading("Held-out text, the output read again")?;
        let mut table = Columns::new(&["text", "tokens", "mean KL", "same top", "perplexity"], 1);
        for score in scores {
            let s = &score.summary;
            let ppl = s.perplexity.map_or_else(String::new, |p| format!("{:.3}", p.value));
            let before =
                s.teacher_perplexity.map_or_else(String::new, |p| format!("{:.3}", p.value));
            let limit = score.limit.map_or_else(String::new, |l| format!(" (at most {l})"));
            table.row([
                score.domain.clone(),
                s.tokens.to_string(),
                format!("{:.6} ± {:.6}{limit}", s.kl_mean.value, s.kl_mean.error),
                format!("{:.2} %", 100.0 * s.same_top.value),
                format!("{ppl} (original {before})"),
            ]);
        }
        out.line(table)?;
    }
    Ok(())
}

/// The plans of a search that came nearest.
fn candidates(out: &mut Out, search: &SearchOutcome) -> Result<(), CliError> {
    out.heading("Candidates, best first by the mean of both texts")?;
    let mut table = Columns::new(&["method", "made by", "held-out KL", "calibration KL"], 2);
    for Candidate { method, origin, loss_heldout, loss_calibration, .. } in
        search.candidates.iter().take(MAX_CANDIDATES)
    {
        let heldout = if *loss_heldout < OVER_LIMIT {
            format!("{loss_heldout:.6}")
        } else {
            "above a limit".to_owned()
        };
        let calibration = loss_calibration.map_or_else(String::new, |kl| format!("{kl:.6}"));
        table.row([method.to_string(), origin.clone(), heldout, calibration]);
    }
    out.line(table)
}
