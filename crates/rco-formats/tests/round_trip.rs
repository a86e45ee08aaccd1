//! Reading the bundled model and writing it again gives the same bytes.

use std::path::{Path, PathBuf};

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{Gguf, GgufWriter, TensorType, Value};

fn tiny_moe() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/tiny-moe/tiny-moe.bf16.gguf")
}

#[test]
fn the_bundled_model_comes_out_byte_for_byte() {
    let original = std::fs::read(tiny_moe()).unwrap();
    let file = Gguf::open(tiny_moe()).unwrap();
    let writer = GgufWriter::copy_of(&file).unwrap();
    assert_eq!(writer.file_size().unwrap(), original.len() as u64);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    writer.write(&path, WriteOptions::default()).unwrap();
    assert!(std::fs::read(&path).unwrap() == original, "the copy differs");
}

#[test]
fn the_bundled_model_is_read_as_what_it_is() {
    let file = Gguf::open(tiny_moe()).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.architecture(), Some("qwen3moe"));
    assert_eq!(metadata.u64("qwen3moe.expert_count"), Some(8));
    assert_eq!(metadata.array("tokenizer.ggml.tokens").unwrap().len(), 4096);
    let stack = file.tensor("blk.0.ffn_gate_exps.weight").unwrap();
    assert_eq!(stack.spec.shape, [256, 256, 8]);
    assert_eq!(stack.spec.ty, TensorType::BF16);
    assert_eq!(stack.length, 256 * 256 * 8 * 2);
    let parameters: u64 = file.tensors().iter().map(|t| t.spec.elements().unwrap()).sum();
    assert!((8_000_000..8_300_000).contains(&parameters), "{parameters}");
}

#[test]
fn a_changed_key_changes_only_the_header() {
    let file = Gguf::open(tiny_moe()).unwrap();
    let mut writer = GgufWriter::copy_of(&file).unwrap();
    writer.metadata_mut().set("general.name", "another name").unwrap();
    writer.metadata_mut().set("rco.new", Value::F64(0.5)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("renamed.gguf");
    writer.write(&path, WriteOptions::default()).unwrap();
    let again = Gguf::open(&path).unwrap();
    assert_eq!(again.metadata().str("general.name"), Some("another name"));
    assert_eq!(again.metadata().f64("rco.new"), Some(0.5));
    for (a, b) in file.tensors().iter().zip(again.tensors()) {
        assert_eq!(a, b);
        assert!(file.read(&a.spec.name).unwrap() == again.read(&b.spec.name).unwrap());
    }
}
