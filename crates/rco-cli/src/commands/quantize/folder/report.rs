//! What `rco quantize` prints of folders.

use std::collections::BTreeMap;

use rco_core::search::Candidate;
use rco_quant::packed::{FolderOutcome, Output, PackOutcome, PackOutlook, PackSettings, RulePrice};

use super::super::report::tuned;
use crate::error::CliError;
use crate::number::{amount, count, duration, percent};
use crate::output::Out;
use crate::table::Columns;

/// Candidates listed.
const MAX_CANDIDATES: usize = 8;
/// Modules named of several.
const NAMED: usize = 3;

/// What is going to be done.
pub(super) fn outlook(
    out: &mut Out,
    outlook: &PackOutlook,
    settings: &PackSettings,
) -> Result<(), CliError> {
    out.heading(&format!("Model {}", settings.model.display()))?;
    out.field("family", &outlook.family)?;
    let weights = count(outlook.weights, "weight");
    out.field("size", format!("{}, {weights}", amount(outlook.source_bytes, "bytes")))?;
    let decided = matrices(outlook.matrices);
    let share = percent(outlook.matrix_weights, outlook.weights);
    out.field("decided on", format!("{decided}, {share} of the weights"))?;
    out.field("options", outlook.forms.join(" "))?;
    for foreign in &outlook.foreign {
        let matrices = matrices(foreign.matrices);
        let (mark, path) = (&foreign.mark, foreign.path.display());
        out.field("theirs", format!("{mark}: {matrices} of {path}"))?;
    }
    out.field("runtime", format!("{}, as {}", settings.runtime, settings.format))?;
    for rule in &outlook.rules {
        out.field("rule", rule)?;
    }
    if !outlook.unfit.is_empty() {
        let why = "no group size divides their rows";
        out.field("as they are", format!("{}: {why}", some_of(&outlook.unfit)))?;
    }
    for order in &outlook.orders {
        let (least, most) = (amount(order.smallest, "bytes"), amount(order.largest, "bytes"));
        out.field("budget", format!("{}, of {least} to {most}", amount(order.budget, "bytes")))?;
    }
    let texts: Vec<_> = settings.texts.iter().map(|p| p.display().to_string()).collect();
    out.field("text", texts.join(", "))?;
    out.field("disk", format!("{} of options", amount(outlook.database_bytes, "bytes")))?;
    out.field("time", format!("about {} on two cores", duration(outlook.seconds)))
}

fn matrices(number: usize) -> String {
    count(number as u64, "matrix").replace("matrixs", "matrices")
}

fn some_of(names: &[String]) -> String {
    let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// What a rule of the runtime costs.
fn priced(price: &RulePrice) -> String {
    let (with, without) = (price.with, price.without);
    let ratio = with / without.max(f64::MIN_POSITIVE);
    let much = if ratio < 2.0 {
        format!("{:.2} % more estimated loss", 100.0 * (ratio - 1.0))
    } else {
        format!("{ratio:.1} times the estimated loss")
    };
    format!("{much} ({without:.6} to {with:.6})")
}

/// What was made.
pub(super) fn outcome(out: &mut Out, outcome: &PackOutcome, plan: bool) -> Result<(), CliError> {
    outcome.folders.iter().try_for_each(|folder| one(out, outcome, folder, plan))
}

fn one(
    out: &mut Out,
    outcome: &PackOutcome,
    folder: &FolderOutcome,
    plan: bool,
) -> Result<(), CliError> {
    let FolderOutcome { search, summary, .. } = folder;
    out.heading(&folder.path.display().to_string())?;
    let share = percent(folder.tensor_bytes, outcome.source_bytes);
    out.field(
        "size",
        format!("{}, {share} of the original", amount(folder.tensor_bytes, "bytes")),
    )?;
    if folder.written_bytes != folder.tensor_bytes {
        let (format, bytes) = (Output::FakeQuant, amount(folder.written_bytes, "bytes"));
        out.field("written", format!("{bytes} as {format}"))?;
    }
    let slack = count(folder.budget.saturating_sub(folder.bytes), "byte");
    out.field("budget", format!("{}, {slack} left", amount(folder.budget, "bytes")))?;
    let (linear, bpw) = (folder.linear_bpw, folder.bpw);
    out.field("bits", format!("{linear:.3} a weight of the matrices, {bpw:.3} of all"))?;
    let (kl, error) = (summary.kl_mean.value, summary.kl_mean.error);
    out.field("held-out KL", format!("{kl:.6} ± {error:.6} nats a token, read again"))?;
    out.field("same top", format!("{:.2} %", 100.0 * summary.same_top.value))?;
    out.field("found by", format!("{}, {}", search.method, search.origin))?;
    if let Some(tuning) = &folder.tuning {
        out.field("scales", tuned(tuning))?;
    }
    for price in &folder.rules {
        out.field("rule", format!("{}: {}", price.rule, priced(price)))?;
    }
    if !folder.nearest.is_empty() {
        let why = "rounded to the nearest: too few tokens";
        out.field("experts", format!("{}: {why}", some_of(&folder.nearest)))?;
    }
    let mut forms: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, form) in &folder.plan {
        *forms.entry(form).or_default() += 1;
    }
    let forms: Vec<String> = forms.iter().map(|(form, n)| format!("{form} ×{n}")).collect();
    out.field("plan", forms.join("  "))?;
    if plan {
        out.heading("Plan")?;
        let mut table = Columns::new(&["matrix", "form"], 2);
        for (module, form) in &folder.plan {
            table.row([module.clone(), form.clone()]);
        }
        out.line(table)?;
    }
    out.heading("Candidates, best first")?;
    let mut table = Columns::new(&["method", "made by", "held-out KL"], 2);
    for Candidate { method, origin, loss_heldout, .. } in
        search.candidates.iter().take(MAX_CANDIDATES)
    {
        table.row([method.to_string(), origin.clone(), format!("{loss_heldout:.6}")]);
    }
    out.line(table)
}

#[cfg(test)]
mod tests {
    use super::{RulePrice, priced};

    #[test]
    fn a_rule_is_priced_by_a_share_while_that_is_small_and_by_a_factor_beyond() {
        let of = |with, without| priced(&RulePrice { rule: "one", with, without });
        assert_eq!(of(0.0206, 0.02), "3.00 % more estimated loss (0.020000 to 0.020600)");
        assert_eq!(of(0.3, 0.02), "15.0 times the estimated loss (0.020000 to 0.300000)");
        assert_eq!(of(0.02, 0.02), "0.00 % more estimated loss (0.020000 to 0.020000)");
    }
}
