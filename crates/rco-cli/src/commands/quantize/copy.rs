//! A model that fits as it is.

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{GgufModel, GgufWriter};
use rco_quant::QuantError;
use rco_quant::job::{JobSettings, budget_of};
use serde_json::json;

use super::args::Flags;
use crate::error::CliError;
use crate::number::amount;
use crate::output::{self, Out};

/// Copies the model to every output if it fits all of them; otherwise says so and leaves it to
/// the search.
///
/// # Errors
/// A model that cannot be read, outputs that exist, a full disk.
pub(super) fn copy_if_it_fits(
    flags: &Flags,
    settings: &JobSettings,
    out: &mut Out,
) -> Result<bool, CliError> {
    let quant = |error: QuantError| CliError::from(error);
    let model = GgufModel::open(&settings.model).map_err(|e| quant(e.into()))?;
    let writer = writer(&model).map_err(quant)?;
    let bytes = writer.file_size().map_err(|e| quant(e.into()))?;
    for order in &settings.orders {
        if bytes > budget_of(&model, order.target).map_err(quant)? {
            return Ok(false);
        }
    }
    let mut files = Vec::with_capacity(settings.orders.len());
    for order in &settings.orders {
        let budget = budget_of(&model, order.target).map_err(quant)?;
        if !flags.dry_run {
            output::check_target(&order.output, flags.force)?;
            let options = WriteOptions { force: flags.force };
            writer.write(&order.output, options).map_err(|e| quant(e.into()))?;
        }
        let verb = if flags.dry_run { "would be copied" } else { "copied" };
        let (size, budget_text) = (amount(bytes, "bytes"), amount(budget, "bytes"));
        let path = order.output.display();
        out.line(format!("{path}: {verb} as it is, {size} of {budget_text}"))?;
        files.push(json!({
            "path": order.output, "budget": budget, "bytes": bytes, "copied": !flags.dry_run,
        }));
    }
    if flags.json {
        Out::stdout().json(&json!({ "files": files }))?;
    }
    Ok(true)
}

/// The model in one file: byte for byte if it is one already.
fn writer(model: &GgufModel) -> Result<GgufWriter, QuantError> {
    if let [only] = model.parts() {
        return Ok(GgufWriter::copy_of(only)?);
    }
    let mut metadata = model.metadata().clone();
    metadata.remove_split();
    let mut writer = GgufWriter::new(metadata);
    for (part, tensor) in model.tensors() {
        writer.add_from(part, &tensor.spec.name)?;
    }
    Ok(writer)
}
