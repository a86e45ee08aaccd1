//! Fixtures as GGUF files, by the conventions of llama.cpp's converter.

use std::sync::Arc;

use rco_formats::gguf::{
    Array, Gguf, GgufModel, GgufWriter, Metadata, TensorSpec, TensorType, Value as Meta,
};
use rco_formats::safetensors::HfFolder;
use rco_model::config::{Family, MlpConfig, Rope, RopeScaling};
use rco_model::weights::{GgufWeights, HfWeights, HostWeight, MemoryWeights, WeightSource};
use rco_model::{ModelConfig, WeightKey, WeightKind};
use serde_json::{Value, json};

use crate::common::fixture;

/// A fixture, changed where llama.cpp cannot run it: no windows but Gemma's, scores scaled
/// by the head size, experts in every block, one key head for each query head of `OLMoE`, and the ramp of `YaRN` that is built in.
pub(crate) fn runnable(name: &str) -> (ModelConfig, MemoryWeights) {
    let folder = HfFolder::open(fixture(name)).unwrap();
    let original = ModelConfig::from_hf(folder.config()).unwrap();
    let mut json = folder.config().clone();
    let source = HfWeights::new(folder, &original).unwrap();
    match original.family {
        Family::Gemma2 | Family::Gemma3 => json["query_pre_attn_scalar"] = json["head_dim"].clone(),
        Family::Qwen3Moe => json["mlp_only_layers"] = json!([]),
        Family::Olmoe => json["num_key_value_heads"] = json["num_attention_heads"].clone(),
        Family::Mistral => json["sliding_window"] = Value::Null,
        Family::Qwen2 => {
            json["use_sliding_window"] = json!(false);
            json.as_object_mut().unwrap().remove("layer_types");
        }
        _ => {}
    }
    if name == "qwen3-yarn" {
        json["rope_parameters"]["beta_fast"] = json!(32.0);
    }
    let config = ModelConfig::from_hf(&json).unwrap();
    let mut weights = MemoryWeights::default();
    for (key, _) in config.weights() {
        // The experts of a block that had none are those of the first.
        let first = WeightKey { layer: Some(0), ..key };
        let from = if source.shape(key).is_some() { key } else { first };
        let mut weight = source.load(from).unwrap();
        if matches!(key.kind, WeightKind::Key | WeightKind::Value | WeightKind::KeyNorm) {
            repeat_heads(&mut weight, config.kv_heads / original.kv_heads, config.head_dim);
        }
        weights.insert(key, weight).unwrap();
    }
    (config, weights)
}

/// Each head several times, as attention with fewer keys than queries has it.
fn repeat_heads(weight: &mut HostWeight, times: usize, head_dim: usize) {
    if times > 1 {
        let head = head_dim * weight.shape.get(1).map_or(1, |&width| width);
        weight.values = weight.values.chunks(head).flat_map(|h| h.repeat(times)).collect();
        weight.shape[0] *= times;
    }
}

/// The file, in memory.
pub(crate) fn to_gguf(config: &ModelConfig, weights: &MemoryWeights) -> Arc<GgufModel> {
    let mut bytes = Vec::new();
    writer(config, weights).write_to(&mut bytes).unwrap();
    let file = Gguf::from_source("fixture.gguf", Arc::new(bytes)).unwrap();
    Arc::new(GgufModel::from_parts(vec![file]).unwrap())
}

pub(crate) fn writer(config: &ModelConfig, weights: &MemoryWeights) -> GgufWriter {
    let mut writer = GgufWriter::new(metadata(config));
    if let RopeScaling::Llama3 { .. } = config.blocks[0].rope.scaling {
        let rope = &config.blocks[0].rope;
        let scaled = rope.frequencies(config.head_dim);
        let plain = Rope { scaling: RopeScaling::None, ..rope.clone() };
        let plain = plain.frequencies(config.head_dim);
        let divisors: Vec<f32> = plain.iter().zip(&scaled).map(|(p, s)| (p / s) as f32).collect();
        add(&mut writer, "rope_freqs.weight", &[divisors.len()], &divisors);
    }
    let gemma = matches!(config.family, Family::Gemma2 | Family::Gemma3);
    let mut done = Vec::new();
    for (key, shape) in config.weights() {
        let (name, expert) = GgufWeights::tensor_name(key);
        if done.contains(&name) {
            continue;
        }
        let mut values = weights.get(key).unwrap().values.clone();
        let mut shape = shape;
        if gemma && shape.len() == 1 {
            for w in &mut values {
                *w += 1.0;
            }
        }
        if matches!(config.family, Family::Llama | Family::Mistral | Family::Mixtral) {
            match key.kind {
                WeightKind::Query
                | WeightKind::QueryBias
                | WeightKind::Key
                | WeightKind::KeyBias => {
                    values = interleave(&values, config.head_dim, shape.get(1).map_or(1, |&n| n));
                }
                _ => {}
            }
        }
        if expert.is_some() {
            let MlpConfig::Experts { experts, .. } = config.blocks[key.layer.unwrap()].mlp else {
                unreachable!()
            };
            for expert in 1..experts {
                let key = WeightKey { expert: Some(expert), ..key };
                values.extend_from_slice(&weights.get(key).unwrap().values);
            }
            shape.insert(0, experts);
        }
        add(&mut writer, &name, &shape, &values);
        done.push(name);
    }
    writer
}

fn add(writer: &mut GgufWriter, name: &str, shape: &[usize], values: &[f32]) {
    let shape: Vec<u64> = shape.iter().rev().map(|&d| d as u64).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    writer.add(TensorSpec::new(name, shape, TensorType::F32), Arc::new(bytes)).unwrap();
}

/// Rows of each head from halves to pairs.
fn interleave(values: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks(head_dim * width) {
        for pair in 0..head_dim / 2 {
            for half in 0..2 {
                let row = half * head_dim / 2 + pair;
                out.extend_from_slice(&head[row * width..(row + 1) * width]);
            }
        }
    }
    out
}

fn metadata(config: &ModelConfig) -> Metadata {
    let architecture = match config.family {
        Family::Llama | Family::Mistral | Family::Mixtral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
        Family::Qwen3Moe => "qwen3moe",
        Family::Olmoe => "olmoe",
        Family::Gemma2 => "gemma2",
        Family::Gemma3 => "gemma3",
        other => panic!("no architecture for {other}"),
    };
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", architecture).unwrap();
    // llama.cpp loads no model without a tokenizer.
    let tokens = (0..config.vocabulary).map(|i| format!("t{i}").into()).collect();
    for (key, value) in [
        ("model", "gpt2".into()),
        ("pre", "gpt-2".into()),
        ("tokens", Array::String(tokens).into()),
        ("token_type", Array::I32(vec![1; config.vocabulary]).into()),
        ("merges", Array::String(vec!["t 1".into()]).into()),
        ("bos_token_id", 0_u32.into()),
        ("eos_token_id", 1_u32.into()),
    ] {
        let value: Meta = value;
        metadata.set(&format!("tokenizer.ggml.{key}"), value).unwrap();
    }
    let mut set = |key: &str, value: Meta| {
        metadata.set(&format!("{architecture}.{key}"), value).unwrap();
    };
    set("block_count", (config.blocks.len() as u32).into());
    set("context_length", 64_u32.into());
    set("embedding_length", (config.hidden as u32).into());
    set("attention.head_count", (config.heads as u32).into());
    set("attention.head_count_kv", (config.kv_heads as u32).into());
    set("attention.key_length", (config.head_dim as u32).into());
    set("attention.value_length", (config.head_dim as u32).into());
    set("attention.layer_norm_rms_epsilon", (config.norm_eps as f32).into());
    set("rope.dimension_count", (config.head_dim as u32).into());
    match config.blocks[0].mlp {
        MlpConfig::Dense { width } => set("feed_forward_length", (width as u32).into()),
        MlpConfig::Experts { experts, per_token, width, .. } => {
            set("feed_forward_length", (width as u32).into());
            set("expert_feed_forward_length", (width as u32).into());
            set("expert_count", (experts as u32).into());
            set("expert_used_count", (per_token as u32).into());
        }
    }
    // The last block of every fixture has full attention.
    let full = &config.blocks.last().unwrap().rope;
    set("rope.freq_base", (full.base as f32).into());
    match full.scaling {
        RopeScaling::Linear { factor } => {
            set("rope.scaling.type", "linear".into());
            set("rope.scaling.factor", (factor as f32).into());
        }
        RopeScaling::Yarn { factor, original_context, .. } => {
            set("rope.scaling.type", "yarn".into());
            set("rope.scaling.factor", (factor as f32).into());
            set("rope.scaling.original_context_length", (original_context as u32).into());
        }
        _ => {}
    }
    if let Some(window) = config.blocks[0].window {
        set("attention.sliding_window", (window as u32).into());
        set("attention.sliding_window_pattern", (config.blocks.len() as u32).into());
        set("rope.freq_base_swa", (config.blocks[0].rope.base as f32).into());
    }
    for (key, cap) in [
        ("attn_logit_softcapping", config.attention_cap),
        ("final_logit_softcapping", config.final_cap),
    ] {
        if let Some(cap) = cap {
            set(key, (cap as f32).into());
        }
    }
    metadata
}
