//! Random files: the predicted size is the written size to the byte, and what is written
//! is read back the same.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use proptest::prelude::*;
use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{
    Array, Gguf, GgufModel, GgufWriter, Layout, Metadata, TensorSpec, TensorType, Text, Value,
};
use rco_formats::safetensors::{Dtype, HfFolder, Safetensors, SafetensorsWriter};

fn text() -> impl Strategy<Value = Text> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Text)
}

fn array() -> impl Strategy<Value = Array> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Array::U8),
        prop::collection::vec(any::<i8>(), 0..9).prop_map(Array::I8),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(Array::U16),
        prop::collection::vec(any::<i16>(), 0..9).prop_map(Array::I16),
        prop::collection::vec(any::<u32>(), 0..9).prop_map(Array::U32),
        prop::collection::vec(any::<i32>(), 0..9).prop_map(Array::I32),
        prop::collection::vec(any::<f32>(), 0..9).prop_map(Array::F32),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        prop::collection::vec(text(), 0..9).prop_map(Array::String),
        prop::collection::vec(any::<u64>(), 0..9).prop_map(Array::U64),
        prop::collection::vec(any::<i64>(), 0..9).prop_map(Array::I64),
        prop::collection::vec(any::<f64>(), 0..9).prop_map(Array::F64),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| prop::collection::vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        text().prop_map(Value::String),
        array().prop_map(Value::Array),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let alignment = prop::option::of((0..8_u32).prop_map(|shift| 1_u32 << shift));
    (prop::collection::vec(("[a-zü.]{1,12}", value()), 0..8), alignment).prop_map(
        |(entries, alignment)| {
            let mut metadata = Metadata::new();
            for (key, value) in entries {
                metadata.set(&key, value).unwrap();
            }
            if let Some(alignment) = alignment {
                metadata.set("general.alignment", alignment).unwrap();
            }
            metadata
        },
    )
}

/// Shapes that fit every type, and any known type.
fn specs() -> impl Strategy<Value = Vec<TensorSpec>> {
    let types: Vec<TensorType> = TensorType::known().map(|(ty, _)| ty).collect();
    let one = (prop::sample::select(types), 0..3_u64, prop::collection::vec(0..4_u64, 0..4));
    prop::collection::vec(one, 0..6).prop_map(|tensors| {
        let spec = |(i, (ty, blocks, mut shape)): (usize, (TensorType, u64, Vec<u64>))| {
            let block = ty.layout().unwrap().block;
            if block > 1 || !shape.is_empty() {
                shape.insert(0, blocks * block);
                shape.truncate(4);
            }
            TensorSpec::new(format!("tensor {i}"), shape, ty)
        };
        tensors.into_iter().enumerate().map(spec).collect()
    })
}

fn writer(metadata: &Metadata, specs: &[TensorSpec]) -> GgufWriter {
    let mut writer = GgufWriter::new(metadata.clone());
    for (i, spec) in specs.iter().enumerate() {
        let bytes = spec.byte_length().unwrap().unwrap() as usize;
        let data: Vec<u8> = (0..bytes).map(|b| (b * 7 + i) as u8).collect();
        writer.add(spec.clone(), Arc::new(data)).unwrap();
    }
    writer
}

proptest! {
    #[test]
    fn gguf_size_is_predicted_to_the_byte(metadata in metadata(), specs in specs()) {
        let layout = Layout::new(&metadata, &specs).unwrap();
        let writer = writer(&metadata, &specs);
        let mut out = Vec::new();
        let written = writer.write_to(&mut out).unwrap();
        prop_assert_eq!(written, out.len() as u64);
        prop_assert_eq!(layout.file_size, written);
        prop_assert_eq!(writer.layout().unwrap(), layout.clone());
        let padded: u64 = layout.lengths.iter().map(|&l| layout.padded(l)).sum();
        prop_assert_eq!(layout.data_start + padded, written);
    }

    #[test]
    fn gguf_is_read_back_the_same(metadata in metadata(), specs in specs(), version in 2..4_u32) {
        let mut original = writer(&metadata, &specs);
        original.set_version(version).unwrap();
        let mut bytes = Vec::new();
        original.write_to(&mut bytes).unwrap();
        let file = Gguf::from_source("written", Arc::new(bytes.clone())).unwrap();
        prop_assert_eq!(file.header().version, version);
        let read: Vec<TensorSpec> = file.tensors().iter().map(|t| t.spec.clone()).collect();
        prop_assert_eq!(read, specs);
        let keys = |m: &Metadata| m.iter().map(|(k, _)| k.to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(keys(file.metadata()), keys(&metadata));
        // Bytes instead of values: not a number is not equal to itself.
        let mut again = Vec::new();
        GgufWriter::copy_of(&file).unwrap().write_to(&mut again).unwrap();
        prop_assert!(again == bytes);
    }

    #[test]
    fn a_split_model_holds_the_same_tensors(
        metadata in metadata(), specs in specs(), limit in 0..2000_u64,
    ) {
        let whole = writer(&metadata, &specs);
        let parts = whole.split(limit).unwrap();
        let files = parts
            .iter()
            .map(|part| {
                let mut bytes = Vec::new();
                part.write_to(&mut bytes).unwrap();
                Gguf::from_source("part", Arc::new(bytes)).unwrap()
            })
            .collect();
        let model = GgufModel::from_parts(files).unwrap();
        prop_assert_eq!(model.len(), specs.len());
        let mut bytes = Vec::new();
        whole.write_to(&mut bytes).unwrap();
        let single = Gguf::from_source("whole", Arc::new(bytes)).unwrap();
        for ((_, split), one) in model.tensors().zip(single.tensors()) {
            prop_assert_eq!(&split.spec, &one.spec);
            let name = &one.spec.name;
            prop_assert_eq!(model.read(name).unwrap(), single.read(name).unwrap());
        }
        for (key, value) in metadata.iter() {
            let kept = model.metadata().get(key).unwrap();
            prop_assert_eq!(format!("{kept:?}"), format!("{value:?}"));
        }
    }

    #[test]
    fn flipped_bytes_of_a_good_file_never_panic(
        metadata in metadata(), specs in specs(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = Vec::new();
        writer(&metadata, &specs).write_to(&mut bytes).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(file) = Gguf::from_source("flipped", Arc::new(bytes)) {
            for tensor in file.tensors() {
                prop_assert_eq!(file.read(&tensor.spec.name).unwrap().len() as u64, tensor.length);
            }
        }
    }
}

proptest! {
    // Every case synchronises several files with the disk.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn safetensors_are_sized_and_read_back_as_written(
        tensors in prop::collection::vec(
            (prop::sample::select(Dtype::ALL.to_vec()), prop::collection::vec(0..5_u64, 0..4)),
            0..6,
        ),
        entries in prop::option::of(prop::collection::btree_map("[a-z\"ü]{0,5}", ".{0,9}", 0..4)),
        limit in 0..100_u64,
    ) {
        let mut writer = SafetensorsWriter::new(entries.map(|m| m.into_iter().collect()));
        for (i, (dtype, mut shape)) in tensors.into_iter().enumerate() {
            // Whole bytes also for elements of 4 and 6 bits.
            shape.push(4);
            let bytes = shape.iter().product::<u64>() * dtype.bits() / 8;
            let data: Vec<u8> = (0..bytes).map(|b| (b * 3 + i as u64) as u8).collect();
            writer.add(format!("t.{i}"), dtype, shape, Arc::new(data)).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("whole");
        let size = writer.write(&path, WriteOptions::default()).unwrap();
        prop_assert_eq!(size, writer.file_size().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        prop_assert_eq!(size, bytes.len() as u64);
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();

        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        let written = writer.write_folder(folder.path(), limit, WriteOptions::default()).unwrap();
        let sharded = HfFolder::open(folder.path()).unwrap();
        prop_assert_eq!(sharded.shards().len(), written.len());
        prop_assert_eq!(sharded.len(), theirs.len());
        for (name, view) in theirs.iter() {
            prop_assert_eq!(sharded.read(name).unwrap(), view.data());
        }
        let copy = folder.path().join("copy");
        let file = Safetensors::open(&path).unwrap();
        SafetensorsWriter::copy_of(&file).unwrap().write(&copy, WriteOptions::default()).unwrap();
        prop_assert!(std::fs::read(&copy).unwrap() == bytes);
    }
}
