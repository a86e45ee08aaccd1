//! Models in several GGUF files.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{Gguf, GgufFault, GgufModel, GgufWriter, TensorSpec, TensorType};

/// The bundled model in parts of about 4 MB.
fn write_parts(folder: &Path) -> Vec<PathBuf> {
    let file = Gguf::open(common::tiny_moe_gguf()).unwrap();
    let written = GgufWriter::copy_of(&file)
        .unwrap()
        .write_split(folder.join("tiny.gguf"), 4_000_000, WriteOptions::default())
        .unwrap();
    for (path, size) in &written {
        assert_eq!(std::fs::metadata(path).unwrap().len(), *size);
    }
    written.into_iter().map(|(path, _)| path).collect()
}

/// Five small tensors, to be split into three parts by 64 bytes.
fn small() -> GgufWriter {
    let mut metadata = rco_formats::gguf::Metadata::new();
    metadata.set("general.architecture", "llama").unwrap();
    let mut writer = GgufWriter::new(metadata);
    for i in 0..5_u8 {
        let spec = TensorSpec::new(format!("t{i}"), [8], TensorType::F32);
        writer.add(spec, Arc::new(vec![i; 32])).unwrap();
    }
    writer
}

/// The small model in three parts.
fn write_small(folder: &Path) -> Vec<PathBuf> {
    let written = small().write_split(folder.join("s"), 64, WriteOptions::default()).unwrap();
    assert_eq!(written.len(), 3);
    written.into_iter().map(|(path, _)| path).collect()
}

fn fault(path: &Path) -> GgufFault {
    GgufModel::open(path).expect_err("the parts were accepted").fault
}

#[test]
fn any_part_opens_the_whole_model() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_parts(folder.path());
    assert!(paths.len() >= 4);
    assert!(paths[0].ends_with(format!("tiny-00001-of-{:05}.gguf", paths.len())));
    let original = Gguf::open(common::tiny_moe_gguf()).unwrap();
    for path in [&paths[0], &paths[2]] {
        let model = GgufModel::open(path).unwrap();
        assert_eq!(model.parts().len(), paths.len());
        assert_eq!(model.metadata().architecture(), Some("qwen3moe"));
        assert_eq!(model.len(), original.tensors().len());
        for tensor in original.tensors() {
            let name = &tensor.spec.name;
            assert!(model.read(name).unwrap() == original.read(name).unwrap(), "{name}");
        }
    }
}

#[test]
fn parts_join_into_the_original_file_but_for_the_split_keys() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_parts(folder.path());
    let model = GgufModel::open(&paths[0]).unwrap();
    let mut metadata = model.metadata().clone();
    for key in ["split.no", "split.count", "split.tensors.count"] {
        assert!(metadata.remove(key).is_some());
    }
    let mut writer = GgufWriter::new(metadata);
    for (part, tensor) in model.tensors() {
        writer.add_from(part, &tensor.spec.name).unwrap();
    }
    let mut joined = Vec::new();
    writer.write_to(&mut joined).unwrap();
    assert!(joined == std::fs::read(common::tiny_moe_gguf()).unwrap());
}

#[test]
fn a_model_that_fits_one_part_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = Gguf::open(common::tiny_moe_gguf()).unwrap();
    let writer = GgufWriter::copy_of(&file).unwrap();
    let written =
        writer.write_split(folder.path().join("one"), u64::MAX, WriteOptions::default()).unwrap();
    assert_eq!(written[0].0, folder.path().join("one.gguf"));
    let bytes = std::fs::read(&written[0].0).unwrap();
    assert!(bytes == std::fs::read(common::tiny_moe_gguf()).unwrap());
}

#[test]
fn a_part_that_exists_stops_the_writing_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_small(folder.path());
    std::fs::remove_file(&paths[0]).unwrap();
    let stem = folder.path().join("s");
    let error = small().write_split(&stem, 64, WriteOptions::default()).unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert!(!paths[0].exists());
    small().write_split(&stem, 64, WriteOptions::force()).unwrap();
    assert!(paths[0].exists());
}

#[test]
fn missing_part() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_small(folder.path());
    std::fs::remove_file(&paths[1]).unwrap();
    let error = GgufModel::open(&paths[0]).unwrap_err();
    assert!(error.file.ends_with(paths[1].file_name().unwrap().to_str().unwrap()), "{error}");
}

#[test]
fn renamed_part() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_small(folder.path());
    let renamed = folder.path().join("model.gguf");
    std::fs::rename(&paths[0], &renamed).unwrap();
    assert!(matches!(fault(&renamed), GgufFault::SplitName { no: 1, .. }));
}

#[test]
fn swapped_parts() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_small(folder.path());
    let aside = folder.path().join("aside");
    std::fs::rename(&paths[1], &aside).unwrap();
    std::fs::rename(&paths[2], &paths[1]).unwrap();
    std::fs::rename(&aside, &paths[2]).unwrap();
    assert!(matches!(fault(&paths[0]), GgufFault::SplitMismatch { expected_no: 2, .. }));
}

#[test]
fn part_of_another_split() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_small(folder.path());
    let mut whole = Vec::new();
    small().write_to(&mut whole).unwrap();
    std::fs::write(&paths[1], whole).unwrap();
    assert!(matches!(
        fault(&paths[0]),
        GgufFault::SplitMismatch { .. } | GgufFault::DuplicateTensor { .. }
    ));
}

#[test]
fn part_count_of_four_billion_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut metadata = rco_formats::gguf::Metadata::new();
    metadata.set("split.count", u32::MAX).unwrap();
    let path = folder.path().join("x-00001-of-4294967295.gguf");
    GgufWriter::new(metadata).write(&path, WriteOptions::default()).unwrap();
    assert!(matches!(fault(&path), GgufFault::SplitName { .. }));
}
