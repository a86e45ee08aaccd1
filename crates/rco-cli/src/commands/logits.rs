//! `rco check logits`: the logits of a model in our engine, to be compared with another's.

use std::path::PathBuf;
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::safetensors::{Dtype, SafetensorsWriter};
use rco_model::Batch;
use rco_model::engine::Settings;
use rco_quant::QuantError;
use rco_quant::compare::Opened;

use crate::error::CliError;

/// Write tokens and logits of a model on a text
///
/// The text is cut into windows as `rco eval` does it. OUT is a safetensors file with `tokens`
/// (I32, windows × tokens) and `logits` (F32, windows × tokens × vocabulary).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a GGUF file or a Hugging Face folder, packed or not
    model: PathBuf,

    /// The text
    #[arg(short, long, value_name = "FILE")]
    text: PathBuf,

    /// Tokens of a window
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=4096))]
    window: u32,

    /// Windows, from the beginning of the text
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    windows: u32,

    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let opened = Opened::new(&args.model)?;
    let text = std::fs::read_to_string(&args.text).map_err(CliError::io(&args.text, "reading"))?;
    let name = args.text.display().to_string();
    let windows = opened.windows(&name, &text, args.window as usize, args.windows as usize)?;
    let model = opened.model(Settings::default())?;
    let (mut tokens, mut logits) = (Vec::new(), Vec::new());
    for window in &windows {
        let batch = Batch::new(std::slice::from_ref(window)).map_err(QuantError::from)?;
        let values = model.logits(&batch).map_err(QuantError::from)?;
        logits.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        tokens.extend(window.iter().flat_map(|t| t.to_le_bytes()));
    }
    let shape = [windows.len() as u64, u64::from(args.window)];
    let vocabulary = model.config().vocabulary as u64;
    let fault = |fault| {
        let file = args.output.display().to_string();
        QuantError::from(rco_formats::safetensors::SafetensorsError::new(file, fault))
    };
    let mut writer = SafetensorsWriter::new(None);
    let wide = [shape[0], shape[1], vocabulary];
    writer.add("logits", Dtype::F32, wide, Arc::new(logits)).map_err(fault)?;
    writer.add("tokens", Dtype::I32, shape, Arc::new(tokens)).map_err(fault)?;
    writer.write(&args.output, WriteOptions::force()).map_err(QuantError::from)?;
    Ok(())
}
