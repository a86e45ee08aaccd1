//! What a tensor is for, told by its name: GGUF and Hugging Face names alike.

use serde::Serialize;

/// Part of the model that a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the labels say it")]
#[non_exhaustive]
pub enum Kind {
    Embedding,
    AttentionQuery,
    AttentionKey,
    AttentionValue,
    AttentionFused,
    AttentionOutput,
    AttentionOther,
    FfnGate,
    FfnUp,
    FfnFused,
    FfnDown,
    ExpertGate,
    ExpertUp,
    ExpertFused,
    ExpertDown,
    SharedExpert,
    Router,
    Output,
    Norm,
    Bias,
    Other,
}

impl Kind {
    /// Name for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::AttentionQuery => "attention q",
            Self::AttentionKey => "attention k",
            Self::AttentionValue => "attention v",
            Self::AttentionFused => "attention q/k/v fused",
            Self::AttentionOutput => "attention o",
            Self::AttentionOther => "attention, other",
            Self::FfnGate => "ffn gate",
            Self::FfnUp => "ffn up",
            Self::FfnFused => "ffn gate/up fused",
            Self::FfnDown => "ffn down",
            Self::ExpertGate => "experts gate",
            Self::ExpertUp => "experts up",
            Self::ExpertFused => "experts gate/up fused",
            Self::ExpertDown => "experts down",
            Self::SharedExpert => "shared expert",
            Self::Router => "router",
            Self::Output => "output",
            Self::Norm => "norms",
            Self::Bias => "biases",
            Self::Other => "other",
        }
    }

    /// Whether runtimes take a quantised type for such a tensor, if it is a matrix.
    /// Norms, biases and routers stay in floating point.
    pub fn is_quantizable(self) -> bool {
        !matches!(self, Self::Norm | Self::Bias | Self::Router | Self::Other)
    }
}

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Part of the model.
    pub kind: Kind,
    /// Layer, from 0.
    pub layer: Option<u32>,
    /// Expert, from 0, if every expert has a tensor of its own.
    pub expert: Option<u32>,
}

/// Reads a tensor name.
pub fn role(name: &str) -> Role {
    let parts: Vec<&str> = name.split('.').collect();
    let after = |words: &[&str]| {
        let at = parts.iter().position(|part| words.contains(part))?;
        parts.get(at + 1)?.parse().ok()
    };
    let layer = after(&["blk", "layers", "h", "blocks"]);
    let (mut words, bias) = match parts.split_last() {
        Some((&"bias", rest)) => (rest, true),
        Some((&("weight" | "weight_packed" | "qweight"), rest)) => (rest, false),
        _ => (&*parts, false),
    };
    let mut expert = after(&["experts"]);
    // Before experts were stacked, GGUF had ffn_gate.3.weight.
    if let [.., stem, number] = words
        && stem.starts_with("ffn_")
        && let Ok(number) = number.parse()
    {
        expert = Some(number);
        words = &words[..words.len() - 1];
    }
    let leaf = words.last().copied().unwrap_or("");
    let in_experts = expert.is_some() || parts.contains(&"experts") || leaf.ends_with("_exps");
    let shared = parts.iter().any(|p| p.contains("shared_expert")) || leaf.ends_with("_shexp");

    let kind = if bias {
        Kind::Bias
    } else if shared && !leaf.contains("gate_inp") && !leaf.ends_with("expert_gate") {
        Kind::SharedExpert
    } else {
        match by_leaf(leaf) {
            Kind::FfnGate if in_experts => Kind::ExpertGate,
            Kind::FfnUp if in_experts => Kind::ExpertUp,
            Kind::FfnFused if in_experts => Kind::ExpertFused,
            Kind::FfnDown if in_experts => Kind::ExpertDown,
            kind => kind,
        }
    };
    Role { kind, layer, expert }
}

fn by_leaf(leaf: &str) -> Kind {
    let plain = leaf.strip_suffix("_exps").unwrap_or(leaf);
    match plain {
        "token_embd" | "embed_tokens" | "per_layer_token_embd" | "wte" => Kind::Embedding,
        "output" | "lm_head" => Kind::Output,
        "attn_q" | "attn_q_a" | "attn_q_b" | "q_proj" | "q_a_proj" | "q_b_proj" => {
            Kind::AttentionQuery
        }
        "attn_k" | "attn_k_b" | "k_proj" => Kind::AttentionKey,
        "attn_v" | "attn_v_b" | "v_proj" => Kind::AttentionValue,
        "attn_qkv" | "qkv_proj" | "query_key_value" | "c_attn" => Kind::AttentionFused,
        "attn_output" | "o_proj" => Kind::AttentionOutput,
        "ffn_gate" | "gate_proj" | "w1" => Kind::FfnGate,
        "ffn_up" | "up_proj" | "w3" => Kind::FfnUp,
        "ffn_gate_up" | "gate_up_proj" => Kind::FfnFused,
        "ffn_down" | "down_proj" | "w2" => Kind::FfnDown,
        "ffn_gate_inp" | "ffn_gate_inp_shexp" | "exp_probs_b" | "gate" | "router"
        | "shared_expert_gate" => Kind::Router,
        _ if plain.contains("norm") || plain.starts_with("ln_") => Kind::Norm,
        _ if plain.starts_with("attn_") || plain.starts_with("kv_") => Kind::AttentionOther,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gguf_and_hugging_face_names_give_the_same_roles() {
        for (gguf, hf, kind, layer) in [
            ("token_embd.weight", "model.embed_tokens.weight", Kind::Embedding, None),
            ("output.weight", "lm_head.weight", Kind::Output, None),
            ("output_norm.weight", "model.norm.weight", Kind::Norm, None),
            (
                "blk.3.attn_q.weight",
                "model.layers.3.self_attn.q_proj.weight",
                Kind::AttentionQuery,
                Some(3),
            ),
            (
                "blk.3.attn_k_norm.weight",
                "model.layers.3.self_attn.k_norm.weight",
                Kind::Norm,
                Some(3),
            ),
            (
                "blk.0.attn_output.weight",
                "model.layers.0.self_attn.o_proj.weight",
                Kind::AttentionOutput,
                Some(0),
            ),
            ("blk.0.attn_v.bias", "model.layers.0.self_attn.v_proj.bias", Kind::Bias, Some(0)),
            (
                "blk.9.ffn_gate.weight",
                "model.layers.9.mlp.gate_proj.weight",
                Kind::FfnGate,
                Some(9),
            ),
            ("blk.9.ffn_gate_inp.weight", "model.layers.9.mlp.gate.weight", Kind::Router, Some(9)),
            (
                "blk.9.ffn_down_exps.weight",
                "model.layers.9.mlp.experts.down_proj",
                Kind::ExpertDown,
                Some(9),
            ),
            (
                "blk.2.ffn_up_shexp.weight",
                "model.layers.2.mlp.shared_expert.up_proj.weight",
                Kind::SharedExpert,
                Some(2),
            ),
            (
                "blk.2.ffn_gate_inp_shexp.weight",
                "model.layers.2.mlp.shared_expert_gate.weight",
                Kind::Router,
                Some(2),
            ),
        ] {
            for name in [gguf, hf] {
                let found = role(name);
                assert_eq!((found.kind, found.layer), (kind, layer), "{name}");
            }
        }
    }

    #[test]
    fn experts_with_tensors_of_their_own_are_numbered() {
        for name in [
            "blk.1.ffn_up.5.weight",
            "model.layers.1.mlp.experts.5.up_proj.weight",
            "model.layers.1.block_sparse_moe.experts.5.w3.weight",
        ] {
            let expected = Role { kind: Kind::ExpertUp, layer: Some(1), expert: Some(5) };
            assert_eq!(role(name), expected, "{name}");
        }
    }

    #[test]
    fn odd_names_have_no_role() {
        for name in ["", ".", "rope_freqs.weight", "a.b.c", "blk.x.y"] {
            assert_eq!(role(name).kind, Kind::Other, "{name}");
        }
    }
}
