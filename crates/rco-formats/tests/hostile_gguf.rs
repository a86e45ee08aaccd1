//! Attacks on the GGUF reader, each by its name. Types: 0 is F32, 12 is `Q4_K`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use common::Raw;
use rco_formats::gguf::GgufFault as Fault;

/// One F32 tensor of eight weights: a file that is accepted.
fn good() -> Raw {
    Raw::gguf(1, 1).key_u32("a", 1).tensor("t", &[8], 0, 0).pad(32).data(32)
}

#[test]
fn the_file_that_the_attacks_vary_is_accepted() {
    let file = good().open().unwrap();
    assert_eq!(file.read("t").unwrap(), [0xab; 32]);
}

#[test]
fn empty_file() {
    assert!(matches!(Raw::default().fault(), Fault::Truncated { at: 0, left: 0, .. }));
}

#[test]
fn every_truncation_of_a_good_file() {
    let whole = good().0;
    for length in 0..whole.len() {
        let error = Raw(whole[..length].to_vec()).fault();
        assert!(
            matches!(error, Fault::Truncated { .. } | Fault::OutsideFile { .. }),
            "{length} bytes: {error}"
        );
    }
}

#[test]
fn wrong_magic() {
    let fault = Raw::default().bytes(b"GGML").u32(3).u64(0).u64(0).fault();
    assert!(matches!(fault, Fault::NotGguf { found: [b'G', b'G', b'M', b'L'] }));
}

#[test]
fn big_endian_file_is_refused_by_name() {
    let fault = Raw::default().bytes(b"GGUF").bytes(&3_u32.to_be_bytes()).data(64).fault();
    assert!(matches!(fault, Fault::BigEndian { version: 3 }));
    assert!(fault.to_string().contains("big-endian"), "{fault}");
}

#[test]
fn versions_of_the_past_and_the_future() {
    for found in [0, 1, 4, 1000] {
        let fault = Raw::default().bytes(b"GGUF").u32(found).u64(0).u64(0).fault();
        assert!(matches!(fault, Fault::UnsupportedVersion { .. }), "{found}: {fault}");
    }
}

#[test]
fn tensor_count_beyond_the_file() {
    for count in [2, 1 << 32, u64::MAX] {
        let fault = Raw::gguf(count, 0).tensor("t", &[8], 0, 0).pad(32).fault();
        assert!(matches!(fault, Fault::Truncated { .. } | Fault::CountTooLarge { .. }), "{fault}");
    }
}

#[test]
fn key_count_beyond_the_file() {
    for count in [2, 1 << 40, u64::MAX] {
        let fault = Raw::gguf(0, count).key_u32("a", 1).fault();
        assert!(matches!(fault, Fault::Truncated { .. } | Fault::CountTooLarge { .. }), "{fault}");
    }
}

#[test]
fn key_length_beyond_the_file() {
    for length in [100, 1 << 40, u64::MAX] {
        let fault = Raw::gguf(0, 1).u64(length).data(32).fault();
        assert!(matches!(fault, Fault::Truncated { needed, .. } if needed == length), "{fault}");
    }
}

#[test]
fn string_value_length_beyond_the_file() {
    let fault = Raw::gguf(0, 1).text("a").u32(8).u64(1 << 62).data(32).fault();
    assert!(matches!(fault, Fault::Truncated { needed: 0x4000_0000_0000_0000, .. }), "{fault}");
}

#[test]
fn array_count_beyond_the_file_allocates_nothing() {
    for (element, count) in [(0, 1_u64 << 40), (12, 1 << 36), (8, 1 << 35), (9, 1 << 34)] {
        let fault = Raw::gguf(0, 1).text("a").u32(9).u32(element).u64(count).data(64).fault();
        assert!(matches!(fault, Fault::Truncated { .. }), "{fault}");
    }
}

#[test]
fn array_count_whose_bytes_overflow() {
    // 2⁶¹ + 1 elements of 8 bytes are 8 bytes, modulo 2⁶⁴.
    let fault = Raw::gguf(0, 1).text("a").u32(9).u32(10).u64((1 << 61) + 1).data(64).fault();
    assert!(matches!(fault, Fault::CountTooLarge { .. }), "{fault}");
}

#[test]
fn unknown_value_type() {
    for found in [13, 99, u32::MAX] {
        let fault = Raw::gguf(0, 1).text("a").u32(found).u64(0).fault();
        assert!(matches!(fault, Fault::UnknownValueType { .. }), "{fault}");
        let fault = Raw::gguf(0, 1).text("a").u32(9).u32(found).u64(0).fault();
        assert!(matches!(fault, Fault::UnknownValueType { .. }), "{fault}");
    }
}

#[test]
fn arrays_nested_without_end() {
    let mut raw = Raw::gguf(0, 1).text("a").u32(9);
    for _ in 0..10_000 {
        raw = raw.u32(9).u64(1);
    }
    assert!(matches!(raw.u32(0).u64(0).fault(), Fault::TooDeep { .. }));
}

#[test]
fn truth_value_that_is_neither() {
    let fault = Raw::gguf(0, 1).text("a").u32(7).bytes(&[2]).pad(32).fault();
    assert!(matches!(fault, Fault::BadBool { found: 2, .. }));
}

#[test]
fn key_that_is_empty_not_utf8_or_cut_by_a_zero() {
    for key in [&b""[..], b"\xff\xfe", b"general.architecture\0x"] {
        let raw = Raw::gguf(0, 1).u64(key.len() as u64).bytes(key).u32(4).u32(0).pad(32);
        assert!(matches!(raw.fault(), Fault::BadName { .. }));
    }
}

#[test]
fn key_longer_than_the_format_allows() {
    let fault = Raw::gguf(0, 1).key_u32(&"k".repeat(65_536), 1).pad(32).fault();
    assert!(matches!(fault, Fault::BadName { .. }), "{fault}");
}

#[test]
fn duplicate_key() {
    let fault = Raw::gguf(0, 2).key_u32("a", 1).key_u32("a", 1).pad(32).fault();
    assert!(matches!(fault, Fault::DuplicateKey { key } if key == "a"));
}

#[test]
fn duplicate_tensor_name() {
    let fault =
        Raw::gguf(2, 0).tensor("t", &[8], 0, 0).tensor("t", &[8], 0, 32).pad(32).data(64).fault();
    assert!(matches!(fault, Fault::DuplicateTensor { name } if name == "t"));
}

#[test]
fn tensor_name_that_is_empty_or_cut_by_a_zero() {
    for name in ["", "a\0b"] {
        let fault = Raw::gguf(1, 0).tensor(name, &[8], 0, 0).pad(32).data(32).fault();
        assert!(matches!(fault, Fault::BadName { .. }), "{fault}");
    }
}

#[test]
fn five_dimensions() {
    let fault = Raw::gguf(1, 0).tensor("t", &[1; 5], 0, 0).pad(32).data(32).fault();
    assert!(matches!(fault, Fault::TooManyDimensions { found: 5, .. }));
}

#[test]
fn dimension_count_of_four_billion() {
    let fault = Raw::gguf(1, 0).text("t").u32(u32::MAX).data(64).fault();
    assert!(matches!(fault, Fault::TooManyDimensions { found: u32::MAX, .. }));
}

#[test]
fn shape_whose_product_wraps_to_the_right_size() {
    // 2³² · 2³² + … wraps to 0 bytes, 2⁶² · 4 · 8 likewise.
    for shape in [&[1_u64 << 32, 1 << 32][..], &[1 << 62, 4, 8], &[u64::MAX, u64::MAX]] {
        let fault = Raw::gguf(1, 0).tensor("t", shape, 0, 0).pad(32).data(32).fault();
        assert!(matches!(fault, Fault::ShapeOverflow { .. }), "{fault}");
    }
}

#[test]
fn element_count_fits_but_byte_count_wraps() {
    let fault = Raw::gguf(1, 0).tensor("t", &[1 << 62], 0, 0).pad(32).data(32).fault();
    assert!(matches!(fault, Fault::ShapeOverflow { .. }), "{fault}");
}

#[test]
fn zero_dimension_that_hides_an_overflow() {
    let fault = Raw::gguf(1, 0).tensor("t", &[1 << 62, 1 << 62, 0], 0, 0).pad(32).fault();
    assert!(matches!(fault, Fault::ShapeOverflow { .. }), "{fault}");
}

#[test]
fn row_that_is_no_whole_number_of_blocks() {
    let fault = Raw::gguf(1, 0).tensor("t", &[128, 2], 12, 0).pad(32).data(144).fault();
    assert!(matches!(fault, Fault::BrokenRow { row_length: 128, block: 256, .. }));
}

#[test]
fn tensor_beyond_the_end_of_the_file() {
    // What a quantiser that trusts the shape would copy from its own memory.
    let fault = Raw::gguf(1, 0).tensor("t", &[1 << 20], 0, 0).pad(32).data(32).fault();
    assert!(matches!(fault, Fault::OutsideFile { end: 4_194_304, available: 32, .. }));
}

#[test]
fn last_tensor_one_byte_short() {
    let fault = Raw::gguf(1, 0).tensor("t", &[8], 0, 0).pad(32).data(31).fault();
    assert!(matches!(fault, Fault::OutsideFile { end: 32, available: 31, .. }));
}

#[test]
fn empty_tensor_beyond_the_end_of_a_file_without_padding() {
    let fault = Raw::gguf(1, 0).tensor("t", &[0], 0, 0).fault();
    assert!(matches!(fault, Fault::Truncated { left: 0, .. }), "{fault}");
    let file = Raw::gguf(1, 0).tensor("t", &[0], 0, 0).pad(32).open().unwrap();
    assert!(file.read("t").unwrap().is_empty());
}

#[test]
fn offset_beyond_the_end_of_the_file() {
    for offset in [64, 1 << 40, u64::MAX - 31] {
        let fault = Raw::gguf(1, 0).tensor("t", &[8], 0, offset).pad(32).data(32).fault();
        assert!(matches!(fault, Fault::Hole { .. }), "{fault}");
    }
}

#[test]
fn offset_near_the_top_after_a_tensor_of_unknown_type() {
    // The unknown tensor spans everything up to the second one, whose end wraps.
    let fault = Raw::gguf(2, 0)
        .tensor("u", &[8], 99, 0)
        .tensor("t", &[1 << 40], 0, u64::MAX - 31)
        .pad(32)
        .data(64)
        .fault();
    assert!(matches!(fault, Fault::OutsideFile { .. }), "{fault}");
}

#[test]
fn offset_that_is_not_aligned() {
    let fault = Raw::gguf(1, 0).tensor("t", &[8], 0, 8).pad(32).data(40).fault();
    assert!(matches!(fault, Fault::Misaligned { offset: 8, alignment: 32, .. }));
}

#[test]
fn two_tensors_at_one_place() {
    let fault =
        Raw::gguf(2, 0).tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 0).pad(32).data(32).fault();
    assert!(matches!(fault, Fault::Overlap { previous, .. } if previous == "a"));
}

#[test]
fn tensors_that_overlap_in_part() {
    let fault =
        Raw::gguf(2, 0).tensor("a", &[16], 0, 0).tensor("b", &[16], 0, 32).pad(32).data(96).fault();
    assert!(matches!(fault, Fault::Overlap { offset: 32, end: 64, .. }));
}

#[test]
fn hole_between_tensors() {
    let fault =
        Raw::gguf(2, 0).tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 64).pad(32).data(96).fault();
    assert!(matches!(fault, Fault::Hole { offset: 64, bytes: 32, .. }));
}

#[test]
fn hole_before_the_first_tensor() {
    let fault = Raw::gguf(1, 0).tensor("a", &[8], 0, 32).pad(32).data(64).fault();
    assert!(matches!(fault, Fault::Hole { bytes: 32, .. }));
}

#[test]
fn another_file_appended() {
    let mut raw = good();
    raw.0.extend_from_within(..);
    assert!(matches!(raw.fault(), Fault::TrailingBytes { .. }));
}

#[test]
fn data_without_tensors() {
    assert!(matches!(Raw::gguf(0, 0).pad(32).data(64).fault(), Fault::TrailingBytes { bytes: 64 }));
}

#[test]
fn alignment_of_zero_or_no_power_of_two() {
    for alignment in [0, 3, 33, 1 << 21, u32::MAX] {
        let fault = Raw::gguf(1, 1)
            .key_u32("general.alignment", alignment)
            .tensor("t", &[8], 0, 0)
            .pad(32)
            .data(32)
            .fault();
        assert!(matches!(fault, Fault::BadAlignment { .. }), "{fault}");
    }
}

#[test]
fn alignment_of_another_type() {
    let fault = Raw::gguf(0, 1).text("general.alignment").u32(10).u64(32).pad(32).fault();
    assert!(matches!(fault, Fault::WrongValueType { .. }), "{fault}");
}

#[test]
fn huge_alignment_cannot_hide_a_payload() {
    // With padding of 2 GiB anything could lie between two tensors.
    let fault = Raw::gguf(1, 1)
        .key_u32("general.alignment", 1 << 31)
        .tensor("t", &[8], 0, 0)
        .pad(32)
        .data(4096)
        .fault();
    assert!(matches!(fault, Fault::BadAlignment { .. }), "{fault}");
}

#[test]
fn unknown_type_without_bytes_of_its_own() {
    let fault =
        Raw::gguf(2, 0).tensor("u", &[8], 99, 0).tensor("v", &[8], 99, 0).pad(32).data(32).fault();
    assert!(matches!(fault, Fault::UnknownExtent { ty: 99, .. }), "{fault}");
}

#[test]
fn unknown_type_at_the_end_of_an_empty_data_section() {
    let fault = Raw::gguf(1, 0).tensor("u", &[8], 99, 0).pad(32).fault();
    assert!(matches!(fault, Fault::UnknownExtent { .. }), "{fault}");
}

#[test]
fn unknown_types_are_kept_with_the_bytes_up_to_the_next_tensor() {
    let bytes = Raw::gguf(3, 0)
        .tensor("u", &[7, 3], 99, 0)
        .tensor("t", &[8], 0, 96)
        .tensor("v", &[1], 31, 128)
        .pad(32)
        .data(96 + 32 + 32);
    let file = bytes.clone().open().unwrap();
    let lengths: Vec<u64> = file.tensors().iter().map(|t| t.length).collect();
    assert_eq!(lengths, [96, 32, 32]);
    let mut copy = Vec::new();
    rco_formats::gguf::GgufWriter::copy_of(&file).unwrap().write_to(&mut copy).unwrap();
    assert_eq!(copy, bytes.0);
}

#[test]
fn header_beyond_the_limit() {
    // A file of 1 GiB that is one string; the source makes it up, nothing is allocated.
    #[derive(Debug)]
    struct Endless(Vec<u8>);
    impl rco_formats::source::ReadAt for Endless {
        fn size(&self) -> u64 {
            1 << 30
        }
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
            buf.fill(b'x');
            let start = (offset as usize).min(self.0.len());
            let known = (self.0.len() - start).min(buf.len());
            buf[..known].copy_from_slice(&self.0[start..start + known]);
            Ok(())
        }
    }
    let start = Raw::gguf(0, 1).text("a").u32(8).u64((1 << 30) - 100).0;
    let error = rco_formats::gguf::Gguf::from_source("huge", std::sync::Arc::new(Endless(start)))
        .unwrap_err();
    assert!(matches!(error.fault, Fault::HeaderTooLarge { .. }), "{error}");
}

#[test]
fn file_that_shrinks_after_it_was_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, good().0).unwrap();
    let file = rco_formats::gguf::Gguf::open(&path).unwrap();
    std::fs::write(&path, b"GGUF").unwrap();
    let error = file.read("t").unwrap_err();
    assert!(matches!(error.fault, Fault::Io { .. }), "{error}");
}

#[test]
fn reads_outside_a_tensor() {
    let file = good().open().unwrap();
    let tensor = file.tensor("t").unwrap();
    for (start, length) in [(0, 33), (32, 1), (u64::MAX, 1)] {
        let error = file.read_at(tensor, start, &mut vec![0; length]).unwrap_err();
        assert!(matches!(error.fault, Fault::OutsideTensor { .. }), "{error}");
    }
}
