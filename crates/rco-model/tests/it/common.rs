//! Models of the tests: folders and the logits that transformers computes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::safetensors::{HfFolder, Safetensors};
use rco_model::engine::Device;
use rco_model::weights::{HfWeights, HostWeight, MemoryWeights, WeightSource};
use rco_model::{Batch, Model, ModelConfig, Settings, WeightKey};

/// Tiny random models, one or more for each family.
pub(crate) const FAMILIES: &[&str] = &[
    "llama",
    "llama-llama3",
    "llama-linear",
    "mistral",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "qwen3-yarn",
    "qwen3_moe",
    "olmoe",
    "mixtral",
    "gemma2",
    "gemma3",
];

pub(crate) const DOUBLE: Settings = Settings {
    double: true,
    device: Device::Cpu,
    logit_values: 1000,
    runtime_activations: false,
    keep_bytes: 0,
};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The bundled mixture of experts.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/tiny-moe")
}

pub(crate) fn open(folder: &Path) -> (Arc<ModelConfig>, Arc<HfWeights>) {
    let folder = HfFolder::open(folder).unwrap();
    let config = ModelConfig::from_hf(folder.config()).unwrap();
    let weights = HfWeights::new(folder, &config).unwrap();
    (Arc::new(config), Arc::new(weights))
}

pub(crate) fn model(folder: &Path, settings: Settings) -> Model {
    let (config, weights) = open(folder);
    Model::new(config, weights, settings).unwrap()
}

/// Tokens and logits in `expected.safetensors` of a fixture.
pub(crate) fn expected(name: &str) -> (Batch, Vec<f32>) {
    let file = Safetensors::open(fixture(name).join("expected.safetensors")).unwrap();
    let shape = &file.tensor("tokens").unwrap().shape;
    let tokens = file.read("tokens").unwrap();
    let tokens: Vec<u32> = tokens.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
    let sequences: Vec<&[u32]> = tokens.chunks(shape[1] as usize).collect();
    let logits = file.read("logits").unwrap();
    let logits = logits.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    (Batch::new(&sequences).unwrap(), logits)
}

/// A copy of all weights in memory.
pub(crate) fn in_memory(config: &ModelConfig, source: &dyn WeightSource) -> MemoryWeights {
    let mut weights = MemoryWeights::default();
    for (key, _) in config.weights() {
        weights.insert(key, source.load(key).unwrap()).unwrap();
    }
    weights
}

/// `weight + h · (values between −1 and 1 without a pattern)`.
pub(crate) fn moved(weights: &MemoryWeights, key: WeightKey, h: f32) -> HostWeight {
    let mut weight = weights.get(key).unwrap().clone();
    for (i, w) in weight.values.iter_mut().enumerate() {
        let quasi = ((i * i + i + 1) as f64 * 0.618_033_988_749_894_9).fract();
        *w += h * (2.0 * quasi - 1.0) as f32;
    }
    weight
}
