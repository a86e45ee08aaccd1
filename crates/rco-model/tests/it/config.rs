//! `config.json`: what is read, and what is refused by name.

use std::sync::Arc;

use crate::common::{FAMILIES, expected, fixture, in_memory, open};
use rco_formats::safetensors::HfFolder;
use rco_model::config::{Family, MlpConfig, RopeScaling};
use rco_model::head::Target;
use rco_model::weights::{HfWeights, HostWeight, MemoryWeights};
use rco_model::{
    Batch, DroppedExperts, Model, ModelConfig, ModelError, Settings, WeightKey, WeightKind,
};
use serde_json::{Value, json};

fn config(name: &str) -> Value {
    HfFolder::open(fixture(name)).unwrap().config().clone()
}

fn changed(name: &str, field: &str, value: Value) -> Result<ModelConfig, ModelError> {
    let mut config = config(name);
    config[field] = value;
    ModelConfig::from_hf(&config)
}

#[test]
fn every_family_is_covered_by_a_fixture() {
    for family in Family::ALL {
        assert!(
            FAMILIES.iter().any(|name| config(name)["model_type"] == family.name()),
            "{family}"
        );
    }
}

#[test]
fn each_missing_field_is_named() {
    for name in FAMILIES {
        for field in
            ["vocab_size", "hidden_size", "num_hidden_layers", "rms_norm_eps", "rope_parameters"]
        {
            let mut config = config(name);
            config.as_object_mut().unwrap().remove(field);
            let error = ModelConfig::from_hf(&config).unwrap_err();
            // Without the fields of transformers 5 those of 4 are asked for.
            let asked = if field == "rope_parameters" { "rope_theta" } else { field };
            assert!(matches!(error, ModelError::MissingField { .. }), "{name}: {error}");
            assert!(error.to_string().contains(asked), "{name}: {error}");
        }
    }
}

#[test]
fn the_rotary_fields_of_transformers_4_are_read() {
    let mut config = config("llama");
    config.as_object_mut().unwrap().remove("rope_parameters");
    config["rope_theta"] = json!(5000.0);
    config["rope_scaling"] = json!({"type": "linear", "factor": 2.0});
    let rope = &ModelConfig::from_hf(&config).unwrap().blocks[0].rope;
    assert_eq!((rope.base, rope.scaling.clone()), (5000.0, RopeScaling::Linear { factor: 2.0 }));
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    for (name, field, value) in [
        ("llama", "hidden_act", json!("relu")),
        ("llama", "mlp_bias", json!(true)),
        ("llama", "quantization_config", json!({"quant_method": "gptq"})),
        ("llama", "rope_parameters", json!({"rope_type": "longrope", "rope_theta": 1e4})),
        ("llama", "partial_rotary_factor", json!(0.5)),
        ("llama", "sliding_window", json!(16)),
        ("olmoe", "clip_qkv", json!(8.0)),
        ("qwen2", "layer_types", json!(["full_attention", "linear_attention"])),
        ("gemma3", "attn_logit_softcapping", json!(50.0)),
    ] {
        let error = changed(name, field, value).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
        let part = if field == "rope_parameters" { "rope_type" } else { field };
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    for (name, field, value) in [
        ("llama", "hidden_size", json!(0)),
        ("llama", "hidden_size", json!("32")),
        ("llama", "vocab_size", json!(u64::MAX)),
        ("llama", "num_hidden_layers", json!(1_000_000_000)),
        ("llama", "num_key_value_heads", json!(3)),
        ("llama", "head_dim", json!(7)),
        ("llama", "rms_norm_eps", json!(-1.0)),
        ("llama", "tie_word_embeddings", json!(1)),
        ("qwen3_moe", "num_experts_per_tok", json!(100)),
        ("qwen3_moe", "mlp_only_layers", json!([-1])),
        ("gemma3", "layer_types", json!(["full_attention"])),
    ] {
        let error = changed(name, field, value).unwrap_err();
        assert!(matches!(error, ModelError::BadField { .. }), "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn an_unknown_architecture_is_told_the_known_ones() {
    for json in [json!({"model_type": "mamba"}), json!({}), json!(3)] {
        let error = ModelConfig::from_hf(&json).unwrap_err().to_string();
        assert!(error.contains("llama, mistral"), "{error}");
    }
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_refused() {
    let (config, source) = open(&fixture("qwen2"));
    let build = |weights: MemoryWeights| {
        Model::new(config.clone(), Arc::new(weights), Settings::default()).err().unwrap()
    };
    let error = build(MemoryWeights::default());
    assert!(matches!(error, ModelError::MissingWeight { .. }), "{error}");

    let mut weights = in_memory(&config, &*source);
    let weight = HostWeight { shape: vec![2, 3], values: vec![0.0; 6] };
    weights.insert(WeightKey::block(1, WeightKind::KeyBias), weight).unwrap();
    let error = build(weights).to_string();
    assert!(error.contains("layer.1.key_bias") && error.contains("[2, 3]"), "{error}");
    let weight = HostWeight { shape: vec![2, 3], values: vec![0.0; 5] };
    let key = WeightKey::block(1, WeightKind::KeyBias);
    let error = MemoryWeights::default().insert(key, weight).unwrap_err();
    assert!(matches!(error, ModelError::WrongLength { found: 5, .. }), "{error}");
}

#[test]
fn a_tensor_without_a_place_is_refused() {
    // The biases of qwen2 have no place in a llama without biases.
    let folder = HfFolder::open(fixture("qwen2")).unwrap();
    let mut json = folder.config().clone();
    json["model_type"] = json!("llama");
    let config = ModelConfig::from_hf(&json).unwrap();
    let error = HfWeights::new(folder, &config).err().unwrap();
    assert!(error.to_string().contains("_proj.bias"), "{error}");
}

#[test]
fn impossible_requests_are_refused() {
    let model = crate::common::model(&fixture("qwen3_moe"), Settings::default());
    let config = model.config();
    assert!(matches!(config.blocks[1].mlp, MlpConfig::Dense { .. }));
    for (experts, wrong) in [
        (vec![(0, 6)], "no expert 6"),
        (vec![(1, 0)], "layer 1 has no expert"),
        (vec![(9, 0)], "layer 9"),
        ((0..5).map(|e| (0, e)).collect(), "keeps 1 experts"),
    ] {
        let error = DroppedExperts::new(config, experts).unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }

    let outside = Batch::new(&[[0, 96]]).unwrap();
    let error = model.loss(&outside, Target::NextToken).unwrap_err();
    assert!(matches!(error, ModelError::TokenOutOfRange { token: 96, .. }), "{error}");
    let single = Batch::new(&[[1]]).unwrap();
    let error = model.loss(&single, Target::NextToken).unwrap_err();
    assert!(matches!(error, ModelError::BadTarget { .. }), "{error}");

    let (batch, _) = expected("qwen3_moe");
    let (head, hidden) = (model.head().unwrap(), model.hidden(&batch).unwrap());
    let target = Target::Teacher { head: &head, hidden: &hidden };
    assert_eq!(model.loss(&batch, target).unwrap().mean, 0.0);
    let error = model.loss(&single, target).unwrap_err().to_string();
    assert!(error.contains("48 rows of the teacher, expected 1"), "{error}");
}
