//! Times one loss and one gradient of a model (a Hugging Face folder or a GGUF file) on
//! random tokens:
//!
//! ```text
//! cargo run --release -p rco-model --example time_gradient -- MODEL [SEQUENCES LENGTH REPEATS K]
//! ```
//!
//! Prints the smallest of the repeats for reading and decoding all weights once, for the
//! forward pass, for the backward pass with the gradients of all weights inside the blocks,
//! and for option gradients of K options of each matrix (all read from the same model). Run
//! it under `time -v` for the peak memory.

#![allow(clippy::print_stdout, reason = "a program, not the library")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rco_formats::gguf::GgufModel;
use rco_formats::safetensors::HfFolder;
use rco_model::engine::{OptionGradients, OptionTensors};
use rco_model::head::Target;
use rco_model::weights::{GgufWeights, HfWeights, WeightSource};
use rco_model::{
    Batch, GradientVisitor, Model, ModelConfig, ModelError, Settings, WeightGradient, WeightKey,
};

/// Asks for the gradients of all weights inside the blocks and drops them.
struct Blocks;

impl GradientVisitor for Blocks {
    fn wants(&self, key: WeightKey) -> bool {
        key.layer.is_some()
    }

    fn visit(&mut self, _: &WeightGradient<'_>) -> Result<(), ModelError> {
        Ok(())
    }
}

type Opened = (Arc<ModelConfig>, Arc<dyn WeightSource>);

/// Configuration and weights of a folder or a GGUF file.
fn open(path: &Path) -> Result<Opened, Box<dyn Error>> {
    if path.is_dir() {
        let folder = HfFolder::open(path)?;
        let config = ModelConfig::from_hf(folder.config())?;
        let weights = HfWeights::new(folder, &config)?;
        return Ok((Arc::new(config), Arc::new(weights)));
    }
    let file = Arc::new(GgufModel::open(path)?);
    let config = ModelConfig::from_gguf(&file)?;
    let weights = GgufWeights::new(file, &config)?;
    Ok((Arc::new(config), Arc::new(weights)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = PathBuf::from(args.next().ok_or("which model?")?);
    let mut number = |default| args.next().map_or(Ok(default), |a| a.parse::<usize>());
    let (sequences, len, repeats, k) = (number(4)?, number(512)?, number(3)?, number(8)?);

    let (config, source) = open(&path)?;
    let model = Model::new(Arc::clone(&config), Arc::clone(&source), Settings::default())?;
    // Any fixed tokens do.
    let token = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) % config.vocabulary;
    let tokens: Vec<u32> = (0..sequences * len).map(|i| token(i) as u32).collect();
    let batch = Batch::new(&tokens.chunks(len).collect::<Vec<_>>())?;

    let mut options = OptionTensors::default();
    let matrices = config.weights().into_iter().filter(|(k, s)| k.layer.is_some() && s.len() == 2);
    for (group, (key, _)) in matrices.enumerate() {
        for option in 0..k {
            options.add(k * group + option, key, Arc::clone(&source));
        }
    }

    let smallest = |f: &dyn Fn() -> Result<(), ModelError>| {
        let mut best = Duration::MAX;
        for _ in 0..repeats {
            let start = Instant::now();
            f()?;
            best = best.min(start.elapsed());
        }
        Ok::<f64, ModelError>(best.as_secs_f64())
    };
    let target = Target::NextToken;
    let weights =
        smallest(&|| config.weights().iter().try_for_each(|(key, _)| source.load(*key).map(drop)))?;
    let forward = smallest(&|| model.loss(&batch, target).map(drop))?;
    let backward = smallest(&|| model.gradient(&batch, target, &mut Blocks).map(drop))?;
    let with_options = smallest(&|| {
        model.gradient(&batch, target, &mut OptionGradients::new(&options, [])).map(drop)
    })?;
    println!("{sequences} x {len} tokens, smallest of {repeats}:");
    println!("all weights read once               {weights:.3} s");
    println!("loss                                {forward:.3} s");
    println!("loss and all gradients              {backward:.3} s");
    println!("loss and gradients of {k:2} options    {with_options:.3} s");
    Ok(())
}
