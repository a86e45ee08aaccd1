//! GPTQ of a block's matrices: errors, times, and a file with weights and Hessians for others.
//!
//! ```text
//! cargo run --release -p rco-quant --example gptq_layers -- FOLDER TEXT LAYER FIXTURE.safetensors
//! ```
//!
//! Prints a row of CSV for each matrix, width and method: seconds of GPTQ for all widths with
//! the factor counted once for each input, and `tr (W − Ŵ) H (W − Ŵ)ᵀ`.

#![allow(clippy::print_stdout, reason = "the output of an example")]

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rco_formats::atomic::WriteOptions;
use rco_formats::compressed_tensors::Scheme;
use rco_formats::safetensors::{Dtype, HfFolder, SafetensorsWriter};
use rco_model::config::ModelConfig;
use rco_model::engine::{Settings, Walk};
use rco_model::tokenizer::Tokenizer;
use rco_model::weights::{FloatType, HfWeights, WeightSource};
use rco_model::{Batch, InputVisitor, LayerInput, Model, ModelError, WeightKey};
use rco_quant::grid::{Factor, FactorSettings, Fit, Hessian, gptq, moment_error, round_to_nearest};

const WIDTHS: [u8; 6] = [2, 3, 4, 5, 6, 8];
const GROUP: u32 = 64;
const WINDOWS: usize = 32;
const WINDOW: usize = 256;

/// Hessians of all inputs that come by, with the matrices that share each.
#[derive(Default)]
struct Moments {
    sums: Vec<(Vec<WeightKey>, Hessian)>,
}

impl InputVisitor for Moments {
    fn visit(&mut self, input: &LayerInput<'_>) -> Result<(), ModelError> {
        let keys = input.keys.to_vec();
        let at = self.sums.iter().position(|(known, _)| *known == keys).unwrap_or_else(|| {
            self.sums.push((keys, Hessian::new(input.columns())));
            self.sums.len() - 1
        });
        let (expected, found) = (vec![self.sums[at].1.columns()], vec![input.columns()]);
        self.sums[at].1.add(&input.floats()?).map_err(|error| ModelError::WrongShape {
            name: error.to_string(),
            expected,
            found,
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, text, layer, fixture] = args.as_slice() else {
        return Err("expected FOLDER TEXT LAYER FIXTURE.safetensors".into());
    };
    let layer: usize = layer.parse()?;
    let opened = HfFolder::open(folder)?;
    let config = Arc::new(ModelConfig::from_hf(opened.config())?);
    let weights = Arc::new(HfWeights::new(opened, &config)?);
    let source = Arc::clone(&weights) as Arc<dyn WeightSource>;
    let model = Model::new(Arc::clone(&config), source, Settings::default())?;
    let tokens = Tokenizer::open(folder)?.encode(&std::fs::read_to_string(text)?, false)?;
    let windows: Vec<Vec<u32>> =
        tokens.chunks_exact(WINDOW).take(WINDOWS).map(<[u32]>::to_vec).collect();
    let batches = windows.chunks(2).map(Batch::new).collect::<Result<Vec<_>, _>>()?;
    let mut walk = Walk::new(&model, &batches)?;
    while walk.layer() < layer {
        walk.step(&mut Moments::default())?;
    }
    let mut moments = Moments::default();
    walk.step(&mut moments)?;

    let mut writer = SafetensorsWriter::new(None);
    println!("matrix,bits,method,error,seconds_all_widths");
    for act_order in [false, true] {
        for (keys, hessian) in &moments.sums {
            let n = hessian.columns();
            let settings = FactorSettings { act_order, ..FactorSettings::default() };
            let begun = Instant::now();
            let factor = Factor::new(hessian, &settings)?;
            let mut shared = begun.elapsed().as_secs_f64();
            for &key in keys {
                let name = config.family.hf_name(key);
                let weight = weights.load(key)?;
                let &[rows, columns] = &weight.shape[..] else { continue };
                let begun = Instant::now();
                let mut found = HashMap::new();
                for bits in WIDTHS {
                    let scheme = Scheme::new(bits, GROUP, true).ok_or("no such grid")?;
                    let fit = Fit { scheme, float: FloatType::Bf16, signed: true };
                    found.insert(bits, (gptq(&weight.values, rows, columns, &factor, &fit)?, fit));
                }
                let seconds = begun.elapsed().as_secs_f64() + shared;
                shared = 0.0;
                let method = if act_order { "gptq act-order" } else { "gptq" };
                for bits in WIDTHS {
                    let (codes, fit) = &found[&bits];
                    let error = moment_error(&weight.values, &codes.values(fit), hessian)?;
                    println!("{name},{bits},{method},{error:.6e},{seconds:.4}");
                    if !act_order {
                        let importance = factor.importance();
                        let plain =
                            round_to_nearest(&weight.values, rows, columns, importance, fit)?;
                        let error = moment_error(&weight.values, &plain.values(fit), hessian)?;
                        println!("{name},{bits},nearest,{error:.6e},");
                    }
                }
                if !act_order {
                    let floats = |values: &mut dyn Iterator<Item = f32>| -> Arc<Vec<u8>> {
                        Arc::new(values.flat_map(f32::to_le_bytes).collect())
                    };
                    let values = floats(&mut weight.values.iter().copied());
                    writer.add(name.clone(), Dtype::F32, [rows as u64, columns as u64], values)?;
                    let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
                    let h = floats(&mut pairs.map(|(i, j)| hessian.at(i, j) as f32));
                    writer.add(format!("{name}.hessian"), Dtype::F32, [n as u64; 2], h)?;
                }
            }
        }
    }
    writer.write(Path::new(fixture), WriteOptions::force())?;
    Ok(())
}
