//! Activations rounded as llama.cpp does.

use std::path::Path;
use std::sync::Arc;

use rco_formats::gguf::GgufModel;
use rco_ggml::{Preset, Runtime, RuntimeSettings, quantise_file};
use rco_model::head::compare_logits;
use rco_model::weights::GgufWeights;
use rco_model::{Batch, Model, ModelConfig, Settings};

use crate::common::{bundled, expected};

/// Mean KL of our logits from llama.cpp's.
fn distance(path: &Path, window: &[u32], theirs: &[f32], runtime_activations: bool) -> f64 {
    let file = Arc::new(GgufModel::open(path).unwrap());
    let config = Arc::new(ModelConfig::from_gguf(&file).unwrap());
    let weights = Arc::new(GgufWeights::new(file, &config).unwrap());
    let settings = Settings { runtime_activations, ..Settings::default() };
    let model = Model::new(config, weights, settings).unwrap();
    let ours = model.logits(&Batch::new(&[window]).unwrap()).unwrap();
    compare_logits(window, theirs, &ours).unwrap().mean
}

#[test]
fn quantised_files_give_the_logits_of_llama_cpp_once_activations_are_rounded_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (batch, _) = expected("tiny-moe");
    let window = &batch.tokens()[..batch.sequence_len()];
    let source = bundled().join("tiny-moe.bf16.gguf");
    let mut found: Vec<(f64, f64)> = Vec::new();
    // Blocks of 32, and blocks of 256 with several types.
    for name in ["Q4_0", "Q8_0", "Q3_K_M", "Q5_K_S"] {
        let preset = Preset::all().find(|p| p.name() == name).unwrap();
        let path = folder.path().join(format!("{name}.gguf"));
        quantise_file(&source, &path, preset, None, 2).unwrap();
        let settings = RuntimeSettings { context: window.len(), ..RuntimeSettings::default() };
        let theirs = Runtime::open(&path, &settings).unwrap().logits(window).unwrap();
        let exact = distance(&path, window, &theirs, false);
        let rounded = distance(&path, window, &theirs, true);
        println!("{name}: {exact:.2e} with activations in 32 bits, {rounded:.2e} rounded");
        found.push((exact, rounded));
    }
    // What is left is the last digits of sums in another order, which the next layer's
    // rounding makes larger here and there.
    assert!(found.iter().all(|&(_, rounded)| rounded < 1e-4), "{found:?}");
    let sum = found.iter().fold((0.0, 0.0), |sum, &(e, r)| (sum.0 + e, sum.1 + r));
    assert!(sum.1 < 0.5 * sum.0, "{found:?}");
}
