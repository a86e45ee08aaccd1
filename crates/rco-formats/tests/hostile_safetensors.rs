//! Attacks on the safetensors reader and on folders, each by its name.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::sync::Arc;

use rco_formats::safetensors::{HfFolder, Safetensors, SafetensorsFault as Fault};

/// A file with this header and `data` bytes.
fn bytes(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0xab);
    bytes
}

fn open(bytes: &[u8]) -> Result<Safetensors, Fault> {
    let theirs = safetensors::SafeTensors::deserialize(bytes).is_ok();
    let ours = Safetensors::from_source("hostile", Arc::new(bytes.to_vec()));
    // Never more lenient than the reference implementation.
    assert!(theirs || ours.is_err(), "{:?}", String::from_utf8_lossy(bytes));
    ours.map_err(|error| error.fault)
}

fn fault(header: &str, data: usize) -> Fault {
    open(&bytes(header, data)).expect_err("the file was accepted")
}

const GOOD: &str = r#"{"t":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;

#[test]
fn the_file_that_the_attacks_vary_is_accepted() {
    let file = open(&bytes(GOOD, 8)).unwrap();
    assert_eq!(file.read("t").unwrap(), [0xab; 8]);
    assert_eq!(file.tensor("t").unwrap().shape, [2, 1]);
}

#[test]
fn every_truncation_of_a_good_file() {
    let whole = bytes(GOOD, 8);
    for length in 0..whole.len() {
        let error = open(&whole[..length]).unwrap_err();
        assert!(matches!(error, Fault::Truncated { .. } | Fault::WrongEnd { .. }), "{error}");
    }
}

#[test]
fn header_length_beyond_the_file() {
    for length in [100_u64, 99_999_999] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(GOOD.as_bytes());
        assert!(matches!(open(&bytes), Err(Fault::Truncated { .. })));
    }
}

#[test]
fn header_length_beyond_the_limit() {
    for length in [100_000_001, 1 << 62, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(GOOD.as_bytes());
        assert!(matches!(open(&bytes), Err(Fault::HeaderTooLarge { .. })));
    }
}

#[test]
fn header_that_is_no_object() {
    for header in ["", "[]", " {}", "null", "\u{feff}{}"] {
        assert!(matches!(fault(header, 0), Fault::NotSafetensors), "{header}");
    }
}

#[test]
fn header_with_broken_json() {
    for header in ["{", "{}x", "{\"a\":}", "{\"t\":1}", "{\"t\":{}}"] {
        assert!(matches!(fault(header, 0), Fault::Json { .. }), "{header}");
    }
}

#[test]
fn header_that_is_not_utf8() {
    let mut file = bytes("{\"__\":0}", 0);
    file[10] = 0xff;
    assert!(matches!(open(&file), Err(Fault::Json { .. })));
}

#[test]
fn header_nested_without_end() {
    let header = format!("{{\"t\":{}", "[".repeat(100_000));
    assert!(matches!(fault(&header, 0), Fault::Json { .. }));
}

#[test]
fn tensor_named_twice_with_the_same_bytes() {
    // The reference implementation keeps one of them and says nothing.
    let header = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
    let message = fault(header, 1).to_string();
    assert!(message.contains("'t' occurs twice"), "{message}");
}

#[test]
fn metadata_key_twice() {
    let header = r#"{"__metadata__":{"a":"1","a":"2"}}"#;
    assert!(matches!(fault(header, 0), Fault::Json { .. }));
}

#[test]
fn metadata_that_is_not_text() {
    assert!(matches!(fault(r#"{"__metadata__":{"a":1}}"#, 0), Fault::Json { .. }));
}

#[test]
fn tensor_with_a_key_too_many() {
    let header = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#;
    assert!(matches!(fault(header, 1), Fault::Json { .. }));
}

#[test]
fn unknown_element_type() {
    let header = r#"{"t":{"dtype":"F99","shape":[1],"data_offsets":[0,1]}}"#;
    assert!(matches!(fault(header, 1), Fault::UnknownDtype { dtype, .. } if dtype == "F99"));
}

#[test]
fn negative_or_broken_dimension() {
    for dimension in ["-1", "1.5", "1e3", "18446744073709551616", "\"1\""] {
        let header =
            format!(r#"{{"t":{{"dtype":"U8","shape":[{dimension}],"data_offsets":[0,1]}}}}"#);
        assert!(matches!(fault(&header, 1), Fault::Json { .. }), "{dimension}");
    }
}

#[test]
fn offsets_the_wrong_way_round() {
    let header = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#;
    assert!(matches!(fault(header, 1), Fault::Reversed { start: 1, end: 0, .. }));
}

#[test]
fn length_that_is_not_shape_times_type() {
    let header = r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#;
    assert!(matches!(fault(header, 4), Fault::WrongLength { found: 4, .. }));
}

#[test]
fn shape_whose_product_wraps_to_the_right_size() {
    let header = r#"{"t":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
    assert!(matches!(fault(header, 0), Fault::ShapeOverflow { .. }));
    let header = r#"{"t":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}"#;
    assert!(matches!(fault(header, 0), Fault::ShapeOverflow { .. }));
}

#[test]
fn half_a_byte_of_four_bit_numbers() {
    let header = r#"{"t":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#;
    assert!(matches!(fault(header, 1), Fault::WrongLength { .. }));
}

#[test]
fn hole_before_or_between_tensors() {
    let header = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert!(matches!(fault(header, 2), Fault::NotContiguous { expected: 0, .. }));
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#;
    assert!(matches!(fault(header, 3), Fault::NotContiguous { expected: 1, .. }));
}

#[test]
fn tensors_that_share_bytes() {
    let header = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
    assert!(matches!(fault(header, 3), Fault::NotContiguous { start: 1, expected: 2, .. }));
}

#[test]
fn tensor_beyond_the_end_of_the_file() {
    assert!(matches!(fault(GOOD, 7), Fault::WrongEnd { expected: 8, found: 7 }));
}

#[test]
fn payload_after_the_last_tensor() {
    assert!(matches!(fault(GOOD, 4096), Fault::WrongEnd { expected: 8, found: 4096 }));
}

// Folders.

struct Folder(tempfile::TempDir);

impl Folder {
    /// Two files `a` and `b` with one tensor each, and this index.
    fn with_index(index: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("config.json", b"{}");
        for name in ["a", "b"] {
            let header = GOOD.replace("\"t\"", &format!("\"{name}\""));
            folder.write(&format!("{name}.safetensors"), &bytes(&header, 8));
        }
        folder.write("model.safetensors.index.json", index.as_bytes());
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn fault(&self) -> Fault {
        HfFolder::open(self.0.path()).expect_err("the folder was accepted").fault
    }
}

const INDEX: &str =
    r#"{"metadata":{"total_size":16},"weight_map":{"a":"a.safetensors","b":"b.safetensors"}}"#;

#[test]
fn the_folder_that_the_attacks_vary_is_accepted() {
    let folder = Folder::with_index(INDEX);
    let open = HfFolder::open(folder.0.path()).unwrap();
    assert_eq!(open.len(), 2);
    assert_eq!(open.read("b").unwrap(), [0xab; 8]);
}

#[test]
fn index_that_leaves_the_folder() {
    for path in ["../a.safetensors", "/etc/passwd", "x/../a.safetensors", "..\\\\a.safetensors"] {
        let folder = Folder::with_index(&INDEX.replace("a.safetensors", path));
        assert!(matches!(folder.fault(), Fault::BadShardName { .. }), "{path}");
    }
}

#[test]
fn index_with_a_tensor_that_the_file_has_not() {
    let folder = Folder::with_index(&INDEX.replace("\"a\":", "\"c\":\"a.safetensors\",\"a\":"));
    assert!(matches!(folder.fault(), Fault::NotInShard { name, .. } if name == "c"));
}

#[test]
fn file_with_a_tensor_that_the_index_has_not() {
    let folder = Folder::with_index(INDEX);
    let header = r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"x":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}"#;
    folder.write("a.safetensors", &bytes(header, 16));
    assert!(matches!(folder.fault(), Fault::NotInIndex { name, .. } if name == "x"));
}

#[test]
fn tensor_in_two_files() {
    let folder = Folder::with_index(INDEX);
    let header = r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}"#;
    folder.write("b.safetensors", &bytes(header, 16));
    assert!(matches!(folder.fault(), Fault::NotInIndex { name, .. } if name == "a"));
}

#[test]
fn index_with_a_tensor_twice() {
    let folder = Folder::with_index(
        r#"{"weight_map":{"a":"a.safetensors","a":"b.safetensors","b":"b.safetensors"}}"#,
    );
    assert!(matches!(folder.fault(), Fault::Json { .. }));
}

#[test]
fn index_with_another_total() {
    let folder = Folder::with_index(&INDEX.replace("16", "17"));
    assert!(matches!(folder.fault(), Fault::WrongTotal { expected: 17, found: 16 }));
}

#[test]
fn index_that_names_a_missing_file() {
    let folder = Folder::with_index(&INDEX.replace("b.safetensors", "c.safetensors"));
    let error = HfFolder::open(folder.0.path()).unwrap_err();
    assert!(error.file.ends_with("c.safetensors"), "{error}");
    assert!(matches!(error.fault, Fault::Io { .. }));
}

#[test]
fn index_and_single_file_at_once() {
    let folder = Folder::with_index(INDEX);
    folder.write("model.safetensors", &bytes(GOOD, 8));
    assert!(matches!(folder.fault(), Fault::TwoModels));
}

#[test]
fn folder_without_configuration_or_model() {
    let folder = Folder(tempfile::tempdir().unwrap());
    assert!(matches!(folder.fault(), Fault::Missing { file: "config.json", .. }));
    folder.write("config.json", b"{}");
    assert!(matches!(folder.fault(), Fault::Missing { file: "model.safetensors", .. }));
    folder.write("config.json", b"{");
    assert!(matches!(folder.fault(), Fault::Json { .. }));
}

#[cfg(unix)]
#[test]
fn shard_that_is_a_pipe_is_not_waited_for() {
    let folder = Folder::with_index(INDEX);
    let pipe = folder.0.path().join("a.safetensors");
    std::fs::remove_file(&pipe).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    assert!(matches!(folder.fault(), Fault::Io { .. }));
}
