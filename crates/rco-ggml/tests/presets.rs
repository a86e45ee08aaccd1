//! llama.cpp's recipes, told and carried out.
#![allow(clippy::unwrap_used, reason = "tests fail")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{Gguf, GgufWriter, TensorSpec, TensorType};
use rco_formats::imatrix::{Imatrix, ImatrixEntry};
use rco_ggml::{GgmlError, Preset, decode_to, encode, quantise_file, recipe};

/// An importance matrix for every matrix of the bundled model, some columns without any.
fn imatrix() -> Imatrix {
    let file = Gguf::open(common::tiny_moe()).unwrap();
    let entries = file.tensors().iter().filter(|t| t.spec.shape.len() >= 2).map(|tensor| {
        let matrices = tensor.spec.shape.get(2).copied().unwrap_or(1) as usize;
        let columns = tensor.spec.row_length() as usize;
        let sums = (0..columns * matrices)
            .map(|i| if i % columns < 20 { 0.0 } else { (i % 7) as f32 + 0.5 })
            .collect();
        ImatrixEntry::new(&tensor.spec.name, sums, vec![2.0; matrices]).unwrap()
    });
    Imatrix::new(entries.collect()).unwrap()
}

#[test]
fn the_recipe_is_what_the_quantiser_writes() {
    let source = common::tiny_moe();
    let folder = tempfile::tempdir().unwrap();
    let imatrix = imatrix();
    for (preset, imatrix) in [
        (Preset::Q4_K_M, None),
        (Preset::Q4_K_M, Some(&imatrix)),
        (Preset::IQ4_XS, Some(&imatrix)),
        (Preset::Q2_K_S, Some(&imatrix)),
        (Preset::Q8_0, None),
    ] {
        let out = folder.path().join("out.gguf");
        quantise_file(&source, &out, preset, imatrix, 2).unwrap();
        let written = Gguf::open(&out).unwrap();
        assert_eq!(written.metadata().u64("general.file_type"), Some(preset.file_type().into()));
        let told = recipe(&source, preset, imatrix).unwrap();
        assert_eq!(told.len(), written.tensors().len());
        for (name, ty) in &told {
            assert_eq!(written.tensor(name).unwrap().spec.ty, *ty, "{preset}: {name}");
        }
        let order: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        let file = Gguf::open(&source).unwrap();
        let expected: Vec<&str> = file.tensors().iter().map(|t| t.spec.name.as_str()).collect();
        assert_eq!(order, expected);
    }
    // Nothing but the file itself is left.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn q4_k_m_of_the_bundled_model_has_the_known_size_and_the_bytes_of_our_encoder() {
    let source = common::tiny_moe();
    let out = tempfile::NamedTempFile::new().unwrap();
    let imatrix = imatrix();
    for imatrix in [None, Some(&imatrix)] {
        quantise_file(&source, out.path(), Preset::Q4_K_M, imatrix, 2).unwrap();
        // The command llama-quantize writes 192 bytes more, about the importance matrix.
        assert_eq!(std::fs::metadata(out.path()).unwrap().len(), 5_446_112 - 192);
        let (file, written) = (Gguf::open(&source).unwrap(), Gguf::open(out.path()).unwrap());
        let mut seen = Vec::new();
        for tensor in written.tensors() {
            let original = file.tensor(&tensor.spec.name).unwrap();
            if original.spec.ty == tensor.spec.ty || seen.contains(&tensor.spec.ty) {
                continue;
            }
            seen.push(tensor.spec.ty);
            let (name, row_length) = (&tensor.spec.name, tensor.spec.row_length() as usize);
            let values =
                decode_to(original.spec.ty, &file.read(name).unwrap(), row_length).unwrap();
            let matrices = tensor.spec.shape.get(2).copied().unwrap_or(1) as usize;
            let importance = imatrix.and_then(|imatrix| {
                imatrix.importance(name, row_length as u64, matrices as u64).unwrap()
            });
            let ours: Vec<u8> = values
                .chunks(values.len() / matrices)
                .enumerate()
                .flat_map(|(i, matrix)| {
                    let columns = i * row_length..(i + 1) * row_length;
                    let weights = importance.as_ref().map(|all| &all[columns]);
                    encode(tensor.spec.ty, matrix, row_length, weights).unwrap()
                })
                .collect();
            assert!(ours == written.read(name).unwrap(), "{name}");
        }
        seen.sort();
        assert_eq!(seen, [TensorType::Q8_0, TensorType::Q4_K, TensorType::Q5_K, TensorType::Q6_K]);
    }
}

#[test]
fn a_model_in_parts_has_the_recipe_of_the_whole() {
    let file = Gguf::open(common::tiny_moe()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("tiny.gguf");
    let parts: Vec<PathBuf> = GgufWriter::copy_of(&file)
        .unwrap()
        .write_split(stem, 8_000_000, WriteOptions::default())
        .unwrap()
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert!(parts.len() >= 2);
    let whole = recipe(&common::tiny_moe(), Preset::Q4_K_M, None).unwrap();
    for part in &parts {
        assert_eq!(recipe(part, Preset::Q4_K_M, None).unwrap(), whole);
    }
    let out = folder.path().join("one.gguf");
    quantise_file(&parts[1], &out, Preset::Q8_0, None, 1).unwrap();
    assert_eq!(Gguf::open(&out).unwrap().tensors().len(), file.tensors().len());
}

#[test]
fn rows_that_do_not_fit_fall_back_as_llama_quantize_does_it() {
    let Some(path) = common::smollm2() else { return };
    let types = recipe(&path, Preset::Q4_K_M, None).unwrap();
    let of = |name: &str| types.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(types.len(), 272);
    // Rows of 576 and of 1,536.
    assert_eq!(of("blk.9.attn_q.weight"), TensorType::Q5_0);
    assert_eq!(of("blk.9.ffn_down.weight"), TensorType::Q4_K);
    assert_eq!(of("blk.9.attn_norm.weight"), TensorType::F32);
}

#[test]
fn every_recipe_is_told_without_quantising() {
    let source = common::tiny_moe();
    for preset in Preset::all() {
        let types = recipe(&source, preset, None).unwrap();
        assert!(
            types.iter().any(|(_, ty)| *ty == preset.default_type()),
            "{preset}: no tensor has its type {}",
            preset.default_type()
        );
    }
}

#[test]
fn recipes_say_truly_whether_they_need_an_importance_matrix() {
    let source = common::tiny_moe();
    let out = tempfile::NamedTempFile::new().unwrap();
    for preset in Preset::all().filter(|preset| preset.needs_importance()) {
        let error = quantise_file(&source, out.path(), preset, None, 1).unwrap_err();
        assert!(matches!(error, GgmlError::Refused { .. }), "{preset}: {error}");
        assert!(error.to_string().contains("requires an importance matrix"), "{error}");
    }
    assert_eq!(std::fs::metadata(out.path()).unwrap().len(), 0, "the target was touched");
    for preset in [Preset::Q2_K, Preset::IQ3_S, Preset::Q3_K_L, Preset::IQ4_NL] {
        quantise_file(&source, out.path(), preset, None, 2).unwrap();
    }
}

#[test]
fn importance_of_the_wrong_shape_and_bad_weights_are_errors() {
    let source = common::tiny_moe();
    let out = tempfile::NamedTempFile::new().unwrap();
    let entry = ImatrixEntry::new("blk.0.attn_q.weight", vec![1.0; 3], vec![1.0]).unwrap();
    let wrong = Imatrix::new(vec![entry]).unwrap();
    let error = quantise_file(&source, out.path(), Preset::Q4_0, Some(&wrong), 1).unwrap_err();
    assert!(matches!(error, GgmlError::Imatrix(_)), "{error}");
    let error = quantise_file(&source, out.path(), Preset::Q4_0, None, 0).unwrap_err();
    assert!(matches!(error, GgmlError::Setting { .. }));
    let nowhere = std::path::Path::new("/no/such/folder/out.gguf");
    let error = quantise_file(&source, nowhere, Preset::Q4_0, None, 1).unwrap_err();
    assert!(matches!(error, GgmlError::Io { .. }), "{error}");

    // A weight that is not a number, in row 2 of a matrix.
    let file = Gguf::open(&source).unwrap();
    let mut bytes = std::fs::read(&source).unwrap();
    let tensor = file.tensor("blk.0.attn_q.weight").unwrap();
    let row = tensor.spec.row_length() * 2;
    let at = (file.header().data_start + tensor.offset + 2 * row + 6) as usize;
    bytes[at..at + 2].copy_from_slice(&[0xc0, 0x7f]);
    let damaged = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(damaged.path(), bytes).unwrap();
    let error = quantise_file(damaged.path(), out.path(), Preset::Q4_0, None, 1).unwrap_err();
    assert!(error.to_string().contains("attn_q.weight': row 2, column 3 holds NaN"), "{error}");
}

#[test]
fn names_that_could_forge_the_account_are_refused() {
    let file = Gguf::open(common::tiny_moe()).unwrap();
    let mut writer = GgufWriter::new(file.metadata().clone());
    let name = "x\n[   1/   1] y - [";
    let spec = TensorSpec::new(name, [4], TensorType::F32);
    writer.add(spec, Arc::new(vec![0_u8; 16])).unwrap();
    let out = tempfile::NamedTempFile::new().unwrap();
    writer.write_to(&mut out.as_file()).unwrap();
    let error = recipe(out.path(), Preset::Q4_0, None).unwrap_err();
    assert!(matches!(error, GgmlError::Unusable { .. }), "{error}");
}
