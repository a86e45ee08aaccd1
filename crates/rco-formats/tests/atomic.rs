//! Files appear whole or not at all.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rco_formats::atomic::{FillError, WriteError, WriteOptions, write_bytes, write_file};
use rco_formats::gguf::{GgufFault, GgufWriter, Metadata, TensorSpec, TensorType};
use rco_formats::source::ReadAt;

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_has_the_bytes_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    write_bytes(&path, b"abc", WriteOptions::default()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"abc");
    assert_eq!(names(folder.path()), ["new"]);
}

#[cfg(unix)]
#[test]
fn a_new_file_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    write_bytes(&folder.path().join("ours"), b"", WriteOptions::default()).unwrap();
    std::fs::write(folder.path().join("theirs"), b"").unwrap();
    let mode = |name| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("ours"), mode("theirs"));
}

#[test]
fn a_file_that_exists_is_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    std::fs::write(&path, b"old").unwrap();
    let error = write_bytes(&path, b"new", WriteOptions::default()).unwrap_err();
    assert!(matches!(error, WriteError::Exists { .. }));
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    write_bytes(&path, b"new", WriteOptions::force()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["old"]);
}

#[test]
fn a_file_that_appears_while_writing_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("race");
    let error = write_file(&path, 3, WriteOptions::default(), |out| {
        std::fs::write(&path, b"other")?;
        Ok(out.write_all(b"abc")?)
    })
    .unwrap_err();
    assert!(matches!(error, WriteError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"other");
    assert_eq!(names(folder.path()), ["race"]);
}

#[test]
fn a_failure_on_the_way_leaves_the_old_file_and_no_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    std::fs::write(&path, b"kept").unwrap();
    let error = write_file(&path, 1 << 16, WriteOptions::force(), |out| {
        out.write_all(&vec![0; 1 << 15])?;
        let source = io::Error::other("gone");
        Err(FillError::Source { what: "the tensor 't'".into(), source })
    })
    .unwrap_err();
    assert!(matches!(&error, WriteError::Source { what, .. } if what == "the tensor 't'"));
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    assert_eq!(names(folder.path()), ["kept"]);
}

#[test]
fn more_or_fewer_bytes_than_predicted_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [&b"ab"[..], b"abcd"] {
        let error = write_file(&folder.path().join("x"), 3, WriteOptions::default(), |out| {
            Ok(out.write_all(bytes)?)
        })
        .unwrap_err();
        assert!(matches!(error, WriteError::WrongSize { expected: 3, .. }), "{error}");
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn folders_and_missing_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = write_bytes(folder.path(), b"", WriteOptions::force()).unwrap_err();
    assert!(matches!(error, WriteError::NotAFile { .. }), "{error}");
    let missing = folder.path().join("no").join("x");
    let error = write_bytes(&missing, b"", WriteOptions::default()).unwrap_err();
    assert!(matches!(error, WriteError::NoFolder { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_file_larger_than_the_disk_is_refused_before_a_byte_is_written() {
    #[derive(Debug)]
    struct Huge(u64);
    impl ReadAt for Huge {
        fn size(&self) -> u64 {
            self.0
        }
        fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            panic!("nothing may be read")
        }
    }
    let mut writer = GgufWriter::new(Metadata::new());
    let spec = TensorSpec::new("t", [1 << 50, 256], TensorType::F32);
    writer.add(spec, Arc::new(Huge(1 << 60))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = writer.write(folder.path().join("x"), WriteOptions::default()).unwrap_err();
    let GgufFault::Write(WriteError::DiskFull { needed, free: Some(free), .. }) = error.fault
    else {
        panic!("{error}")
    };
    assert!(needed > 1 << 60 && free < needed);
    assert!(names(folder.path()).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_reported_as_one() {
    let mut writer = GgufWriter::new(Metadata::new());
    let spec = TensorSpec::new("t", [1024], TensorType::F32);
    writer.add(spec, Arc::new(vec![0_u8; 4096])).unwrap();
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = writer.write_to(&mut full).unwrap_err();
    assert!(
        matches!(&error, FillError::Sink(e) if e.kind() == io::ErrorKind::StorageFull),
        "{error}"
    );
    let folder = tempfile::tempdir().unwrap();
    let error = write_file(&folder.path().join("x"), 1, WriteOptions::default(), |out| {
        out.write_all(b"x")?;
        Ok(full.write_all(b"x")?)
    })
    .unwrap_err();
    assert!(matches!(error, WriteError::DiskFull { needed: 1, .. }), "{error}");
}

/// Runs itself with a file size limit of 64 KiB, the signal for it ignored.
#[cfg(target_os = "linux")]
#[test]
fn the_file_size_limit_is_reported_and_leaves_nothing() {
    const FOLDER: &str = "RCO_TEST_LIMITED_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let error =
            write_bytes(&Path::new(&folder).join("x"), &vec![0; 4 << 20], WriteOptions::default())
                .unwrap_err();
        assert!(matches!(error, WriteError::SizeLimit { needed: 0x0040_0000, .. }), "{error}");
        std::fs::write(Path::new(&folder).join("checked"), b"").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("bash")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact \"$1\"")
        .arg(std::env::current_exe().unwrap())
        .arg("the_file_size_limit_is_reported_and_leaves_nothing")
        .env(FOLDER, folder.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(names(folder.path()), ["checked"]);
}
