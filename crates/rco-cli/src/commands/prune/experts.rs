//! `rco prune --experts`.

use rco_core::Assignment;
use rco_quant::job::Reporter;
use rco_quant::prune::{CommonSettings, PruneJob, PruneOutcome, PruneOutlook};
use serde_json::{Map, Value, json};

use super::args::Args;
use super::{Plan, Pruning, report, write_plan};
use crate::error::CliError;
use crate::output::Out;
use crate::run_folder::RunFolder;

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
        let plan = Plan {
            format: "rco-expert-plan",
            source: (&prepared.reference.source_sha256, self.0.source().bytes()),
            sha256: &self.0.plan_sha256(&found.assignment),
            search: &found,
        };
        let own = json!({ "kept_experts": kept(&self.0, &found.assignment) });
        write_plan(folder, &plan, own)?;
        Ok(self.0.build(&prepared, found, reporter)?)
    }

    fn report(out: &mut Out, outcome: &PruneOutcome) -> Result<(), CliError> {
        report::outcome(out, outcome)
    }
}

/// Which experts remain, by layer.
fn kept(job: &PruneJob, plan: &Assignment) -> Map<String, Value> {
    let layers = job.map().layers().iter().zip(job.map().kept(plan));
    layers.map(|(l, kept)| (l.layer.to_string(), json!(kept))).collect()
}
