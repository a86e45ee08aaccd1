//! Any JSON as `quantization_config`: no panic, whatever module is asked for, and schemes of
//! modules whose rows are whole groups only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rco_formats::compressed_tensors::ModuleSchemes;
use rco_formats::safetensors::Dtype;

const MODULES: [&str; 4] =
    ["model.layers.0.mlp.down_proj", "model.layers.10.self_attn.q_proj", "lm_head", ""];

fuzz_target!(|data: &[u8]| {
    let Ok(config) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let Ok(schemes) = ModuleSchemes::parse(&config) else { return };
    for module in MODULES {
        for columns in [0, 1, 64, 96, 4096, usize::MAX] {
            let Some(scheme) = schemes.scheme(module, columns) else { continue };
            assert!(columns > 0 && columns.is_multiple_of(scheme.group()));
            // Sizes are counted or refused.
            let _ = scheme.bytes(7, columns, Dtype::Bf16);
        }
    }
});
