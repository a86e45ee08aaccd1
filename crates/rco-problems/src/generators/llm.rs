//! Instances shaped like the weight tensors of language models.

use rco_core::rng::Stream;
use rco_core::{GroupSpec, OptionSpec};

use super::Drawn;

/// A storage type of ggml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantType {
    /// Its name.
    pub name: &'static str,
    /// Bytes that 256 weights take.
    pub bytes: u64,
}

const fn quant(name: &'static str, bytes: u64) -> QuantType {
    QuantType { name, bytes }
}

/// Types in order of size.
pub const TYPES: [QuantType; 15] = [
    quant("IQ1_S", 50),
    quant("IQ2_XXS", 66),
    quant("IQ2_XS", 74),
    quant("IQ2_S", 82),
    quant("Q2_K", 84),
    quant("IQ3_XXS", 98),
    quant("IQ3_S", 110),
    quant("Q3_K", 110),
    quant("IQ4_XS", 136),
    quant("Q4_K", 144),
    quant("Q4_1", 160),
    quant("Q5_K", 176),
    quant("Q6_K", 210),
    quant("Q8_0", 272),
    quant("F16", 512),
];

/// The usual choice of seven, as indices into [`TYPES`].
const SEVEN: [usize; 7] = [1, 4, 7, 9, 11, 12, 13];

/// Linear tensors of a layer of an 8B model: name and number of weights.
const DENSE: [(&str, u64); 7] = [
    ("attn_q", 4096 * 4096),
    ("attn_k", 4096 * 1024),
    ("attn_v", 4096 * 1024),
    ("attn_output", 4096 * 4096),
    ("ffn_gate", 4096 * 14336),
    ("ffn_up", 4096 * 14336),
    ("ffn_down", 14336 * 4096),
];

/// Attention tensors of a layer of a 30B model with experts.
const EXPERT_ATTENTION: [(&str, u64); 4] = [
    ("attn_q", 2048 * 4096),
    ("attn_k", 2048 * 512),
    ("attn_v", 2048 * 512),
    ("attn_output", 4096 * 2048),
];

/// Number of weights of each of the three matrices of an expert.
const EXPERT: u64 = 2048 * 768;
/// Layers of the model with experts, and experts of each.
const LAYERS: usize = 48;
const EXPERTS: usize = 128;
/// Groups from which on the tensors are those of a model with experts.
const MANY: usize = 1_000;

/// Name and number of weights of group number `index` out of `groups`.
///
/// Up to a thousand groups are the tensors of a dense 8B model (252 are 36 layers).
/// 6,336 are the attention tensors of 48 layers and 128 whole experts in each; 18,624
/// take the three matrices of an expert apart; 69,120 are the matrices of 60 layers of
/// 384 larger experts.
fn tensor(index: usize, groups: usize) -> (String, u64) {
    if groups < MANY {
        let (name, size) = DENSE[index % DENSE.len()];
        return (format!("blk.{}.{name}", index / DENSE.len()), size);
    }
    let attention = LAYERS * EXPERT_ATTENTION.len();
    let whole = groups <= attention + LAYERS * EXPERTS;
    if groups <= attention + 3 * LAYERS * EXPERTS {
        if index < attention {
            let (name, size) = EXPERT_ATTENTION[index % EXPERT_ATTENTION.len()];
            return (format!("blk.{}.{name}", index / EXPERT_ATTENTION.len()), size);
        }
        let size = if whole { 3 * EXPERT } else { EXPERT };
        return (format!("expert.{}", index - attention), size);
    }
    (format!("expert.{index}"), 7168 * 2048)
}

/// Draws groups with sensitivities that are log-normal over about four decades and an
/// error of each type that falls by 4 for every bit, give or take a quarter.
pub(super) fn draw(groups: usize, options: usize, random: &mut Stream) -> Vec<Drawn> {
    let options = options.min(TYPES.len());
    let chosen: Vec<QuantType> = if options == SEVEN.len() {
        SEVEN.iter().map(|&index| TYPES[index]).collect()
    } else {
        let step = |k: usize| k * (TYPES.len() - 1) / (options - 1).max(1);
        (0..options).map(|k| TYPES[step(k)]).collect()
    };
    (0..groups)
        .map(|index| {
            let (name, size) = tensor(index, groups);
            let sensitivity = (2.3 * random.normal()).exp() * (size as f64).sqrt() * 1e-3;
            let values = chosen
                .iter()
                .map(|kind| {
                    let bits = kind.bytes as f64 * 8.0 / 256.0;
                    -sensitivity * (-2.0 * bits).exp2() * (1.0 + 0.25 * random.normal()).abs()
                })
                .collect();
            let specs: Vec<OptionSpec> = chosen
                .iter()
                .map(|kind| OptionSpec::new(kind.name, [size / 256 * kind.bytes]))
                .collect();
            Drawn { group: GroupSpec::new(name, specs).size(size), values }
        })
        .collect()
}
