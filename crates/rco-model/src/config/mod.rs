//! What a model is made of.

mod family;
mod fields;
mod gguf;
mod gguf_keys;
mod gguf_rope;
mod hf;
mod hf_rope;
mod rope;
mod shapes;

pub use family::Family;
pub(crate) use gguf_rope::DIVISORS;
pub use rope::{Rope, RopeOrder, RopeScaling};

/// A decoder-only model: embedding, blocks, final norm, head.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct ModelConfig {
    /// Its family, which names the weights.
    pub family: Family,
    /// Number of tokens.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f64,
    /// Added to every norm weight: 1 where files store the weight minus one.
    pub norm_offset: f64,
    /// Factor of the embedding.
    pub embedding_scale: f64,
    /// Factor of the attention scores.
    pub attention_scale: f64,
    /// Scores are capped to `cap · tanh(score / cap)`.
    pub attention_cap: Option<f64>,
    /// Logits are capped to `cap · tanh(logit / cap)`.
    pub final_cap: Option<f64>,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Whether attention and MLP have a norm after them, too.
    pub post_norms: bool,
    /// Activation of the gate.
    pub activation: Activation,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// The blocks, first to last.
    pub blocks: Vec<BlockConfig>,
}

/// What may differ between the blocks of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockConfig {
    /// Number of latest tokens (itself included) that a token attends to.
    pub window: Option<usize>,
    /// Rotary position embedding.
    pub rope: Rope,
    /// The MLP or the experts.
    pub mlp: MlpConfig,
}

/// The second half of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpConfig {
    /// One gated MLP.
    Dense {
        /// Its inner width.
        width: usize,
    },
    /// A mixture of experts: softmax of the router, then the largest `per_token`.
    Experts {
        /// Number of experts.
        experts: usize,
        /// Experts of each token.
        per_token: usize,
        /// Inner width of an expert.
        width: usize,
        /// Whether the chosen probabilities are divided by their sum.
        renormalise: bool,
    },
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head, with one weight for all heads.
    PerHead,
    /// Over all heads at once.
    AllHeads,
}

/// Activation of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)` (`SwiGLU`).
    Silu,
    /// Gaussian error linear unit in its tanh form (`GeGLU`).
    GeluTanh,
}
