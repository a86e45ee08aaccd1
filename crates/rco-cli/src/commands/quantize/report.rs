//! What `rco quantize` and its steps print.

use rco_core::search::{Candidate, SearchOutcome};
use rco_formats::inspect::role;
use rco_quant::TuningOutcome;
use rco_quant::job::{FileOutcome, JobOutcome, JobSettings, OptionsFile, Outlook, Prepared};
use serde::Serialize;

use crate::error::CliError;
use crate::number::{amount, count, duration, grouped, percent};
use crate::output::Out;
use crate::table::Columns;

/// Candidates listed.
const MAX_CANDIDATES: usize = 12;

/// What is going to be done.
pub(super) fn outlook(
    out: &mut Out,
    outlook: &Outlook,
    settings: &JobSettings,
) -> Result<(), CliError> {
    out.heading(&format!("Model {}", settings.model.display()))?;
    let bits = 8.0 * outlook.source_bytes as f64 / outlook.weights as f64;
    out.field("architecture", &outlook.architecture)?;
    out.field("weights", grouped(outlook.weights))?;
    out.field(
        "size",
        format!("{}, {bits:.2} bits per weight", amount(outlook.source_bytes, "bytes")),
    )?;
    let tensors = count(outlook.groups as u64, "tensor");
    out.field("to decide", format!("{tensors}, {}", count(outlook.options as u64, "option")))?;
    let types: Vec<String> =
        outlook.types.iter().map(|(name, tensors)| format!("{name} ×{tensors}")).collect();
    out.field("types", types.join("  "))?;
    out.field("smallest", format!("{} with these types", amount(outlook.smallest, "bytes")))?;
    for order in &outlook.orders {
        let budget = amount(order.budget, "bytes");
        let bits = order.bits_per_weight;
        out.field("budget", format!("{budget}, {bits:.3} bits per weight"))?;
        if let (Some(kv), Some(compute)) = (order.kv_cache, order.compute) {
            let (kv, compute) = (amount(kv, "bytes"), amount(compute, "bytes"));
            out.field("", format!("beside {kv} of cache and about {compute} of buffers"))?;
        }
    }
    let text = match settings.texts.as_slice() {
        [] => "written by the model itself".to_owned(),
        files => files.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    out.field("text", text)?;
    out.field("memory", format!("about {} at most", amount(outlook.memory, "bytes")))?;
    let mut parts = vec![("encoding", outlook.encoding_memory)];
    match &outlook.gradient_memory {
        Some(m) => parts.extend([
            ("a gradient", m.peak()),
            ("of which the original's states and output matrix", m.teacher),
            ("inputs of blocks", m.inputs),
            ("kept for the way back", m.kept),
            ("a block", m.block),
            ("the output", m.head),
        ]),
        None => out.field("", "beside the two models that llama.cpp maps to compare them")?,
    }
    for (what, bytes) in parts {
        out.field("", format!("{what}: {}", amount(bytes, "bytes")))?;
    }
    out.field("disk", format!("about {} while it runs", amount(outlook.database_bytes, "bytes")))?;
    out.field("time", format!("about {} on two cores", duration(outlook.seconds)))
}

/// What `rco options` has made.
#[derive(Debug, Serialize)]
pub(super) struct Encoded {
    /// Tensors that are decided on.
    groups: usize,
    /// Their options, without those that are larger and worse than another.
    options: usize,
    /// Bytes of the smallest and of the largest file.
    smallest: u64,
    largest: u64,
    /// The options files.
    files: Vec<OptionsFile>,
}

impl Encoded {
    pub(super) fn new(prepared: &Prepared) -> Self {
        let choices = &prepared.groups.menu().choices;
        let (smallest, largest) = prepared.groups.range();
        Self {
            groups: choices.len(),
            options: choices.iter().map(|c| c.forms.len()).sum(),
            smallest,
            largest,
            files: prepared.options.clone(),
        }
    }
}

/// What `rco options` has made.
pub(super) fn encoded(out: &mut Out, encoded: &Encoded) -> Result<(), CliError> {
    out.heading("Options")?;
    let (groups, options) = (encoded.groups as u64, encoded.options as u64);
    let left = format!("{} of {}", count(options, "option"), count(groups, "tensor"));
    out.field("left", format!("{left}, none larger and worse than another"))?;
    let (smallest, largest) = (grouped(encoded.smallest), amount(encoded.largest, "bytes"));
    out.field("files of", format!("{smallest} to {largest}"))
}

/// What was made.
pub(super) fn outcome(out: &mut Out, outcome: &JobOutcome, plan: bool) -> Result<(), CliError> {
    for file in &outcome.files {
        out.heading(&name(file))?;
        let share = percent(file.bytes, file.budget);
        out.field("size", format!("{}, {share} of the budget", amount(file.bytes, "bytes")))?;
        out.field("slack", slack(file))?;
        if let Some(kept) = file.experts.first() {
            let kept = count(kept.len() as u64, "expert");
            out.field("experts", format!("{kept} remain in each layer (see Experts below)"))?;
        }
        if let Some(search) = &file.search {
            out.field("held-out KL", format!("{:.6} nats a token", search.loss_heldout))?;
            out.field("found by", format!("{}, {}", search.method, search.origin))?;
        }
        if let Some(tuning) = &file.tuning {
            out.field("scales", tuned(tuning))?;
        }
        if let Some(checked) = &file.verified {
            let runtime = &checked.runtime;
            let kl = runtime.kl_mean;
            let ours = checked.checked.as_ref().map_or_else(String::new, |ours| {
                format!(
                    "; our engine: {:.6}, with activations in 32 bits {:.6}",
                    ours.engine.kl_mean.value, ours.exact.kl_mean.value
                )
            });
            let (value, error, tokens) = (kl.value, kl.error, runtime.tokens);
            out.field("llama.cpp", format!("KL {value:.6} ± {error:.6} on {tokens} tokens{ours}"))?;
            let top = runtime.same_top;
            out.field(
                "same top",
                format!("{:.2} % ± {:.2}", 100.0 * top.value, 100.0 * top.error),
            )?;
            if let (Some(ppl), Some(before)) = (runtime.perplexity, runtime.teacher_perplexity) {
                out.field(
                    "perplexity",
                    format!("{:.3} (original {:.3})", ppl.value, before.value),
                )?;
            }
            out.field("it writes", checked.sentence.replace('\n', " "))?;
        }
        if !file.tried.is_empty() {
            experts(out, file)?;
        }
        out.heading("Types")?;
        out.line(by_kind(file))?;
        if let Some(search) = &file.search {
            candidates(out, search)?;
        }
        if plan {
            out.heading("Plan")?;
            for (name, ty) in &file.plan {
                out.line(format!("  {name} {ty}"))?;
            }
        }
    }
    if outcome.files.len() > 1 && outcome.files.iter().all(|file| file.search.is_some()) {
        out.heading("Size and KL")?;
        let mut table = Columns::new(&["file", "bytes", "held-out KL"], 1);
        for file in &outcome.files {
            let kl = file.search.as_ref().map_or(0.0, |s| s.loss_heldout);
            table.row([name(file), grouped(file.bytes), format!("{kl:.6}")]);
        }
        out.line(table)?;
    }
    Ok(())
}

/// What tuning has done.
pub(super) fn tuned(tuning: &TuningOutcome) -> String {
    let TuningOutcome { steps, before, after, taken, .. } = tuning;
    let steps = count(*steps, "step");
    if *taken {
        format!("tuned in {steps}: held-out KL {before:.6} before, {after:.6} now")
    } else {
        format!("as rounding chose them: after {steps} held-out KL was {after:.6}, not {before:.6}")
    }
}

/// The numbers of experts that were tried, and those that remain.
fn experts(out: &mut Out, file: &FileOutcome) -> Result<(), CliError> {
    out.heading("Experts")?;
    let mut table = Columns::new(&["in each layer", "knapsack KL", "searched, held-out KL"], 0);
    for tried in &file.tried {
        let searched = tried.searched.map_or_else(String::new, |kl| format!("{kl:.6}"));
        table.row([tried.experts.to_string(), format!("{:.6}", tried.knapsack), searched]);
    }
    out.line(table)?;
    for (n, kept) in file.experts.iter().enumerate() {
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        out.field(&format!("mixture {n}"), kept.join(" "))?;
    }
    Ok(())
}

/// The plans of a search that came nearest.
fn candidates(out: &mut Out, search: &SearchOutcome) -> Result<(), CliError> {
    out.heading("Candidates, best first")?;
    let mut table = Columns::new(&["method", "made by", "held-out KL", "bytes"], 2);
    for candidate in search.candidates.iter().take(MAX_CANDIDATES) {
        let Candidate { method, origin, loss_heldout, costs, .. } = candidate;
        let bytes = grouped(costs.first().copied().unwrap_or(0));
        table.row([method.to_string(), origin.clone(), format!("{loss_heldout:.6}"), bytes]);
    }
    out.line(table)
}

/// The file, or what the plan is for.
fn name(file: &FileOutcome) -> String {
    match &file.path {
        Some(path) => path.display().to_string(),
        None => format!("Plan for {}", amount(file.budget, "bytes")),
    }
}

fn slack(file: &FileOutcome) -> String {
    let bytes = amount(file.slack, "bytes");
    match file.next_step {
        None => format!("{bytes}: every tensor has its best type"),
        Some(step) if step > file.slack => {
            format!("{bytes}: the smallest step of any tensor takes {}", grouped(step))
        }
        Some(_) => format!("{bytes}: what would still fit was measured to do no good"),
    }
}

/// How often each part of the model takes which type.
fn by_kind(file: &FileOutcome) -> String {
    let mut rows: Vec<(&'static str, Vec<(String, usize)>)> = Vec::new();
    for (name, ty) in &file.plan {
        let label = role(name).kind.label();
        let at = rows.iter().position(|(l, _)| *l == label).unwrap_or_else(|| {
            rows.push((label, Vec::new()));
            rows.len() - 1
        });
        let ty = ty.to_string();
        match rows[at].1.iter_mut().find(|(t, _)| *t == ty) {
            Some((_, n)) => *n += 1,
            None => rows[at].1.push((ty, 1)),
        }
    }
    let mut table = Columns::new(&["part", "types"], 2);
    for (label, mut types) in rows {
        types.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let types: Vec<String> = types.iter().map(|(ty, n)| format!("{ty} ×{n}")).collect();
        table.row([label.to_owned(), types.join("  ")]);
    }
    table.to_string()
}
