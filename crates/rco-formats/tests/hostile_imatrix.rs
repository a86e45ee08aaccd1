//! Attacks on the importance matrix reader, each by its name, and what it accepts.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::sync::Arc;

use common::Raw;
use rco_formats::gguf::{GgufWriter, Metadata, TensorSpec, TensorType};
use rco_formats::imatrix::{Imatrix, ImatrixFault as Fault, ImatrixForm};

fn open(raw: Raw) -> Result<Imatrix, Fault> {
    Imatrix::from_source("hostile", Arc::new(raw.0)).map_err(|error| error.fault)
}

fn fault(raw: Raw) -> Fault {
    open(raw).expect_err("the file was accepted")
}

/// An entry of the old form.
fn entry(raw: Raw, name: &str, calls: u32, values: &[f32]) -> Raw {
    let raw = raw.u32(name.len() as u32).bytes(name.as_bytes());
    let raw = raw.u32(calls).u32(values.len() as u32);
    values.iter().fold(raw, |raw, v| raw.bytes(&v.to_le_bytes()))
}

fn old() -> Raw {
    entry(Raw::default().u32(1), "t", 2, &[2.0, 4.0]).u32(7).u32(3).bytes(b"abc")
}

/// A GGUF file with these tensors, all zero.
fn gguf(kind: &str, tensors: &[(&str, &[u64], TensorType)]) -> Raw {
    let mut metadata = Metadata::new();
    metadata.set("general.type", kind).unwrap();
    let mut writer = GgufWriter::new(metadata);
    for &(name, shape, ty) in tensors {
        let spec = TensorSpec::new(name, shape, ty);
        let bytes = spec.byte_length().unwrap().unwrap();
        writer.add(spec, Arc::new(vec![0_u8; bytes as usize])).unwrap();
    }
    let mut out = Vec::new();
    writer.write_to(&mut out).unwrap();
    Raw(out)
}

#[test]
fn the_old_file_that_the_attacks_vary_is_accepted() {
    let imatrix = open(old()).unwrap();
    assert_eq!(imatrix.form, ImatrixForm::Old);
    assert_eq!(imatrix.chunk_count, Some(7));
    assert_eq!(imatrix.datasets, ["abc"]);
    assert_eq!(imatrix.entry("t").unwrap().mean_squares(), [1.0, 2.0]);
}

#[test]
fn the_trailer_of_the_old_form_is_optional() {
    let imatrix = open(entry(Raw::default().u32(1), "t", 2, &[2.0])).unwrap();
    assert_eq!(imatrix.chunk_count, None);
    assert!(imatrix.datasets.is_empty());
}

#[test]
fn every_truncation_of_an_old_file() {
    let whole = old().0;
    let complete = [entry(Raw::default().u32(1), "t", 2, &[2.0, 4.0]).0.len(), whole.len() - 7];
    for length in (0..whole.len()).filter(|length| !complete.contains(length)) {
        let error = fault(Raw(whole[..length].to_vec()));
        assert!(matches!(error, Fault::Truncated { .. }), "{length} bytes: {error}");
    }
}

#[test]
fn entry_count_beyond_the_file() {
    for count in [2, i32::MAX as u32] {
        let mut raw = old();
        raw.0[..4].copy_from_slice(&count.to_le_bytes());
        assert!(matches!(fault(raw), Fault::Truncated { .. } | Fault::BadName { .. }));
    }
}

#[test]
fn negative_counts() {
    for at in [0, 4, 9, 13] {
        let mut raw = old();
        raw.0[at..at + 4].copy_from_slice(&(-1_i32).to_le_bytes());
        assert!(matches!(fault(raw), Fault::BadNumber { found: -1, .. }), "at byte {at}");
    }
}

#[test]
fn no_entries() {
    assert!(matches!(fault(Raw::default().u32(0)), Fault::BadNumber { found: 0, .. }));
    assert!(matches!(fault(gguf("imatrix", &[])), Fault::Empty));
}

#[test]
fn value_count_beyond_the_file_allocates_nothing() {
    let raw = Raw::default().u32(1).u32(1).bytes(b"t").u32(1).u32(i32::MAX as u32).data(64);
    assert!(matches!(fault(raw), Fault::Truncated { needed: 0x1_ffff_fffc, .. }));
}

#[test]
fn values_that_are_not_finite_or_negative() {
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        let raw = entry(Raw::default().u32(1), "t", 1, &[1.0, value]);
        assert!(matches!(fault(raw), Fault::BadEntry { .. }));
    }
}

#[test]
fn entry_twice() {
    let raw = entry(entry(Raw::default().u32(2), "t", 1, &[1.0]), "t", 1, &[1.0]);
    assert!(matches!(fault(raw), Fault::DuplicateEntry { name } if name == "t"));
}

#[test]
fn payload_after_the_trailer() {
    assert!(matches!(fault(old().data(9)), Fault::TrailingBytes { bytes: 9 }));
}

#[test]
fn name_cut_by_a_zero_or_not_utf8() {
    for name in [&b"a\0b"[..], b"\xff\xff"] {
        let raw = Raw::default().u32(1).u32(name.len() as u32).bytes(name);
        let raw = raw.u32(1).u32(1).bytes(&1_f32.to_le_bytes());
        assert!(matches!(fault(raw), Fault::BadName { entry: 0, .. }));
    }
}

#[test]
fn model_given_as_importance_matrix() {
    let raw = gguf("model", &[("t", &[8], TensorType::F32)]);
    assert!(matches!(fault(raw), Fault::NotImatrix { .. }));
    let model = Imatrix::open(common::tiny_moe_gguf()).unwrap_err();
    assert!(matches!(model.fault, Fault::NotImatrix { .. }), "{model}");
}

#[test]
fn sums_without_counts_and_counts_without_sums() {
    for name in ["t.in_sum2", "t.counts"] {
        let raw = gguf("imatrix", &[(name, &[8], TensorType::F32)]);
        assert!(matches!(fault(raw), Fault::HalfEntry { .. }));
    }
}

#[test]
fn sums_of_another_type() {
    let raw = gguf(
        "imatrix",
        &[("t.in_sum2", &[8], TensorType::F16), ("t.counts", &[1], TensorType::F32)],
    );
    assert!(matches!(fault(raw), Fault::BadEntry { .. }));
}

#[test]
fn counts_that_do_not_fit_the_sums() {
    for counts in [&[2_u64][..], &[1, 2], &[0]] {
        let raw = gguf(
            "imatrix",
            &[("t.in_sum2", &[8, 3], TensorType::F32), ("t.counts", counts, TensorType::F32)],
        );
        assert!(matches!(fault(raw), Fault::BadEntry { .. }));
    }
}

#[test]
fn gguf_faults_keep_their_meaning() {
    let raw = Raw::gguf(u64::MAX, 0);
    assert!(matches!(fault(raw), Fault::Gguf(_)));
}

#[test]
fn a_matrix_that_covers_a_part_of_a_tensor_is_not_used() {
    let imatrix = open(old()).unwrap();
    assert_eq!(imatrix.importance("t", 2, 1).unwrap(), Some(vec![1.0, 2.0]));
    assert_eq!(imatrix.importance("t", 2, 2).unwrap(), Some(vec![1.0, 2.0, 1.0, 2.0]));
    assert_eq!(imatrix.importance("u", 2, 1).unwrap(), None);
    for (row_length, matrices) in [(4, 1), (1, 1), (3, 2), (u64::MAX, 2)] {
        let error = imatrix.importance("t", row_length, matrices).unwrap_err();
        assert!(matches!(error, Fault::WrongCover { found: 2, .. }), "{error}");
    }
}
