//! A model's configuration from the metadata of a GGUF file.
//!
//! What the file leaves open is as llama.cpp has it (MIT, release packed in the crate
//! `llama-cpp-sys-2` 0.1.160, `src/llama-model.cpp` and `src/models/`): the search must
//! see the model that will run. In particular the architectures `llama` and `qwen*` have
//! full attention there, whatever window the file names.

use rco_formats::gguf::{Array, GgufModel, TensorInfo, Value};

use super::gguf_keys::{Keys, show};
use super::gguf_rope::{self, Ropes};
use super::{Activation, BlockConfig, Family, MlpConfig, ModelConfig, QkNorm};
use crate::error::ModelError;

/// Most blocks of a model, and experts of a block: lists of them are made on the word of
/// the metadata alone.
const MAX_COUNT: usize = 4096;

/// The architectures and their families; `llama` with experts is Mixtral.
const ARCHITECTURES: &[(&str, Family)] = &[
    ("llama", Family::Llama),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("qwen3moe", Family::Qwen3Moe),
    ("olmoe", Family::Olmoe),
    ("gemma2", Family::Gemma2),
    ("gemma3", Family::Gemma3),
];

impl ModelConfig {
    /// Reads the metadata of a GGUF file, and from its tensors the vocabulary, the kind of
    /// head, the biases and the divisors of the rotary embedding.
    ///
    /// # Errors
    /// An unknown architecture, a key that is missing or out of range, or one that asks
    /// for what is not implemented; each error names the key. A failed read.
    pub fn from_gguf(model: &GgufModel) -> Result<Self, ModelError> {
        let metadata = model.metadata();
        let found = metadata.architecture().unwrap_or("(no general.architecture)");
        let Some(&(architecture, family)) = ARCHITECTURES.iter().find(|(name, _)| *name == found)
        else {
            let supported: Vec<_> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
            return Err(ModelError::UnknownArchitecture {
                found: found.to_owned(),
                supported: supported.join(", "),
            });
        };
        let keys = Keys { family, architecture, metadata };
        let family = match family {
            Family::Llama if keys.count_or_zero("expert_count")? > 0 => Family::Mixtral,
            other => other,
        };
        parse(&Keys { family, ..keys }, model)
    }
}

fn parse(k: &Keys<'_>, model: &GgufModel) -> Result<ModelConfig, ModelError> {
    let gemma = matches!(k.family, Family::Gemma2 | Family::Gemma3);
    refuse_unsupported(k)?;
    let layers = k.count("block_count", "number of blocks")?;
    if layers > MAX_COUNT {
        return Err(k.bad("block_count", &layers, &format!("at most {MAX_COUNT}")));
    }
    let hidden = k.count("embedding_length", "width of the residual stream")?;
    let heads = k.same_count("attention.head_count", layers, "number of query heads")?;
    let kv_heads = match k.get("attention.head_count_kv") {
        Some(_) => k.same_count("attention.head_count_kv", layers, "key and value heads")?,
        None => heads,
    };
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of {heads}");
        return Err(k.bad("attention.head_count_kv", &kv_heads, &expected));
    }
    let head_dim = head_dim(k, hidden, heads)?;
    let rows = |t: &TensorInfo| t.spec.shape.get(1).map(|&n| n as usize);
    let embedding = model.tensor("token_embd.weight");
    let vocabulary = embedding
        .and_then(|(_, t)| rows(t))
        .ok_or_else(|| ModelError::MissingWeight { name: "token_embd.weight".to_owned() })?;
    let has = |name: &str| model.tensor(name).is_some();
    let cap = |key, default| match k.family {
        Family::Gemma2 => Ok(Some(k.positive_opt(key)?.unwrap_or(default))),
        _ => Ok::<_, ModelError>(None),
    };
    let final_cap = match k.family {
        // Some files say "none" by 0.
        Family::Gemma3 => k.get("final_logit_softcapping").and_then(Value::as_f64),
        _ => cap("final_logit_softcapping", 30.0)?,
    };

    Ok(ModelConfig {
        family: k.family,
        vocabulary,
        hidden,
        heads,
        kv_heads,
        head_dim,
        norm_eps: k
            .positive("attention.layer_norm_rms_epsilon", "added to the mean square in norms")?,
        // GGUF files hold the sum.
        norm_offset: 0.0,
        embedding_scale: if gemma { (hidden as f64).sqrt() } else { 1.0 },
        attention_scale: attention_divisor(k.family, layers, hidden, heads, head_dim).powf(-0.5),
        attention_cap: cap("attn_logit_softcapping", 50.0)?,
        final_cap: final_cap.filter(|&cap| cap > 0.0),
        qkv_bias: has("blk.0.attn_q.bias"),
        // llama.cpp reads this bias for `llama` only.
        output_bias: matches!(k.family, Family::Llama | Family::Mixtral)
            && has("blk.0.attn_output.bias"),
        qk_norm: match k.family {
            Family::Qwen3 | Family::Qwen3Moe | Family::Gemma3 => QkNorm::PerHead,
            Family::Olmoe => QkNorm::AllHeads,
            _ => QkNorm::None,
        },
        post_norms: gemma,
        activation: if gemma { Activation::GeluTanh } else { Activation::Silu },
        tied: k.family == Family::Gemma2 || !has("output.weight"),
        blocks: blocks(k, layers, gguf_rope::parse(k, model, head_dim)?)?,
    })
}

fn refuse_unsupported(k: &Keys<'_>) -> Result<(), ModelError> {
    for (key, supported) in [
        ("attention.clamp_kqv", "queries, keys and values are not clamped"),
        ("expert_shared_count", "there are no shared experts"),
        ("expert_shared_feed_forward_length", "there are no shared experts"),
        ("expert_group_count", "experts have no groups"),
    ] {
        match k.get(key) {
            Some(v) if v.as_u64() != Some(0) && v.as_f64() != Some(0.0) => {
                return Err(k.unsupported(key, &show(v), supported));
            }
            _ => {}
        }
    }
    match k.get("attention.causal") {
        Some(v) if v.as_bool() != Some(true) => {
            Err(k.unsupported("attention.causal", &show(v), "attention is causal"))
        }
        _ => Ok(()),
    }
}

fn head_dim(k: &Keys<'_>, hidden: usize, heads: usize) -> Result<usize, ModelError> {
    let dim = match k.count_opt("attention.key_length")? {
        Some(dim) => dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let meaning = "embedding_length is no multiple of the heads";
            return Err(k.missing("attention.key_length", meaning));
        }
    };
    if !dim.is_multiple_of(2) {
        return Err(k.bad("attention.key_length", &dim, "an even number"));
    }
    for (key, default) in [
        ("attention.value_length", hidden / heads),
        ("attention.key_length_swa", dim),
        ("attention.value_length_swa", dim),
        ("rope.dimension_count", dim),
        ("rope.dimension_count_swa", dim),
    ] {
        let found = k.count_opt(key)?.unwrap_or(default);
        if found != dim {
            let supported = format!("it is the width of a head, {dim}");
            return Err(k.unsupported(key, &found, &supported));
        }
    }
    Ok(dim)
}

/// Attention scores are divided by the root of this.
fn attention_divisor(
    family: Family,
    layers: usize,
    hidden: usize,
    heads: usize,
    head_dim: usize,
) -> f64 {
    // The 27B models of both Gemmas, which llama.cpp knows by their number of blocks.
    match (family, layers) {
        (Family::Gemma2, 46) | (Family::Gemma3, 62) => (hidden / heads) as f64,
        _ => head_dim as f64,
    }
}

fn blocks(k: &Keys<'_>, layers: usize, ropes: Ropes) -> Result<Vec<BlockConfig>, ModelError> {
    let window = match k.family {
        Family::Gemma2 => Some(k.count_opt("attention.sliding_window")?.unwrap_or(4096)),
        Family::Gemma3 => Some(k.count_or_zero("attention.sliding_window")?).filter(|&w| w > 0),
        _ => None,
    };
    let slides = match window {
        Some(_) => slides(k, layers)?,
        None => vec![false; layers],
    };
    let mlps = mlps(k, layers)?;
    let Ropes { full, sliding } = ropes;
    Ok(slides
        .into_iter()
        .zip(mlps)
        .map(|(slides, mlp)| BlockConfig {
            window: window.filter(|_| slides),
            rope: if slides { sliding.clone() } else { full.clone() },
            mlp,
        })
        .collect())
}

/// Whether the attention of each block slides.
fn slides(k: &Keys<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    const KEY: &str = "attention.sliding_window_pattern";
    let default = if k.family == Family::Gemma2 { 2 } else { 6 };
    let period = match k.get(KEY) {
        None => default,
        Some(Value::Array(Array::Bool(slides))) if slides.len() >= layers => {
            return Ok(slides[..layers].to_vec());
        }
        Some(v) => v.as_u64().ok_or_else(|| {
            let expected = format!("a whole number or a list of {layers} truth values");
            k.bad(KEY, &show(v), &expected)
        })?,
    };
    // The last block of each period has full attention; without a period none has.
    let full = |i: usize| period > 0 && (i as u64 + 1).is_multiple_of(period);
    Ok((0..layers).map(|i| !full(i)).collect())
}

/// MLP or experts of each block.
fn mlps(k: &Keys<'_>, layers: usize) -> Result<Vec<MlpConfig>, ModelError> {
    const WIDTH: &str = "feed_forward_length";
    const MEANING: &str = "inner width of the MLP";
    if !matches!(k.family, Family::Qwen3Moe | Family::Olmoe | Family::Mixtral) {
        let widths = k.counts(WIDTH, layers, MEANING)?;
        return Ok(widths.into_iter().map(|width| MlpConfig::Dense { width }).collect());
    }
    let experts = k.count("expert_count", "number of experts")?;
    if experts > MAX_COUNT {
        return Err(k.bad("expert_count", &experts, &format!("at most {MAX_COUNT}")));
    }
    let per_token = k.count("expert_used_count", "experts of each token")?;
    if per_token > experts {
        return Err(k.bad("expert_used_count", &per_token, &format!("at most {experts}")));
    }
    let widths = match k.get("expert_feed_forward_length") {
        Some(_) if k.family == Family::Qwen3Moe => {
            k.counts("expert_feed_forward_length", layers, MEANING)?
        }
        _ => {
            let share = if k.family == Family::Qwen3Moe { per_token } else { 1 };
            k.counts(WIDTH, layers, MEANING)?.into_iter().map(|width| width / share).collect()
        }
    };
    let renormalise = k.family != Family::Olmoe;
    let sparse = |width| MlpConfig::Experts { experts, per_token, width, renormalise };
    Ok(widths.into_iter().map(sparse).collect())
}
