//! Rotary embedding from the metadata of a GGUF file.

use rco_formats::gguf::{GgufModel, TensorType};

use super::Family;
use super::gguf_keys::Keys;
use super::rope::{Rope, RopeOrder, RopeScaling};
use crate::error::ModelError;

/// The tensor of divisors, one for each pair of a head.
pub(crate) const DIVISORS: &str = "rope_freqs.weight";

/// Rotary embeddings of blocks with full and with sliding attention.
pub(super) struct Ropes {
    pub(super) full: Rope,
    pub(super) sliding: Rope,
}

pub(super) fn parse(k: &Keys<'_>, model: &GgufModel, head_dim: usize) -> Result<Ropes, ModelError> {
    let llama = matches!(k.family, Family::Llama | Family::Mixtral);
    let order = if llama { RopeOrder::Interleaved } else { RopeOrder::Halves };
    // The bases that llama.cpp takes where a file has none.
    let base = k.positive_opt("rope.freq_base")?.unwrap_or(10_000.0);
    let mut scaling = scaling(k)?;
    if llama && model.tensor(DIVISORS).is_some() {
        scaling = with_divisors(k, &scaling, &divisors(model, head_dim / 2)?)?;
    }
    let full = Rope { base, scaling, order };
    let local = k.positive_opt("rope.freq_base_swa")?;
    let sliding = match k.family {
        // Gemma 3 does not scale where the attention slides.
        Family::Gemma3 => {
            Rope { base: local.unwrap_or(10_000.0), scaling: RopeScaling::None, order }
        }
        _ => Rope { base: local.unwrap_or(base), ..full.clone() },
    };
    Ok(Ropes { full, sliding })
}

fn scaling(k: &Keys<'_>) -> Result<RopeScaling, ModelError> {
    const TYPE: &str = "rope.scaling.type";
    const CONTEXT: &str = "rope.scaling.original_context_length";
    // Factor of cosine and sine beside that of YaRN.
    const ATTENTION: &str = "rope.scaling.attn_factor";
    let factor = match k.get("rope.scaling.factor") {
        Some(v) if v.as_f64() == Some(0.0) => None,
        Some(_) => k.positive_opt("rope.scaling.factor")?,
        None => k.positive_opt("rope.scale_linear")?,
    };
    let attention = k.positive_opt(ATTENTION)?.unwrap_or(1.0);
    let kind = k.text_opt(TYPE)?.unwrap_or("linear");
    if kind != "yarn" && attention != 1.0 {
        return Err(k.unsupported(ATTENTION, &attention, "only yarn has it"));
    }
    match (kind, factor) {
        ("none", _) | ("linear", None | Some(1.0)) => Ok(RopeScaling::None),
        ("linear", Some(factor)) => Ok(RopeScaling::Linear { factor }),
        ("yarn", factor) => {
            let original = match k.count_opt(CONTEXT)? {
                Some(n) => n,
                None => k.count("context_length", "context length of the first training")?,
            };
            let factor = factor.unwrap_or(1.0);
            let growth = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
            Ok(RopeScaling::Yarn {
                factor,
                beta_fast: 32.0,
                beta_slow: 1.0,
                original_context: original as f64,
                attention_factor: growth * attention,
                truncate: true,
            })
        }
        (other, _) => Err(k.unsupported(TYPE, &other, "none, linear and yarn are")),
    }
}

fn with_divisors(
    k: &Keys<'_>,
    scaling: &RopeScaling,
    divisors: &[f64],
) -> Result<RopeScaling, ModelError> {
    let factor = match scaling {
        RopeScaling::None => 1.0,
        RopeScaling::Linear { factor } => *factor,
        _ => {
            let supported = format!("not together with {DIVISORS}");
            return Err(k.unsupported("rope.scaling.type", &"yarn", &supported));
        }
    };
    Ok(RopeScaling::Divisors { divisors: divisors.iter().map(|d| d * factor).collect() })
}

fn divisors(model: &GgufModel, pairs: usize) -> Result<Vec<f64>, ModelError> {
    let name = || DIVISORS.to_owned();
    let Some((file, tensor)) = model.tensor(DIVISORS) else { return Ok(Vec::new()) };
    if tensor.spec.ty != TensorType::F32 {
        return Err(ModelError::UnsupportedType {
            name: name(),
            found: tensor.spec.ty.to_string(),
        });
    }
    if tensor.spec.shape != [pairs as u64] {
        let found = tensor.spec.shape.iter().map(|&d| d as usize).collect();
        return Err(ModelError::WrongShape { name: name(), expected: vec![pairs], found });
    }
    let bytes = file.read(DIVISORS)?;
    let values: Vec<f64> =
        bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect();
    match values.iter().find(|d| !(d.is_finite() && **d > 0.0)) {
        Some(wrong) => Err(ModelError::BadField {
            field: name(),
            found: wrong.to_string(),
            expected: "divisors above 0".to_owned(),
        }),
        None => Ok(values),
    }
}
