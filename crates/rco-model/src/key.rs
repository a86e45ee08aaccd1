//! Names of weights that are the same for every family and file format.

use std::fmt;

/// What a weight does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WeightKind {
    /// Token embedding `[vocabulary, hidden]`; also the output matrix when tied.
    Embedding,
    /// Norm before the attention `[hidden]`.
    AttentionNorm,
    /// Query projection `[heads · head size, hidden]`.
    Query,
    /// Key projection `[kv heads · head size, hidden]`.
    Key,
    /// Value projection `[kv heads · head size, hidden]`.
    Value,
    /// Bias of the query projection.
    QueryBias,
    /// Bias of the key projection.
    KeyBias,
    /// Bias of the value projection.
    ValueBias,
    /// Norm of the queries: `[head size]`, or over all heads.
    QueryNorm,
    /// Norm of the keys: `[head size]`, or over all heads.
    KeyNorm,
    /// Output projection of the attention `[hidden, heads · head size]`.
    Output,
    /// Bias of the output projection.
    OutputBias,
    /// Norm after the attention, before the residual sum `[hidden]`.
    PostAttentionNorm,
    /// Norm before the MLP `[hidden]`.
    MlpNorm,
    /// Router `[experts, hidden]`.
    Router,
    /// Gate projection `[width, hidden]`, of the MLP or of one expert.
    Gate,
    /// Up projection `[width, hidden]`, of the MLP or of one expert.
    Up,
    /// Down projection `[hidden, width]`, of the MLP or of one expert.
    Down,
    /// Norm after the MLP, before the residual sum `[hidden]`.
    PostMlpNorm,
    /// Norm before the output matrix `[hidden]`.
    FinalNorm,
    /// Output matrix `[vocabulary, hidden]` of a model whose head is not tied.
    Head,
}

impl WeightKind {
    fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::AttentionNorm => "attention_norm",
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::QueryBias => "query_bias",
            Self::KeyBias => "key_bias",
            Self::ValueBias => "value_bias",
            Self::QueryNorm => "query_norm",
            Self::KeyNorm => "key_norm",
            Self::Output => "output",
            Self::OutputBias => "output_bias",
            Self::PostAttentionNorm => "post_attention_norm",
            Self::MlpNorm => "mlp_norm",
            Self::Router => "router",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
            Self::PostMlpNorm => "post_mlp_norm",
            Self::FinalNorm => "final_norm",
            Self::Head => "head",
        }
    }
}

/// One weight of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightKey {
    /// The block, from 0; `None` for embedding, final norm and head.
    pub layer: Option<usize>,
    /// The expert, from 0; `None` outside of experts.
    pub expert: Option<usize>,
    /// What it does.
    pub kind: WeightKind,
}

impl WeightKey {
    /// A weight outside of the blocks.
    pub fn outer(kind: WeightKind) -> Self {
        Self { layer: None, expert: None, kind }
    }

    /// A weight of a block.
    pub fn block(layer: usize, kind: WeightKind) -> Self {
        Self { layer: Some(layer), expert: None, kind }
    }

    /// A weight of an expert.
    pub fn expert(layer: usize, expert: usize, kind: WeightKind) -> Self {
        Self { layer: Some(layer), expert: Some(expert), kind }
    }
}

impl fmt::Display for WeightKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "layer.{layer}.")?;
        }
        if let Some(expert) = self.expert {
            write!(f, "expert.{expert}.")?;
        }
        f.write_str(self.kind.name())
    }
}
