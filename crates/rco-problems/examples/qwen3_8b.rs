//! Writes `examples/problems/qwen3-8b-gguf.json`: which type each linear tensor of
//! Qwen3-8B gets in a GGUF file of a given size.
//!
//! Shapes and costs are exact: the 252 linear tensors of the published model (36
//! layers of 7), and the bytes of a block of each ggml type. The losses are a model,
//! not a measurement: sensitivity of the tensor times relative squared error of the
//! type. Sensitivities are log-normal around a mean by kind and depth, with a fixed
//! seed; the errors are round numbers typical of the types.
//!
//! ```text
//! cargo run --example qwen3_8b -p rco-problems > examples/problems/qwen3-8b-gguf.json
//! ```

use std::fmt::Write;

use rco_core::rng::{Purpose, stream};
use serde_json::json;

const SEED: u64 = 8;
const LAYERS: u64 = 36;
const HIDDEN: u64 = 4096;
const FEED_FORWARD: u64 = 12288;
/// 8 key and value heads of 128.
const KEY_VALUE: u64 = 1024;
/// Weights of a block of all types below, or a multiple of it.
const BLOCK: u64 = 256;

/// Name, rows, columns and mean sensitivity of the linear tensors of a layer.
const TENSORS: [(&str, u64, u64, f64); 7] = [
    ("attn_q", HIDDEN, HIDDEN, 0.7),
    ("attn_k", KEY_VALUE, HIDDEN, 0.5),
    ("attn_v", KEY_VALUE, HIDDEN, 1.2),
    ("attn_output", HIDDEN, HIDDEN, 0.9),
    ("ffn_gate", FEED_FORWARD, HIDDEN, 1.6),
    ("ffn_up", FEED_FORWARD, HIDDEN, 1.8),
    ("ffn_down", HIDDEN, FEED_FORWARD, 2.6),
];

/// Name, bytes of 256 weights, relative squared error.
const TYPES: [(&str, u64, f64); 14] = [
    ("IQ1_S", 50, 0.19),
    ("IQ1_M", 56, 0.15),
    ("IQ2_XXS", 66, 0.088),
    ("IQ2_XS", 74, 0.066),
    ("IQ2_S", 82, 0.047),
    ("Q2_K", 84, 0.058),
    ("IQ3_XXS", 98, 0.025),
    ("IQ3_S", 110, 0.014),
    ("Q3_K", 110, 0.018),
    ("IQ4_XS", 136, 0.0045),
    ("Q4_K", 144, 0.0036),
    ("Q5_K", 176, 0.00093),
    ("Q6_K", 210, 0.00024),
    ("Q8_0", 272, 0.000_03),
];

const DESCRIPTION: &str = "Which ggml type each of the 252 linear tensors of Qwen3-8B gets, \
within a budget for all of them together. Costs are exact GGUF bytes of the tensors. The losses \
are synthetic (a log-normal sensitivity of each tensor times a typical error of each type, seed \
8): they show the size of the problem, not the quality of a quantised model.";

/// The text of the problem file.
pub fn document() -> String {
    let mut groups = Vec::new();
    for layer in 0..LAYERS {
        for (at, (tensor, rows, columns, mean)) in TENSORS.into_iter().enumerate() {
            let mut random = stream(SEED, Purpose::Instance, layer * 7 + at as u64);
            // The first and the last layers are the most sensitive.
            let depth = layer as f64 / (LAYERS - 1) as f64;
            let ends = 1.0 + 2.0 * (-depth * 12.0).exp() + 1.5 * (-(1.0 - depth) * 10.0).exp();
            let sensitivity = 0.02 * mean * ends * (0.5 * random.normal()).exp();
            let size = rows * columns;
            let options: Vec<String> = TYPES
                .into_iter()
                .map(|(name, bytes, error)| {
                    let loss = sensitivity * error * (0.08 * random.normal()).exp();
                    let cost = size / BLOCK * bytes;
                    let loss: f64 = format!("{loss:.5e}").parse().unwrap_or(loss);
                    format!("{{\"name\": \"{name}\", \"cost\": {cost}, \"loss\": {loss:?}}}")
                })
                .collect();
            groups.push(format!(
                "    {{\"name\": \"blk.{layer}.{tensor}.weight\", \"size\": {size}, \"options\": [\n      \
                 {}\n    ]}}",
                options.join(",\n      ")
            ));
        }
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{{\n  \"$schema\": \"../../schemas/problem.schema.json\",\n  \"format\": \"rco-problem\",\n  \
         \"version\": 1,\n  \"name\": \"Qwen3-8B as GGUF\",\n  \"description\": {},\n  \
         \"budgets\": [{{\"resource\": \"bytes\", \"limit\": \"3.5GB\"}}],\n  \"groups\": [\n{}\n  ]\n}}\n",
        json!(DESCRIPTION),
        groups.join(",\n")
    );
    text
}

fn main() -> std::io::Result<()> {
    use std::io::Write;
    std::io::stdout().write_all(document().as_bytes())
}
