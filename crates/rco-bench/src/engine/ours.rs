//! Our side: option gradients of every matrix, in a process of its own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rco_model::engine::{Device, OptionGradients, OptionTensors, Part, product_rate};
use rco_model::head::{Head, Hidden, Target};
use rco_model::weights::WeightSource;
use rco_model::{
    Batch, GradientVisitor, Model, ModelConfig, ModelError, Settings, WeightGradient, WeightKey,
};
use serde::{Deserialize, Serialize};

use super::exchange::{Index, index, matrices, open};
use crate::error::BenchError;

/// What a side measures of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Seconds of each repeat, forward and backward.
    pub seconds: Vec<f64>,
    /// Processor seconds of each repeat, over all threads.
    pub cpu_seconds: Vec<f64>,
    /// Loss: mean KL in nats.
    pub loss: f64,
    /// Largest resident memory of the process so far, in bytes.
    pub peak_rss: u64,
    /// Products of two 2048 × 2048 matrices in f32: operations a second of all threads, by
    /// processor time where the system counts it.
    pub sgemm: f64,
    /// Threads.
    pub threads: usize,
    /// Name and seconds of each part, of the fastest repeat.
    pub parts: Vec<(String, f64)>,
}

/// A model at hand, its original and its options.
struct Contest {
    config: Arc<ModelConfig>,
    model: Model,
    batch: Batch,
    head: Head,
    hidden: Hidden,
    options: OptionTensors,
}

fn floats(path: &Path) -> Result<Vec<f32>, BenchError> {
    let bytes = std::fs::read(path).map_err(BenchError::io(path))?;
    Ok(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

fn contest(folder: &Path, index: &Index, settings: Settings) -> Result<Contest, BenchError> {
    let (config, student) = open(&folder.join("option-0.gguf"))?;
    let path = folder.join("tokens.u32");
    let bytes = std::fs::read(&path).map_err(BenchError::io(&path))?;
    let tokens: Vec<u32> = bytes.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
    let batch = Batch::new(&tokens.chunks(index.length).collect::<Vec<_>>())?;
    let mut options = OptionTensors::default();
    for k in 0..index.options {
        let (_, weights) = open(&folder.join(format!("option-{k}.gguf")))?;
        for (group, key) in matrices(&config).into_iter().enumerate() {
            let source = Arc::clone(&weights) as Arc<dyn WeightSource>;
            options.add(group * index.options + k, key, source);
        }
    }
    let hidden = Hidden::from_values(floats(&folder.join("teacher.f32"))?, config.hidden)?;
    let model = Model::new(Arc::clone(&config), student, settings)?;
    // Output matrix and embedding are those of the original.
    let head = model.head()?;
    Ok(Contest { config, model, batch, head, hidden, options })
}

/// Forward and backward with option gradients, `repeats` times.
///
/// # Errors
/// Files that cannot be read.
pub fn measure(folder: &Path, repeats: usize, keep: usize) -> Result<Measured, BenchError> {
    let settings = Settings { keep_bytes: keep, ..Settings::default() };
    let contest = contest(folder, &index(folder)?, settings)?;
    measure_model(&contest, repeats)
}

fn measure_model(contest: &Contest, repeats: usize) -> Result<Measured, BenchError> {
    let Contest { model, batch, head, hidden, options, .. } = contest;
    let (mut seconds, mut cpu_seconds) = (Vec::new(), Vec::new());
    let (mut parts, mut loss) = (Vec::new(), 0.0);
    for _ in 0..repeats {
        let (before, cpu_before) = (model.times(), cpu_seconds_so_far());
        let start = Instant::now();
        let mut visitor = OptionGradients::new(options, []);
        loss = model.gradient(batch, Target::Teacher { head, hidden }, &mut visitor)?.mean;
        let elapsed = start.elapsed().as_secs_f64();
        cpu_seconds.push(cpu_seconds_so_far() - cpu_before);
        if seconds.iter().all(|&s| elapsed < s) {
            let spent = model.times().into_iter().zip(before);
            let spent = Part::ALL.iter().zip(spent);
            parts = spent
                .map(|(p, (now, then))| named(*p, now.saturating_sub(then).as_secs_f64()))
                .collect();
        }
        seconds.push(elapsed);
    }
    let peak_rss = peak_rss();
    let threads = rayon::current_num_threads();
    let sgemm = sgemm_rate(threads)?;
    Ok(Measured { seconds, cpu_seconds, loss, peak_rss, sgemm, threads, parts })
}

fn named(part: Part, seconds: f64) -> (String, f64) {
    (part.name().to_owned(), seconds)
}

/// Operations a second of large products. Processor time is counted in hundredths of a
/// second, so several products are timed together.
fn sgemm_rate(threads: usize) -> Result<f64, BenchError> {
    const SIZE: usize = 2048;
    const TOGETHER: usize = 8;
    let mut best = 0.0_f64;
    for _ in 0..4 {
        let before = cpu_seconds_so_far();
        let rate = product_rate(Device::Cpu, SIZE, TOGETHER)?;
        let spent = cpu_seconds_so_far() - before;
        let operations = 2.0 * (SIZE as f64).powi(3) * TOGETHER as f64;
        let by_processor = if spent > 0.0 { operations * threads as f64 / spent } else { rate };
        best = best.max(by_processor);
    }
    Ok(best)
}

/// Processor seconds of this process so far, over all threads; 0 where the system does not
/// say.
fn cpu_seconds_so_far() -> f64 {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// Largest resident memory of this process so far; 0 where the system does not say.
pub fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Writes the gradients of all matrices, as f32 one after the other, into `gradients.f32`,
/// and the option gradients as f64 into `options.f64`.
///
/// # Errors
/// Files that cannot be read or written.
pub fn write_gradients(folder: &Path) -> Result<(), BenchError> {
    let Contest { config, model, batch, head, hidden, options } =
        contest(folder, &index(folder)?, Settings::default())?;
    let target = Target::Teacher { head: &head, hidden: &hidden };
    let mut visitor = OptionGradients::new(&options, []);
    model.gradient(&batch, target, &mut visitor)?;
    let bytes: Vec<u8> = visitor.into_values().iter().flat_map(|x| x.to_le_bytes()).collect();
    let path = folder.join("options.f64");
    std::fs::write(&path, bytes).map_err(BenchError::io(&path))?;

    let mut all = Collect { keys: matrices(&config), values: Vec::new() };
    all.values.resize(all.keys.len(), Vec::new());
    model.gradient(&batch, target, &mut all)?;
    let path = folder.join("gradients.f32");
    let mut out = BufWriter::new(File::create(&path).map_err(BenchError::io(&path))?);
    for bytes in &all.values {
        out.write_all(bytes).map_err(BenchError::io(&path))?;
    }
    out.flush().map_err(BenchError::io(&path))
}

/// Keeps gradients as little-endian f32.
struct Collect {
    keys: Vec<WeightKey>,
    values: Vec<Vec<u8>>,
}

impl GradientVisitor for Collect {
    fn wants(&self, key: WeightKey) -> bool {
        self.keys.contains(&key)
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        let values = gradient.values()?;
        if let Some(at) = self.keys.iter().position(|key| *key == gradient.key) {
            self.values[at] = values.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
        }
        Ok(())
    }
}
