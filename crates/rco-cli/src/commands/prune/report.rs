//! What `rco prune` prints.

use std::path::PathBuf;

use rco_core::search::{Candidate, SearchOutcome};
use rco_quant::prune::job::DomainScore;
use rco_quant::prune::layers::{LayersOutcome, LayersOutlook, LayersSettings};
use rco_quant::prune::{PruneOutcome, PruneOutlook, PruneSettings};
use rco_quant::verify::Verified;

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
    out.heading(&format!("Model {}", settings.model.display()))?;
    out.field("family", &outlook.family)?;
    out.field("size", amount(outlook.source_bytes, "bytes"))?;
    let (layers, per_token) = (count(outlook.layers as u64, "layer"), outlook.per_token);
    let experts = count(outlook.experts, "expert");
    out.field("experts", format!("{experts} in {layers}, {per_token} for each token"))?;
    let share = percent(outlook.dropped, outlook.experts);
    out.field("to drop", format!("{}, {share}", count(outlook.dropped, "expert")))?;
    let where_ = match outlook.kept_per_layer {
        Some(kept) => format!("{kept} in each layer"),
        None => format!("at least {} in each layer", outlook.least_per_layer),
    };
    out.field("to keep", format!("{}, {where_}", count(outlook.kept, "expert")))?;
    if let Some(bytes) = outlook.output_bytes {
        out.field("output", format!("exactly {}", amount(bytes, "bytes")))?;
    }
    texts(out, &settings.texts)?;
    out.field("time", format!("about {} on two cores", duration(outlook.seconds)))
}

/// What was made.
pub(super) fn outcome(out: &mut Out, outcome: &PruneOutcome) -> Result<(), CliError> {
    let search = &outcome.search;
    let name = outcome.path.as_ref().map_or_else(|| "Plan".into(), |p| p.display().to_string());
    out.heading(&name)?;
    if let Some(bytes) = outcome.bytes {
        let share = percent(bytes, outcome.source_bytes);
        out.field("size", format!("{}, {share} of the original", amount(bytes, "bytes")))?;
    }
    checks(out, search, outcome.verified.as_ref())?;
    out.heading("Experts that remain")?;
    let mut table = Columns::new(&["layer", "kept", "experts"], 3);
    for layer in &outcome.layers {
        let experts: Vec<String> = layer.kept.iter().map(ToString::to_string).collect();
        let kept = format!("{} of {}", layer.kept.len(), layer.of);
        table.row([layer.layer.to_string(), kept, experts.join(" ")]);
    }
    out.line(table)?;
    domains(out, &outcome.domains)?;
    candidates(out, search)
}

/// What was made of a model without some layers.
pub(super) fn layers_outcome(out: &mut Out, outcome: &LayersOutcome) -> Result<(), CliError> {
    let search = &outcome.search;
    let name = outcome.path.as_ref().map_or_else(|| "Plan".into(), |p| p.display().to_string());
    out.heading(&name)?;
    if let Some(bytes) = outcome.bytes {
        let share = percent(bytes, outcome.source_bytes);
        out.field("size", format!("{}, {share} of the original", amount(bytes, "bytes")))?;
    }
    let dropped: Vec<String> = outcome.dropped.iter().map(ToString::to_string).collect();
    out.field("dropped", format!("layers {} (counted from 0)", dropped.join(" ")))?;
    checks(out, search, outcome.verified.as_ref())?;
    domains(out, &outcome.domains)?;
    candidates(out, search)
}

/// What is going to be done with layers.
pub(super) fn layers_outlook(
    out: &mut Out,
    outlook: &LayersOutlook,
    settings: &LayersSettings,
) -> Result<(), CliError> {
    out.heading(&format!("Model {}", settings.model.display()))?;
    out.field("family", &outlook.family)?;
    out.field("size", amount(outlook.source_bytes, "bytes"))?;
    out.field(
        "to drop",
        format!("{} of {}", outlook.dropped, count(outlook.layers as u64, "layer")),
    )?;
    let (least, most) = outlook.output_bytes;
    let output = if least == most {
        format!("exactly {}", amount(least, "bytes"))
    } else {
        format!("{} to {}", grouped(least), amount(most, "bytes"))
    };
    out.field("output", output)?;
    texts(out, &settings.texts)?;
    out.field("work", format!("{} through the model", count(outlook.tokens, "token")))
}

fn texts(out: &mut Out, files: &[PathBuf]) -> Result<(), CliError> {
    let text = match files {
        [] => "written by the model itself".to_owned(),
        files => files.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    out.field("text", text)
}

/// Losses of the plan, here and in llama.cpp.
fn checks(
    out: &mut Out,
    search: &SearchOutcome,
    verified: Option<&Verified>,
) -> Result<(), CliError> {
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
            table.row([
                score.domain.clone(),
                s.tokens.to_string(),
                format!("{:.6} ± {:.6}", s.kl_mean.value, s.kl_mean.error),
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
    out.heading("Candidates, best first")?;
    let mut table = Columns::new(&["method", "made by", "held-out KL"], 2);
    for Candidate { method, origin, loss_heldout, .. } in
        search.candidates.iter().take(MAX_CANDIDATES)
    {
        table.row([method.to_string(), origin.clone(), format!("{loss_heldout:.6}")]);
    }
    out.line(table)
}
