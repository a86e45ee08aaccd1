//! Any bytes as configuration, index and two shards of a folder: no panic, and every
//! tensor of an accepted folder is readable. The parts are divided by lines of `@@@`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rco_formats::inspect::{inspect, render};
use rco_formats::safetensors::HfFolder;

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir_in("/dev/shm").unwrap());

fuzz_target!(|data: &[u8]| {
    const NAMES: [&str; 4] =
        ["config.json", "model.safetensors.index.json", "a.safetensors", "b.safetensors"];
    let mut rest = data;
    for (i, name) in NAMES.iter().enumerate() {
        let end = rest.windows(4).position(|w| w == b"@@@\n");
        let (part, after) = match end {
            Some(end) if i + 1 < NAMES.len() => (&rest[..end], &rest[end + 4..]),
            _ => (rest, &[][..]),
        };
        std::fs::write(FOLDER.path().join(name), part).unwrap();
        rest = after;
    }
    let Ok(folder) = HfFolder::open(FOLDER.path()) else { return };
    for (_, tensor) in folder.tensors() {
        assert_eq!(folder.read(&tensor.name).unwrap().len() as u64, tensor.length);
    }
    let report = inspect(FOLDER.path()).unwrap();
    assert!(!render(&report, true).is_empty());
});
