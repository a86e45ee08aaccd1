//! Any bytes as a safetensors file: no panic, and whatever is accepted is accepted by the
//! reference implementation too and read alike.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rco_formats::safetensors::Safetensors;

fuzz_target!(|data: &[u8]| {
    let Ok(ours) = Safetensors::from_source("input", Arc::new(data.to_vec())) else { return };
    let theirs = safetensors::SafeTensors::deserialize(data).expect("accepted here only");
    assert_eq!(ours.tensors().len(), theirs.len());
    for tensor in ours.tensors() {
        let view = theirs.tensor(&tensor.name).unwrap();
        assert_eq!(ours.read(&tensor.name).unwrap(), view.data());
        assert!(view.shape().iter().map(|&d| d as u64).eq(tensor.shape.iter().copied()));
    }
});
