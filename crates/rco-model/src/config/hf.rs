//! A model's configuration from `config.json` of a Hugging Face folder.

use serde_json::Value;

use super::fields::Fields;
use super::hf_rope::{self, Ropes};
use super::{Activation, BlockConfig, Family, MlpConfig, ModelConfig, QkNorm};
use crate::error::ModelError;

/// Most blocks of a model, and experts of a block: lists of them are made on the word of
/// the configuration alone.
const MAX_COUNT: usize = 4096;

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// A few fields may be absent, since files leave them out where they equal the default
    /// of the family's configuration class: `tie_word_embeddings`, `attention_bias`,
    /// `head_dim` and the like. The shapes of the weights are checked against the result.
    ///
    /// # Errors
    /// An unknown family, a field that is missing or out of range, or one that asks for
    /// what is not implemented; each error names the field.
    pub fn from_hf(json: &Value) -> Result<Self, ModelError> {
        let name = json.get("model_type").and_then(Value::as_str).unwrap_or("(no model_type)");
        let (Some(family), Some(object)) = (Family::from_name(name), json.as_object()) else {
            let supported: Vec<_> = Family::ALL.iter().map(|f| f.name()).collect();
            return Err(ModelError::UnknownArchitecture {
                found: name.to_owned(),
                supported: supported.join(", "),
            });
        };
        parse(&Fields { family, object, prefix: "" })
    }
}

fn parse(f: &Fields<'_>) -> Result<ModelConfig, ModelError> {
    let family = f.family;
    let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    refuse_unsupported(f)?;

    let hidden = f.count("hidden_size", "width of the residual stream")?;
    let heads = f.count("num_attention_heads", "number of query heads")?;
    let kv_heads = f.count("num_key_value_heads", "number of key and value heads")?;
    if !heads.is_multiple_of(kv_heads) {
        let found = Value::from(kv_heads);
        return Err(f.bad("num_key_value_heads", &found, &format!("a divisor of {heads}")));
    }
    let head_dim = head_dim(f, hidden, heads)?;
    let norm_eps = f.positive("rms_norm_eps", "added to the mean square in norms")?;
    let attention_scale = if gemma {
        f.positive("query_pre_attn_scalar", "attention scores are divided by its root")?
    } else {
        head_dim as f64
    }
    .powf(-0.5);
    let bias = f.flag_or("attention_bias", false)?;
    let cap = |field| if gemma { f.positive_opt(field) } else { Ok(None) };

    Ok(ModelConfig {
        family,
        vocabulary: f.count("vocab_size", "number of tokens")?,
        hidden,
        heads,
        kv_heads,
        head_dim,
        norm_eps,
        norm_offset: if gemma { 1.0 } else { 0.0 },
        embedding_scale: if gemma { (hidden as f64).sqrt() } else { 1.0 },
        attention_scale,
        attention_cap: cap("attn_logit_softcapping")?,
        final_cap: cap("final_logit_softcapping")?,
        qkv_bias: family == Family::Qwen2 || bias,
        output_bias: family != Family::Qwen2 && bias,
        qk_norm: match family {
            Family::Qwen3 | Family::Qwen3Moe | Family::Gemma3 => QkNorm::PerHead,
            Family::Olmoe => QkNorm::AllHeads,
            _ => QkNorm::None,
        },
        post_norms: gemma,
        activation: activation(f)?,
        tied: f.flag_or("tie_word_embeddings", gemma)?,
        blocks: blocks(f)?,
    })
}

fn refuse_unsupported(f: &Fields<'_>) -> Result<(), ModelError> {
    if let Some(v) = f.get("quantization_config") {
        let why = "weights must be F32, BF16 or F16; convert the model first";
        return Err(f.unsupported("quantization_config", v, why));
    }
    f.only("mlp_bias", &Value::Bool(false), "MLPs without biases")?;
    f.only("use_bidirectional_attention", &Value::Bool(false), "causal attention")?;
    if let Some(v) = f.get("clip_qkv") {
        return Err(f.unsupported("clip_qkv", v, "queries, keys and values are not clipped"));
    }
    match f.get("attn_logit_softcapping") {
        Some(v) if f.family != Family::Gemma2 => {
            Err(f.unsupported("attn_logit_softcapping", v, "only gemma2 caps its scores"))
        }
        _ => Ok(()),
    }
}

/// Width of a head: given, or the default of the family's configuration class.
fn head_dim(f: &Fields<'_>, hidden: usize, heads: usize) -> Result<usize, ModelError> {
    let dim = match f.count_opt("head_dim")? {
        Some(dim) => dim,
        None => match f.family {
            Family::Gemma2 | Family::Gemma3 => 256,
            Family::Qwen3 | Family::Qwen3Moe => 128,
            _ if hidden.is_multiple_of(heads) => hidden / heads,
            _ => return Err(f.missing("head_dim", "hidden_size is no multiple of the heads")),
        },
    };
    if dim.is_multiple_of(2) {
        Ok(dim)
    } else {
        Err(f.bad("head_dim", &Value::from(dim), "an even number"))
    }
}

fn activation(f: &Fields<'_>) -> Result<Activation, ModelError> {
    let gemma = matches!(f.family, Family::Gemma2 | Family::Gemma3);
    let field = if gemma { "hidden_activation" } else { "hidden_act" };
    match f.text(field, "activation of the gate")? {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => Err(f.unsupported(field, &other.into(), "silu and gelu_pytorch_tanh are")),
    }
}

fn blocks(f: &Fields<'_>) -> Result<Vec<BlockConfig>, ModelError> {
    let layers = f.count("num_hidden_layers", "number of blocks")?;
    if layers > MAX_COUNT {
        let found = Value::from(layers);
        return Err(f.bad("num_hidden_layers", &found, &format!("at most {MAX_COUNT}")));
    }
    let Ropes { full, sliding } = hf_rope::parse(f)?;
    let slides = slides(f, layers)?;
    let window = if slides.contains(&true) {
        Some(f.count("sliding_window", "tokens that sliding attention sees")?)
    } else {
        None
    };
    let mlps = mlps(f, layers)?;
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
fn slides(f: &Fields<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    let has_window = match f.family {
        Family::Llama | Family::Olmoe => {
            if let Some(v) = f.get("sliding_window") {
                return Err(f.unsupported("sliding_window", v, "this family has full attention"));
            }
            false
        }
        Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe => {
            f.flag_or("use_sliding_window", false)? && f.get("sliding_window").is_some()
        }
        _ => f.get("sliding_window").is_some(),
    };
    if let Some(types) = f.get("layer_types") {
        let list = types.as_array().filter(|list| list.len() == layers).ok_or_else(|| {
            f.bad("layer_types", types, &format!("a list of {layers} kinds of attention"))
        })?;
        return list
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(false),
                Some("sliding_attention") => Ok(true),
                _ => {
                    let supported = "full_attention and sliding_attention are";
                    Err(f.unsupported("layer_types", kind, supported))
                }
            })
            .collect();
    }
    if !has_window {
        if matches!(f.family, Family::Gemma2 | Family::Gemma3) {
            return Err(f.missing("sliding_window", "tokens that sliding attention sees"));
        }
        return Ok(vec![false; layers]);
    }
    match f.family {
        Family::Qwen2 | Family::Qwen3 => {
            let meaning = "blocks before this one have full attention";
            let value = f.get("max_window_layers");
            let first = value.ok_or_else(|| f.missing("max_window_layers", meaning))?;
            let first = first
                .as_u64()
                .ok_or_else(|| f.bad("max_window_layers", first, "a whole number, 0 or more"))?;
            Ok((0..layers).map(|i| i as u64 >= first).collect())
        }
        Family::Gemma2 => Ok((0..layers).map(|i| i.is_multiple_of(2)).collect()),
        Family::Gemma3 => {
            let meaning = "one of how many blocks has full attention (or layer_types)";
            let period = f.count("sliding_window_pattern", meaning)?;
            Ok((0..layers).map(|i| !(i + 1).is_multiple_of(period)).collect())
        }
        _ => Ok(vec![true; layers]),
    }
}

/// MLP or experts of each block.
fn mlps(f: &Fields<'_>, layers: usize) -> Result<Vec<MlpConfig>, ModelError> {
    const WIDTH: &str = "inner width of the MLP";
    if !matches!(f.family, Family::Qwen3Moe | Family::Olmoe | Family::Mixtral) {
        let width = f.count("intermediate_size", WIDTH)?;
        return Ok(vec![MlpConfig::Dense { width }; layers]);
    }
    let experts = match f.count_opt("num_experts")? {
        Some(experts) => experts,
        None => f.count("num_local_experts", "number of experts (or num_experts)")?,
    };
    if experts > MAX_COUNT {
        let found = Value::from(experts);
        return Err(f.bad("num_experts", &found, &format!("at most {MAX_COUNT}")));
    }
    let per_token = f.count("num_experts_per_tok", "experts of each token")?;
    if per_token > experts {
        let found = Value::from(per_token);
        return Err(f.bad("num_experts_per_tok", &found, &format!("at most {experts}")));
    }
    let (width, renormalise) = match f.family {
        Family::Qwen3Moe => (f.count("moe_intermediate_size", "inner width of an expert")?, None),
        Family::Mixtral => (f.count("intermediate_size", WIDTH)?, Some(true)),
        _ => (f.count("intermediate_size", WIDTH)?, None),
    };
    let renormalise = match renormalise {
        Some(fixed) => fixed,
        None => f.flag("norm_topk_prob", "whether chosen probabilities are renormalised")?,
    };
    let counts = per_layer_experts(f, layers, experts, per_token)?;
    let sparse = |i: usize| {
        let experts = counts.as_ref().map_or(experts, |counts| counts[i]);
        MlpConfig::Experts { experts, per_token, width, renormalise }
    };
    if f.family != Family::Qwen3Moe {
        return Ok((0..layers).map(sparse).collect());
    }

    let step = f.count_opt("decoder_sparse_step")?.unwrap_or(1);
    let dense = match f.get("mlp_only_layers") {
        None => Vec::new(),
        Some(v) => v
            .as_array()
            .and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>())
            .ok_or_else(|| f.bad("mlp_only_layers", v, "a list of block numbers"))?,
    };
    (0..layers)
        .map(|i| {
            if dense.contains(&(i as u64)) || !(i + 1).is_multiple_of(step) {
                Ok(MlpConfig::Dense { width: f.count("intermediate_size", WIDTH)? })
            } else {
                Ok(sparse(i))
            }
        })
        .collect()
}

/// Experts of each block, where they differ (0 for a dense block): `rco prune` writes that.
fn per_layer_experts(
    f: &Fields<'_>,
    layers: usize,
    most: usize,
    least: usize,
) -> Result<Option<Vec<usize>>, ModelError> {
    const FIELD: &str = "per_layer_num_experts";
    let Some(value) = f.get(FIELD) else { return Ok(None) };
    let fits = |n: &usize| *n == 0 || (least..=most).contains(n);
    let counts: Option<Vec<usize>> = value
        .as_array()
        .filter(|list| list.len() == layers)
        .and_then(|list| list.iter().map(|n| Some(n.as_u64()? as usize)).collect())
        .filter(|list: &Vec<usize>| list.iter().all(fits));
    let expected = format!("a list of {layers} numbers from {least} to {most}, or 0");
    counts.map(Some).ok_or_else(|| f.bad(FIELD, value, &expected))
}
