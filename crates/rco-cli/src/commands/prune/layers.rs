//! `rco prune --layers`.

use rco_quant::job::Reporter;
use rco_quant::prune::CommonSettings;
use rco_quant::prune::layers::{LayersJob, LayersOutcome, LayersOutlook, LayersSettings};
use serde_json::{Value, json};

use super::args::Args;
use super::{Plan, Pruning, report, write_plan};
use crate::error::CliError;
use crate::output::Out;
use crate::run_folder::RunFolder;

pub(super) struct Layers(LayersJob);

impl Pruning for Layers {
    type Outlook = LayersOutlook;
    type Outcome = LayersOutcome;

    fn open(args: &Args) -> Result<Self, CliError> {
        let settings = LayersSettings { layers: args.layers.unwrap_or(0), common: args.common() };
        Ok(Self(LayersJob::open(settings)?))
    }

    fn common(&self) -> &CommonSettings {
        &self.0.settings().common
    }

    fn outlook(&self, out: &mut Out) -> Result<LayersOutlook, CliError> {
        let outlook = self.0.outlook()?;
        report::layers_outlook(out, &outlook, self.0.settings())?;
        Ok(outlook)
    }

    fn budget(&self) -> (String, Value) {
        (format!("layers: {}", self.0.settings().layers), json!({}))
    }

    fn source_sha256(&self) -> Result<String, CliError> {
        Ok(self.0.source_sha256()?)
    }

    fn make(
        &self,
        folder: &RunFolder,
        reporter: &mut dyn Reporter,
    ) -> Result<LayersOutcome, CliError> {
        let outcome = self.0.run(folder.path(), reporter)?;
        let own = json!({ "dropped_layers": outcome.dropped });
        write_plan(folder, &Plan::of("rco-layer-plan", &outcome.made), own)?;
        Ok(outcome)
    }

    fn report(out: &mut Out, outcome: &LayersOutcome) -> Result<(), CliError> {
        report::layers_outcome(out, outcome)
    }
}
