//! One gradient of a model that is larger than the memory allowed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{GgufWriter, Metadata, TensorSpec, TensorType};
use rco_formats::source::ReadAt;
use rco_model::engine::{Footprint, Load, OptionGradients, OptionTensors, Part, Settings};
use rco_model::head::{Hidden, Target};
use rco_model::weights::WeightSource;
use rco_model::{Batch, Model};
use serde::Serialize;

use super::exchange::{matrices, open};
use super::ours::peak_rss;
use crate::error::BenchError;

/// The shape of a dense Llama.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Blocks.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Inner width of the MLPs.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key heads.
    pub kv_heads: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
}

impl Shape {
    /// Llama 3 with eight thousand million weights.
    pub const LLAMA_8B: Self = Self {
        layers: 32,
        hidden: 4096,
        width: 14336,
        heads: 32,
        kv_heads: 8,
        vocabulary: 128_256,
    };

    fn head_dim(&self) -> u32 {
        self.hidden / self.heads
    }

    fn metadata(&self) -> Result<Metadata, BenchError> {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "llama")?;
        for (key, value) in [
            ("block_count", self.layers),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.width),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("context_length", 8192),
            ("rope.dimension_count", self.head_dim()),
        ] {
            metadata.set(&format!("llama.{key}"), value)?;
        }
        metadata.set("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)?;
        metadata.set("llama.rope.freq_base", 500_000.0_f32)?;
        Ok(metadata)
    }

    /// Names and shapes, rows first.
    fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let (hidden, width) = (u64::from(self.hidden), u64::from(self.width));
        let kv = u64::from(self.kv_heads * self.head_dim());
        let vocabulary = u64::from(self.vocabulary);
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![hidden, vocabulary])];
        for layer in 0..self.layers {
            for (name, shape) in [
                ("attn_norm", vec![hidden]),
                ("attn_q", vec![hidden, hidden]),
                ("attn_k", vec![hidden, kv]),
                ("attn_v", vec![hidden, kv]),
                ("attn_output", vec![hidden, hidden]),
                ("ffn_norm", vec![hidden]),
                ("ffn_gate", vec![hidden, width]),
                ("ffn_up", vec![hidden, width]),
                ("ffn_down", vec![width, hidden]),
            ] {
                tensors.push((format!("blk.{layer}.{name}.weight"), shape));
            }
        }
        tensors.push(("output_norm.weight".to_owned(), vec![hidden]));
        tensors.push(("output.weight".to_owned(), vec![hidden, vocabulary]));
        tensors
    }
}

/// Random BF16, made as it is read.
#[derive(Debug)]
struct Noise {
    values: u64,
    seed: u64,
    scale: f32,
}

impl ReadAt for Noise {
    fn size(&self) -> u64 {
        2 * self.values
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset + buf.len() as u64 > self.size() || !offset.is_multiple_of(2) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (i, out) in (offset / 2..).zip(buf.chunks_mut(2)) {
            // SplitMix64.
            let mut x = (i + self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x ^= x >> 27;
            let uniform = (x >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
            let bits = (uniform * self.scale).to_bits() >> 16;
            out.copy_from_slice(&(bits as u16).to_le_bytes()[..out.len()]);
        }
        Ok(())
    }
}

/// Writes a model of a shape with random weights in BF16; nothing but a piece of it is ever
/// in memory. Returns the bytes of the file.
///
/// # Errors
/// A disk that is full.
pub fn write_random(path: &Path, shape: &Shape) -> Result<u64, BenchError> {
    let mut writer = GgufWriter::new(shape.metadata()?);
    for (n, (name, dims)) in shape.tensors().into_iter().enumerate() {
        let values: u64 = dims.iter().product();
        if dims.len() == 1 {
            let ones = 1.0_f32.to_le_bytes().repeat(values as usize);
            writer.add(TensorSpec::new(name, dims, TensorType::F32), Arc::new(ones))?;
            continue;
        }
        // Rows of this scale keep the size of what they are multiplied with.
        let scale = (3.0 / dims[0] as f32).sqrt();
        let noise = Noise { values, seed: (n as u64) << 40, scale };
        writer.add(TensorSpec::new(name, dims, TensorType::BF16), Arc::new(noise))?;
    }
    Ok(writer.write(path, WriteOptions::force())?)
}

/// What one gradient took.
#[derive(Debug, Clone, Serialize)]
pub struct LargeReport {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Tokens.
    pub tokens: usize,
    /// Matrices whose option gradient was taken.
    pub matrices: usize,
    /// Bytes of memory allowed.
    pub limit: u64,
    /// The estimate, by part.
    pub estimate: Footprint,
    /// Its sum.
    pub estimated_peak: u64,
    /// Largest resident memory of the process in bytes.
    pub peak_rss: u64,
    /// Seconds of forward and backward.
    pub seconds: f64,
    /// Name and seconds of each part.
    pub parts: Vec<(String, f64)>,
    /// Loss.
    pub loss: f64,
    /// Threads.
    pub threads: usize,
}

/// One gradient, with one option for each matrix of the blocks, within `limit` bytes.
///
/// # Errors
/// Too little memory, or a file that cannot be read.
pub fn measure_large(path: &Path, tokens: usize, limit: u64) -> Result<LargeReport, BenchError> {
    let (config, source) = open(path)?;
    let load =
        Load { sequences: 1, length: tokens, gradient: true, head_gradient: false, taught: tokens };
    let settings = Settings::default().within(limit, &config, &load)?;
    let estimate = Footprint::of(&config, &settings, &load);
    let keys = matrices(&config);
    let mut options = OptionTensors::default();
    for (slot, &key) in keys.iter().enumerate() {
        options.add(slot, key, Arc::clone(&source) as Arc<dyn WeightSource>);
    }
    let model = Model::new(Arc::clone(&config), source, settings)?;
    let vocabulary = config.vocabulary;
    let text: Vec<u32> = (0..tokens).map(|i| (i * 7919 % vocabulary) as u32).collect();
    let batch = Batch::new(&[text])?;
    // A teacher as in a search: an output matrix of its own, other states.
    let head = model.head()?;
    let states: Vec<f32> =
        (0..tokens * config.hidden).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
    let hidden = Hidden::from_values(states, config.hidden)?;

    let before = model.times();
    let start = Instant::now();
    let mut visitor = OptionGradients::new(&options, []);
    let target = Target::Teacher { head: &head, hidden: &hidden };
    let loss = model.gradient(&batch, target, &mut visitor)?.mean;
    let seconds = start.elapsed().as_secs_f64();
    let spent = Part::ALL.iter().zip(model.times().into_iter().zip(before));
    let parts = spent.map(|(part, (now, then))| {
        let seconds = now.saturating_sub(then).as_secs_f64();
        (part.name().to_owned(), seconds)
    });
    let file_bytes = std::fs::metadata(path).map_err(BenchError::io(path))?.len();
    Ok(LargeReport {
        file_bytes,
        tokens,
        matrices: keys.len(),
        limit,
        estimate,
        estimated_peak: estimate.peak(),
        peak_rss: peak_rss(),
        seconds,
        parts: parts.collect(),
        loss,
        threads: rayon::current_num_threads(),
    })
}
