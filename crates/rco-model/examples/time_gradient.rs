//! Times one loss and one gradient of a Hugging Face folder on random tokens:
//!
//! ```text
//! cargo run --release -p rco-model --example time_gradient -- FOLDER [SEQUENCES LENGTH REPEATS]
//! ```
//!
//! Prints the smallest of the repeats for the forward pass, for the backward pass with the
//! gradients of all weights inside the blocks, and for option gradients of six options of
//! each matrix (all read from the same folder). Run it under `time -v` for the peak memory.

#![allow(clippy::print_stdout, reason = "a program, not the library")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rco_formats::safetensors::HfFolder;
use rco_model::engine::{OptionGradients, OptionTensors};
use rco_model::head::Target;
use rco_model::weights::HfWeights;
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

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("which folder?")?);
    let mut number = |default| args.next().map_or(Ok(default), |a| a.parse::<usize>());
    let (sequences, len, repeats) = (number(4)?, number(512)?, number(3)?);

    let folder = HfFolder::open(folder)?;
    let config = Arc::new(ModelConfig::from_hf(folder.config())?);
    let source = Arc::new(HfWeights::new(folder, &config)?);
    let model = Model::new(Arc::clone(&config), Arc::clone(&source) as _, Settings::default())?;
    // Any fixed tokens do.
    let token = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) % config.vocabulary;
    let tokens: Vec<u32> = (0..sequences * len).map(|i| token(i) as u32).collect();
    let batch = Batch::new(&tokens.chunks(len).collect::<Vec<_>>())?;

    let mut options = OptionTensors::default();
    let matrices = config.weights().into_iter().filter(|(k, s)| k.layer.is_some() && s.len() == 2);
    for (group, (key, _)) in matrices.enumerate() {
        for option in 0..6 {
            options.add(6 * group + option, key, Arc::clone(&source) as _);
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
    let forward = smallest(&|| model.loss(&batch, target).map(drop))?;
    let backward = smallest(&|| model.gradient(&batch, target, &mut Blocks).map(drop))?;
    let with_options = smallest(&|| {
        model.gradient(&batch, target, &mut OptionGradients::new(&options, [])).map(drop)
    })?;
    println!("{sequences} x {len} tokens, smallest of {repeats}:");
    println!("loss                                {forward:.3} s");
    println!("loss and all gradients              {backward:.3} s");
    println!("loss and gradients of 6 options     {with_options:.3} s");
    Ok(())
}
