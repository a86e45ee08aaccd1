//! Families of models and how their files name the weights.

use crate::key::{WeightKey, WeightKind};

/// A family, as `model_type` of `config.json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Llama 2 and 3, `SmolLM2`.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
    /// Qwen 3, mixture of experts.
    Qwen3Moe,
    /// `OLMoE`.
    Olmoe,
    /// Mixtral.
    Mixtral,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text only.
    Gemma3,
}

impl Family {
    /// Every family.
    pub const ALL: &[Self] = &[
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Qwen3Moe,
        Self::Olmoe,
        Self::Mixtral,
        Self::Gemma2,
        Self::Gemma3,
    ];

    /// `model_type` in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3_moe",
            Self::Olmoe => "olmoe",
            Self::Mixtral => "mixtral",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3_text",
        }
    }

    /// The family of this `model_type`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// Name of a weight in Hugging Face files.
    pub fn hf_name(self, key: WeightKey) -> String {
        let gemma = matches!(self, Self::Gemma2 | Self::Gemma3);
        let (experts, router) = match self {
            Self::Mixtral => ("block_sparse_moe", "block_sparse_moe.gate"),
            _ => ("mlp", "mlp.gate"),
        };
        let tail = match key.kind {
            WeightKind::Embedding => "embed_tokens.weight",
            WeightKind::FinalNorm => "norm.weight",
            WeightKind::Head => return "lm_head.weight".to_owned(),
            WeightKind::AttentionNorm => "input_layernorm.weight",
            WeightKind::Query => "self_attn.q_proj.weight",
            WeightKind::Key => "self_attn.k_proj.weight",
            WeightKind::Value => "self_attn.v_proj.weight",
            WeightKind::QueryBias => "self_attn.q_proj.bias",
            WeightKind::KeyBias => "self_attn.k_proj.bias",
            WeightKind::ValueBias => "self_attn.v_proj.bias",
            WeightKind::QueryNorm => "self_attn.q_norm.weight",
            WeightKind::KeyNorm => "self_attn.k_norm.weight",
            WeightKind::Output => "self_attn.o_proj.weight",
            WeightKind::OutputBias => "self_attn.o_proj.bias",
            WeightKind::MlpNorm if gemma => "pre_feedforward_layernorm.weight",
            WeightKind::MlpNorm | WeightKind::PostAttentionNorm => {
                "post_attention_layernorm.weight"
            }
            WeightKind::PostMlpNorm => "post_feedforward_layernorm.weight",
            WeightKind::Router => &format!("{router}.weight"),
            WeightKind::Gate | WeightKind::Up | WeightKind::Down => {
                let name = self.projection(key.kind);
                match key.expert {
                    Some(e) => &format!("{experts}.experts.{e}.{name}.weight"),
                    None => &format!("mlp.{name}.weight"),
                }
            }
        };
        match key.layer {
            Some(layer) => format!("model.layers.{layer}.{tail}"),
            None => format!("model.{tail}"),
        }
    }

    fn projection(self, kind: WeightKind) -> &'static str {
        match (kind, self) {
            (WeightKind::Gate, Self::Mixtral) => "w1",
            (WeightKind::Up, Self::Mixtral) => "w3",
            (_, Self::Mixtral) => "w2",
            (WeightKind::Gate, _) => "gate_proj",
            (WeightKind::Up, _) => "up_proj",
            _ => "down_proj",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
