//! `rco prune --sparsity`.

use rco_quant::job::Reporter;
use rco_quant::prune::sparsity::{SparsityJob, SparsityOutcome, SparsityOutlook};
use rco_quant::prune::{Amount, CommonSettings};
use serde_json::{Map, Value, json};

use super::args::Args;
use super::{Plan, Pruning, report, write_plan};
use crate::error::CliError;
use crate::output::Out;
use crate::run_folder::RunFolder;

pub(super) struct Sparsity(SparsityJob);

impl Pruning for Sparsity {
    type Outlook = SparsityOutlook;
    type Outcome = SparsityOutcome;

    fn open(args: &Args) -> Result<Self, CliError> {
        let amount = args.sparsity.unwrap_or(Amount::Count(0));
        Ok(Self(SparsityJob::open(args.sparsity_settings(amount))?))
    }

    fn common(&self) -> &CommonSettings {
        &self.0.settings().common
    }

    fn outlook(&self, out: &mut Out) -> Result<SparsityOutlook, CliError> {
        let outlook = self.0.outlook();
        report::sparsity_outlook(out, &outlook, self.0.settings())?;
        Ok(outlook)
    }

    fn budget(&self) -> (String, Value) {
        (format!("zeros: {}", self.0.settings().amount), json!({}))
    }

    fn source_sha256(&self) -> Result<String, CliError> {
        Ok(self.0.source_sha256()?)
    }

    fn make(
        &self,
        folder: &RunFolder,
        reporter: &mut dyn Reporter,
    ) -> Result<SparsityOutcome, CliError> {
        let outcome = self.0.run(folder.path(), reporter)?;
        let shares = outcome.matrices.iter().map(|m| (m.name.clone(), json!(m.share)));
        let shares: Map<String, Value> = shares.collect();
        let own = json!({ "zeros": outcome.dropped, "shares": shares });
        write_plan(folder, &Plan::of("rco-sparsity-plan", &outcome.made), own)?;
        Ok(outcome)
    }

    fn report(out: &mut Out, outcome: &SparsityOutcome) -> Result<(), CliError> {
        report::sparsity_outcome(out, outcome)
    }
}
