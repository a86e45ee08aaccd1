//! Logits against those of llama.cpp.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::GgufModel;
use rco_ggml::{Runtime, RuntimeSettings};
use rco_model::weights::{GgufWeights, decoded_copy};
use rco_model::{Batch, Model, ModelConfig, Settings};

use crate::common::{FAMILIES, bundled, expected};
use crate::convert::{runnable, writer};

/// Mean over the rows of KL(expected ‖ found), in f64.
fn mean_kl(expected: &[f32], found: &[f32], vocabulary: usize) -> f64 {
    assert_eq!(expected.len(), found.len());
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
        row.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
    };
    let rows = expected.chunks(vocabulary).zip(found.chunks(vocabulary));
    let kl = rows.map(|(e, f)| {
        let (e, f) = (log_softmax(e), log_softmax(f));
        e.iter().zip(&f).map(|(e, f)| e.exp() * (e - f)).sum::<f64>()
    });
    kl.sum::<f64>() / (expected.len() / vocabulary) as f64
}

/// Mean KL of our logits against llama.cpp's on some windows.
fn compare(path: &Path, windows: &[&[u32]]) -> f64 {
    let file = Arc::new(GgufModel::open(path).unwrap());
    let config = Arc::new(ModelConfig::from_gguf(&file).unwrap());
    let weights = Arc::new(GgufWeights::new(file, &config).unwrap());
    let vocabulary = config.vocabulary;
    let model = Model::new(config, weights, Settings::default()).unwrap();
    let settings = RuntimeSettings { context: windows[0].len(), ..RuntimeSettings::default() };
    let mut runtime = Runtime::open(path, &settings).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for window in windows {
        ours.extend(model.logits(&Batch::new(&[window]).unwrap()).unwrap());
        theirs.extend(runtime.logits(window).unwrap());
    }
    mean_kl(&theirs, &ours, vocabulary)
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_architecture_gives_the_logits_of_llama_cpp() {
    let name = format!("rco-runtime-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(name));
    std::fs::create_dir_all(&folder.0).unwrap();
    for name in FAMILIES {
        let (config, weights) = runnable(name);
        let path = folder.0.join(format!("{name}.gguf"));
        writer(&config, &weights).write(&path, WriteOptions::force()).unwrap();
        let (batch, _) = expected(name);
        let windows: Vec<&[u32]> = batch.tokens().chunks(batch.sequence_len()).collect();
        let kl = compare(&path, &windows);
        println!("{name}: mean KL to llama.cpp {kl:.2e}");
        assert!(kl < 1e-5, "{name}: {kl}");
    }
}

#[test]
fn the_bundled_model_gives_the_logits_of_llama_cpp() {
    let (batch, _) = expected("tiny-moe");
    let windows: Vec<&[u32]> = batch.tokens().chunks(batch.sequence_len()).collect();
    let kl = compare(&bundled().join("tiny-moe.bf16.gguf"), &windows);
    println!("tiny-moe: mean KL to llama.cpp {kl:.2e}");
    // Its products take activations in BF16.
    assert!(kl < 1e-3, "{kl}");
}

/// SmolLM2 in the cache folder, if it has been fetched.
fn smollm2() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")));
    let path = cache.unwrap_or_default().join("rco/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if path.exists() {
        return Some(path);
    }
    println!("skipped: not fetched: {} (see scripts/fetch_smollm2.sh)", path.display());
    None
}

fn prose(path: &Path, tokens: usize) -> Vec<u32> {
    let text = include_str!("../../../../assets/text/novels.txt");
    let vocabulary = rco_ggml::Vocabulary::open(path).unwrap();
    vocabulary.encode(&text[..8 * tokens], false)[..tokens].to_vec()
}

#[test]
fn smollm2_gives_the_logits_of_llama_cpp() {
    let Some(path) = smollm2() else { return };
    let kl = compare(&path, &[&prose(&path, 256)]);
    println!("SmolLM2-135M: mean KL to llama.cpp {kl:.2e}");
    // Its products take activations in eight bits.
    assert!(kl < 1e-2, "{kl}");
}

#[test]
fn smollm2_decoded_gives_the_logits_of_llama_cpp_to_rounding() {
    let Some(path) = smollm2() else { return };
    let folder = Folder(std::env::temp_dir().join(format!("rco-decoded-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let decoded = folder.0.join("smollm2.f32.gguf");
    let model = Arc::new(GgufModel::open(&path).unwrap());
    decoded_copy(&model).unwrap().write(&decoded, WriteOptions::force()).unwrap();
    let kl = compare(&decoded, &[&prose(&path, 256)]);
    println!("SmolLM2-135M in F32: mean KL to llama.cpp {kl:.2e}");
    assert!(kl < 1e-6, "{kl}");
}
