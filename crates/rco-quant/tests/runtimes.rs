//! A model against a copy that llama.cpp has quantised: our engine and llama.cpp measure the
//! same, but for the eight bits (or BF16) that llama.cpp rounds activations to.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::print_stdout, reason = "measured figures are worth reading")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::GgufModel;
use rco_ggml::{Preset, quantise_file};
use rco_model::weights::decoded_copy;
use rco_quant::compare::{NamedWindows, Opened, in_engine, in_runtime};

fn asset(name: &str) -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&root).join("../../assets").join(name)
}

/// Mean KL of `model` from `reference` in our engine and in llama.cpp.
fn both(model: &Path, reference: &Path, texts: &[NamedWindows], folder: &Path) -> (f64, f64) {
    let (opened, against) = (Opened::new(model).unwrap(), Opened::new(reference).unwrap());
    let (settings, _) = against.settings(texts, None).unwrap();
    let cache = folder.join("cache");
    let ours = in_engine(&opened, &against, texts, settings, &cache, &mut |_| {}).unwrap();
    let theirs = in_runtime(model, reference, texts, 2, &mut |_| {}).unwrap();
    (ours[0].summary.kl_mean.value, theirs[0].summary.kl_mean.value)
}

/// Largest difference, relative to llama.cpp's figure: of the files as they are, and of both
/// decoded to F32.
fn differences(source: &Path, preset: Preset, count: usize, length: usize) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let quantised = folder.path().join("quantised.gguf");
    quantise_file(source, &quantised, preset, None, 2).unwrap();
    let text = std::fs::read_to_string(asset("text/novels.txt")).unwrap();
    let windows = Opened::new(source).unwrap().windows("novels", &text, length, count).unwrap();
    let texts = [("novels".to_owned(), windows)];

    let decoded = |path: &Path, name: &str| {
        let out = folder.path().join(name);
        let model = Arc::new(GgufModel::open(path).unwrap());
        decoded_copy(&model).unwrap().write(&out, WriteOptions::force()).unwrap();
        out
    };
    let (ours, theirs) = both(&quantised, source, &texts, folder.path());
    let plain = [decoded(source, "source.gguf"), decoded(&quantised, "decoded.gguf")];
    let (ours_plain, theirs_plain) = both(&plain[1], &plain[0], &texts, folder.path());
    println!(
        "{preset}: engine {ours:.6}, llama.cpp {theirs:.6}; decoded to F32: engine \
         {ours_plain:.6}, llama.cpp {theirs_plain:.6}"
    );
    (ours / theirs - 1.0, ours_plain / theirs_plain - 1.0)
}

#[test]
fn the_bundled_model_and_its_quantised_copy_compare_as_in_llama_cpp() {
    let source = asset("tiny-moe/tiny-moe.bf16.gguf");
    for (preset, allowed) in [(Preset::Q2_K, 0.2), (Preset::Q4_K_M, 0.5)] {
        let (as_they_are, decoded) = differences(&source, preset, 4, 128);
        println!("{preset}: {:.2} %, decoded {:.4} %", 100.0 * as_they_are, 100.0 * decoded);
        assert!(decoded.abs() < 0.01, "{preset}: {decoded}");
        assert!(as_they_are.abs() < allowed, "{preset}: {as_they_are}");
    }
}

#[test]
fn smollm2_and_its_quantised_copy_compare_as_in_llama_cpp() {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")));
    let source = cache.unwrap_or_default().join("rco/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !source.exists() {
        println!("skipped: not fetched: {} (see scripts/fetch_smollm2.sh)", source.display());
        return;
    }
    let (as_they_are, decoded) = differences(&source, Preset::Q4_0, 2, 128);
    println!("SmolLM2: {:.2} %, decoded {:.4} %", 100.0 * as_they_are, 100.0 * decoded);
    assert!(decoded.abs() < 0.01, "{decoded}");
    assert!(as_they_are.abs() < 0.2, "{as_they_are}");
}
