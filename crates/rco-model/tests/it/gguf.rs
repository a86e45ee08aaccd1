//! GGUF files: the same models as Hugging Face folders, and what is refused by name.

use std::sync::Arc;

use rco_formats::gguf::{Gguf, GgufModel, GgufWriter, TensorSpec, TensorType};
use rco_model::config::Family;
use rco_model::head::Target;
use rco_model::weights::{GgufWeights, WeightSource};
use rco_model::{Batch, Model, ModelConfig, ModelError, Settings, WeightKey, WeightKind};

use crate::common::{FAMILIES, bundled, expected, model, moved};
use crate::convert::{runnable, to_gguf, writer};

fn open(file: &Arc<GgufModel>) -> (Arc<ModelConfig>, Arc<GgufWeights>) {
    let config = ModelConfig::from_gguf(file).unwrap();
    let weights = GgufWeights::new(Arc::clone(file), &config).unwrap();
    (Arc::new(config), Arc::new(weights))
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn bundled_gguf() -> Arc<GgufModel> {
    Arc::new(GgufModel::open(bundled().join("tiny-moe.bf16.gguf")).unwrap())
}

/// A written file, read again.
fn reread(writer: &GgufWriter) -> Arc<GgufModel> {
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).unwrap();
    let file = Gguf::from_source("changed.gguf", Arc::new(bytes)).unwrap();
    Arc::new(GgufModel::from_parts(vec![file]).unwrap())
}

fn changed(name: &str, change: impl FnOnce(&mut GgufWriter)) -> Arc<GgufModel> {
    let (config, weights) = runnable(name);
    let mut writer = writer(&config, &weights);
    change(&mut writer);
    reread(&writer)
}

#[test]
fn every_architecture_gives_the_logits_of_its_hugging_face_form() {
    for name in FAMILIES {
        let (config, weights) = runnable(name);
        let file = to_gguf(&config, &weights);
        let (batch, _) = expected(name);
        let hf = Model::new(Arc::new(config), Arc::new(weights), Settings::default()).unwrap();
        let (config, weights) = open(&file);
        let gguf = Model::new(config, weights, Settings::default()).unwrap();
        let worst = difference(&hf.logits(&batch).unwrap(), &gguf.logits(&batch).unwrap());
        println!("{name}: largest difference of logits {worst:.2e}");
        // Interleaved heads and divisors in single precision change the order of sums.
        let llama = matches!(hf.config().family, Family::Llama | Family::Mistral | Family::Mixtral);
        assert!(worst <= if llama { 2e-5 } else { 0.0 }, "{name}: {worst}");
    }
}

#[test]
fn both_forms_of_the_bundled_model_are_equal_to_the_bit() {
    let hf = model(&bundled(), Settings::default());
    let (config, weights) = open(&bundled_gguf());
    assert_eq!(config, *hf.config());
    let gguf = Model::new(config, weights, Settings::default()).unwrap();
    let (batch, _) = expected("tiny-moe");
    assert_eq!(hf.logits(&batch).unwrap(), gguf.logits(&batch).unwrap());
}

#[test]
fn every_tensor_lists_its_weights_and_every_weight_its_tensor() {
    let (config, weights) = open(&bundled_gguf());
    let mut keys: Vec<WeightKey> = Vec::new();
    for (name, held) in weights.tensors() {
        for (position, &key) in held.iter().enumerate() {
            let stacked = (held.len() > 1).then_some(position);
            assert_eq!(GgufWeights::tensor_name(key), (name.to_owned(), stacked));
        }
        keys.extend(held);
    }
    keys.sort_unstable();
    let mut expected: Vec<WeightKey> = config.weights().into_iter().map(|(key, _)| key).collect();
    expected.sort_unstable();
    assert_eq!(keys, expected);
}

#[test]
fn rows_are_those_of_the_whole_weight() {
    let (_, weights) = open(&bundled_gguf());
    let key = WeightKey::expert(2, 5, WeightKind::Down);
    let whole = weights.load(key).unwrap();
    let width = whole.shape[1];
    let mut rows = vec![0.0; 3 * width];
    weights.read_rows(key, 7, &mut rows).unwrap();
    assert_eq!(rows, whole.values[7 * width..10 * width]);
    let picked = weights.load_rows(key, &[9, 0]).unwrap();
    assert_eq!(picked.values[..width], whole.values[9 * width..10 * width]);
    assert_eq!(picked.values[width..], whole.values[..width]);
    // The last rows of an expert are not the first of the next.
    assert!(weights.read_rows(key, whole.shape[0] - 1, &mut rows).is_err());
}

#[test]
fn a_plan_takes_each_tensor_from_its_own_file() {
    let (config, weights) = runnable("qwen3_moe");
    let (base, base_weights) = open(&to_gguf(&config, &weights));
    let mut other = weights.clone();
    for (key, _) in config.weights() {
        other.insert(key, moved(&weights, key, 0.1)).unwrap();
    }
    let option = to_gguf(&config, &other);
    let stack = GgufWeights::tensor_name(WeightKey::expert(1, 0, WeightKind::Up)).0;
    let chosen = base_weights.with_choices([(stack.as_str(), Arc::clone(&option))]).unwrap();
    for (key, _) in config.weights() {
        let from = if GgufWeights::tensor_name(key).0 == stack { &other } else { &weights };
        assert_eq!(&chosen.load(key).unwrap(), from.get(key).unwrap(), "{key}");
    }
    let model = |weights| Model::new(Arc::clone(&base), weights, Settings::default()).unwrap();
    let (batch, _) = expected("qwen3_moe");
    let loss = |m: &Model| m.loss(&batch, Target::NextToken).unwrap().mean;
    let (plain, planned) = (model(base_weights), model(Arc::new(chosen.clone())));
    assert_ne!(loss(&plain), loss(&planned));

    let error = chosen.with_choices([("blk.9.ffn_up.weight", option)]).unwrap_err();
    assert!(error.to_string().contains("blk.9.ffn_up.weight"), "{error}");
    let (config, weights) = runnable("qwen3");
    let error = chosen.with_choices([(stack.as_str(), to_gguf(&config, &weights))]).unwrap_err();
    assert!(matches!(error, ModelError::MissingWeight { .. }), "{error}");
}

#[test]
fn keys_that_are_missing_or_not_supported_are_named() {
    let fails = |name: &str, change: &dyn Fn(&mut GgufWriter)| {
        let file = changed(name, |w| change(w));
        ModelConfig::from_gguf(&file).unwrap_err().to_string()
    };
    for key in ["block_count", "embedding_length", "attention.head_count", "feed_forward_length"] {
        let error = fails("qwen3", &|w| drop(w.metadata_mut().remove(&format!("qwen3.{key}"))));
        assert!(error.contains(key), "{error}");
    }
    for (key, value) in [
        ("general.architecture", "mamba".into()),
        ("llama.block_count", 5000_u32.into()),
        ("llama.attention.head_count_kv", 3_u32.into()),
        ("llama.attention.value_length", 6_u32.into()),
        ("llama.rope.dimension_count", 4_u32.into()),
        ("llama.rope.scaling.type", "longrope".into()),
        ("llama.attention.clamp_kqv", 8.0_f32.into()),
        ("llama.attention.layer_norm_rms_epsilon", 0.0_f32.into()),
    ] {
        let value: rco_formats::gguf::Value = value;
        let error = fails("llama", &|w| drop(w.metadata_mut().set(key, value.clone()).unwrap()));
        let named = if key.starts_with("general") { "mamba" } else { key };
        assert!(error.contains(named), "{key}: {error}");
    }
}

#[test]
fn a_tensor_without_a_place_or_of_another_shape_is_refused() {
    let add = |name: &str, shape: &[u64]| {
        let bytes = vec![0_u8; shape.iter().product::<u64>() as usize * 4];
        let spec = TensorSpec::new(name, shape, TensorType::F32);
        changed("qwen2", |w| w.add(spec, Arc::new(bytes)).unwrap())
    };
    for name in ["blk.0.attn_qkv.weight", "blk.0.attn_output.bias", "rope_freqs.weight"] {
        let file = add(name, &[4]);
        let config = ModelConfig::from_gguf(&file).unwrap();
        let error = GgufWeights::new(file, &config).unwrap_err();
        assert!(matches!(error, ModelError::UnexpectedWeight { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let file = changed("llama", |w| {
        let divisors = TensorSpec::new("rope_freqs.weight", [3], TensorType::F32);
        w.add(divisors, Arc::new(vec![0_u8; 12])).unwrap();
    });
    let error = ModelConfig::from_gguf(&file).unwrap_err();
    assert!(matches!(error, ModelError::WrongShape { .. }), "{error}");

    // A stack of more experts than the metadata say.
    let file = changed("olmoe", |w| {
        w.metadata_mut().set("olmoe.expert_count", 5_u32).unwrap();
    });
    let config = ModelConfig::from_gguf(&file).unwrap();
    let error = GgufWeights::new(file, &config).unwrap_err();
    assert!(error.to_string().contains("_exps.weight"), "{error}");
}

#[test]
fn a_batch_outside_the_vocabulary_is_refused() {
    let (config, weights) = open(&bundled_gguf());
    let model = Model::new(config, weights, Settings::default()).unwrap();
    let error = model.logits(&Batch::new(&[[0, 4096]]).unwrap()).unwrap_err();
    assert!(matches!(error, ModelError::TokenOutOfRange { token: 4096, .. }), "{error}");
}
