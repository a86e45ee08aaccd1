//! Any bytes as an importance matrix: no panic, and an accepted one, written in the GGUF
//! form, is read as the same means.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rco_formats::imatrix::Imatrix;

fuzz_target!(|data: &[u8]| {
    let Ok(imatrix) = Imatrix::from_source("input", Arc::new(data.to_vec())) else { return };
    for entry in imatrix.entries() {
        assert_eq!(entry.mean_squares().len(), entry.sums.len());
    }
    // A name may be too long for GGUF once its suffix is added.
    let Ok(writer) = imatrix.to_gguf() else { return };
    let mut out = Vec::new();
    if writer.write_to(&mut out).is_err() {
        return;
    }
    let again = Imatrix::from_source("output", Arc::new(out)).unwrap();
    assert_eq!(again.entries().len(), imatrix.entries().len());
    for entry in imatrix.entries() {
        assert_eq!(again.entry(&entry.name), Some(entry));
    }
});
