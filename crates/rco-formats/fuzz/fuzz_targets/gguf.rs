//! Any bytes as a GGUF file: no panic, every tensor readable, and what is written from an
//! accepted file is accepted and comes out the same again.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rco_formats::gguf::{Gguf, GgufWriter};

fn rewrite(file: &Gguf) -> Vec<u8> {
    let writer = GgufWriter::copy_of(file).unwrap();
    let mut out = Vec::new();
    let size = writer.write_to(&mut out).unwrap();
    assert_eq!(size, out.len() as u64);
    out
}

fuzz_target!(|data: &[u8]| {
    let Ok(file) = Gguf::from_source("input", Arc::new(data.to_vec())) else { return };
    for tensor in file.tensors() {
        let bytes = file.read(&tensor.spec.name).unwrap();
        assert_eq!(bytes.len() as u64, tensor.length);
    }
    let once = rewrite(&file);
    let again = Gguf::from_source("output", Arc::new(once.clone())).unwrap();
    assert_eq!(again.metadata().len(), file.metadata().len());
    for (a, b) in file.tensors().iter().zip(again.tensors()) {
        assert_eq!(a.spec, b.spec);
    }
    assert_eq!(rewrite(&again), once);
});
