//! `rco prune --experts`.

use rco_core::search::SearchOutcome;
use rco_quant::job::Reporter;
use rco_quant::prune::{CommonSettings, PruneJob, PruneOutcome, PruneOutlook};
use serde_json::{Map, Value, json};

use super::args::Args;
use super::{Pruning, report};
use crate::error::CliError;
use crate::output::{self, Out};
use crate::run_folder::RunFolder;

/// What `plan.json` says it is.
const FORMAT: &str = "rco-expert-plan";
const VERSION: u32 = 1;

pub(super) struct Experts(PruneJob);

impl Pruning for Experts {
    type Outlook = PruneOutlook;
    type Outcome = PruneOutcome;

    fn open(args: &Args) -> Result<Self, CliError> {
        Ok(Self(PruneJob::open(args.settings())?))
    }

    fn common(&self) -> &CommonSettings {
        &self.0.settings().common
    }

    fn outlook(&self, out: &mut Out) -> Result<PruneOutlook, CliError> {
        let outlook = self.0.outlook()?;
        report::outlook(out, &outlook, self.0.settings())?;
        Ok(outlook)
    }

    fn budget(&self) -> (String, Value) {
        let settings = self.0.settings();
        let layers = if settings.per_layer { "in each layer alike" } else { "in all" };
        let mut own = json!({ "min_experts": settings.min_experts });
        if let Some(spread) = settings.max_spread {
            own["max_spread"] = json!(spread);
        }
        (format!("experts: {} {layers}", settings.amount), own)
    }

    fn source_sha256(&self) -> Result<String, CliError> {
        Ok(self.0.source().sha256()?)
    }

    fn make(
        &self,
        folder: &RunFolder,
        reporter: &mut dyn Reporter,
    ) -> Result<PruneOutcome, CliError> {
        let prepared = self.0.prepare(folder.path(), reporter)?;
        let found = self.0.search(&prepared, folder.path(), reporter)?;
        write_plan(folder, &self.0, &prepared.reference.source_sha256, &found)?;
        Ok(self.0.build(&prepared, found, reporter)?)
    }

    fn report(out: &mut Out, outcome: &PruneOutcome) -> Result<(), CliError> {
        report::outcome(out, outcome)
    }
}

/// Writes which experts remain; nothing in the file depends on the clock.
fn write_plan(
    folder: &RunFolder,
    job: &PruneJob,
    sha256: &str,
    found: &SearchOutcome,
) -> Result<(), CliError> {
    let layers = job.map().layers().iter().zip(job.map().kept(&found.assignment));
    let kept: Map<String, Value> =
        layers.map(|(l, kept)| (l.layer.to_string(), json!(kept))).collect();
    let plan = json!({
        "format": FORMAT,
        "version": VERSION,
        "rco": env!("CARGO_PKG_VERSION"),
        "model": { "sha256": sha256, "bytes": job.source().bytes() },
        "sha256": job.plan_sha256(&found.assignment),
        "heldout_kl": found.loss_heldout,
        "method": found.method,
        "found_by": found.origin,
        "kept_experts": kept,
    });
    output::write_json(&folder.plan(), &plan)
}
