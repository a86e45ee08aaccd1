//! Reading the bundled model and writing it again gives the same bytes.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::sync::Arc;

use common::tiny_moe_gguf as tiny_moe;
use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{Gguf, GgufWriter, TensorSpec, TensorType, Value};
use rco_formats::imatrix::{Imatrix, ImatrixEntry};
use rco_formats::safetensors::{HfFolder, SafetensorsWriter};

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

#[test]
fn the_bundled_safetensors_come_out_byte_for_byte() {
    let folder = HfFolder::open(common::tiny_moe_folder()).unwrap();
    assert_eq!(folder.model_type(), Some("qwen3_moe"));
    assert_eq!(folder.tokenizer_files().len(), 2);
    let writer = SafetensorsWriter::copy_of(&folder.shards()[0]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let written = writer.write_folder(out.path(), u64::MAX, WriteOptions::default()).unwrap();
    let original = std::fs::read(common::tiny_moe_folder().join("model.safetensors")).unwrap();
    assert!(std::fs::read(&written[0].0).unwrap() == original);
}

#[test]
fn a_stitched_file_takes_each_tensor_from_its_source() {
    let original = Gguf::open(tiny_moe()).unwrap();
    let folder = HfFolder::open(common::tiny_moe_folder()).unwrap();
    let mut writer = GgufWriter::new(original.metadata().clone());
    let router = "model.layers.0.mlp.gate.weight";
    let (_, entry) = folder.tensor(router).unwrap();
    let shape: Vec<u64> = entry.shape.iter().rev().copied().collect();
    let spec = TensorSpec::new("blk.0.ffn_gate_inp.weight", shape, TensorType::BF16);
    writer.add(spec, Arc::new(folder.data(router).unwrap())).unwrap();
    writer.add_from(&original, "token_embd.weight").unwrap();
    let norm = TensorSpec::new("output_norm.weight", [4], TensorType::F32);
    writer.add(norm, Arc::new(vec![7_u8; 16])).unwrap();

    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("stitched.gguf");
    writer.write(&path, WriteOptions::default()).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert!(file.read("blk.0.ffn_gate_inp.weight").unwrap() == folder.read(router).unwrap());
    let embedding = "token_embd.weight";
    assert!(file.read(embedding).unwrap() == original.read(embedding).unwrap());
    assert_eq!(file.read("output_norm.weight").unwrap(), [7; 16]);
}

#[test]
fn an_importance_matrix_comes_back_as_written() {
    let mut imatrix = Imatrix::new(vec![
        ImatrixEntry::new("z", vec![1.0, 2.5, 3.0, 0.0], vec![4.0, 0.0]).unwrap(),
        ImatrixEntry::new("a", vec![0.5; 7], vec![3.0]).unwrap(),
    ])
    .unwrap();
    imatrix.datasets = vec!["plays.txt".into(), "novels.txt".into()];
    imatrix.chunk_count = Some(12);
    imatrix.chunk_size = Some(512);
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("imatrix.gguf");
    let size = imatrix.write(&path, WriteOptions::default()).unwrap();
    assert_eq!(size, std::fs::metadata(&path).unwrap().len());
    let again = Imatrix::open(&path).unwrap();
    assert_eq!(again.datasets, imatrix.datasets);
    assert_eq!((again.chunk_count, again.chunk_size), (Some(12), Some(512)));
    for entry in imatrix.entries() {
        assert_eq!(again.entry(&entry.name), Some(entry));
    }
    // llama.cpp orders entries by name and leaves out dimensions of 1 at the end.
    let file = Gguf::open(&path).unwrap();
    let names: Vec<(&str, &[u64])> =
        file.tensors().iter().map(|t| (&*t.spec.name, &*t.spec.shape)).collect();
    let expected: [(&str, &[u64]); 4] =
        [("a.in_sum2", &[7]), ("a.counts", &[1]), ("z.in_sum2", &[2, 2]), ("z.counts", &[1, 2])];
    assert_eq!(names, expected);
}
