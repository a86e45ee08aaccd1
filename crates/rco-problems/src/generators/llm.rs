//! Groups with the shapes of a language model's tensors and the costs of ggml types.

use rco_core::rng::Stream;
use rco_core::{GroupSpec, OptionSpec};

use super::Drawn;

/// ggml types by size: name and bytes for 256 weights (ggml's block layouts).
pub(super) const TYPES: [(&str, u64); 15] = [
    ("IQ1_S", 50),
    ("IQ2_XXS", 66),
    ("IQ2_XS", 74),
    ("IQ2_S", 82),
    ("Q2_K", 84),
    ("IQ3_XXS", 98),
    ("Q3_K", 110),
    ("IQ4_XS", 136),
    ("Q4_K", 144),
    ("Q4_1", 160),
    ("Q5_K", 176),
    ("Q5_1", 192),
    ("Q6_K", 210),
    ("Q8_0", 272),
    ("BF16", 512),
];

/// Name, rows and columns of the seven matrices of a layer (Qwen3-8B).
const DENSE: [(&str, u64, u64); 7] = [
    ("attn_q", 4096, 4096),
    ("attn_k", 1024, 4096),
    ("attn_v", 1024, 4096),
    ("attn_output", 4096, 4096),
    ("ffn_gate", 12_288, 4096),
    ("ffn_up", 12_288, 4096),
    ("ffn_down", 4096, 12_288),
];

/// The three matrices of one expert (Qwen3-30B-A3B).
const EXPERT: [(&str, u64, u64); 3] =
    [("ffn_gate_exp", 768, 2048), ("ffn_up_exp", 768, 2048), ("ffn_down_exp", 2048, 768)];

/// More groups than this are experts of a mixture-of-experts model.
const DENSE_GROUPS: usize = 1000;

/// Group `number` of `groups` with `options` types spread evenly over the menu. The
/// value of a type is what it saves over the smallest: a sensitivity (log-normal over
/// several orders of magnitude, as measured ones are) times the squared error, which
/// falls by a factor of four with each bit, give or take what types differ in skill.
pub(super) fn group(number: usize, groups: usize, options: usize, random: &mut Stream) -> Drawn {
    let shapes: &[(&str, u64, u64)] = if groups > DENSE_GROUPS { &EXPERT } else { &DENSE };
    let (kind, rows, columns) = shapes[number % shapes.len()];
    let size = rows * columns;
    let sensitivity = (1.5 * random.normal()).exp() * (size as f64 / 1e6).sqrt();
    let options = options.clamp(1, TYPES.len());
    // From the second type on unless all are wanted: 2 to 8 bits is the usual menu.
    let first = usize::from(options + 2 <= TYPES.len());
    let last = TYPES.len() - 1 - first;
    let chosen = (0..options).map(|k| {
        let at = if options == 1 { first } else { first + k * (last - first) / (options - 1) };
        TYPES[at]
    });
    let mut errors = Vec::with_capacity(options);
    let specs: Vec<OptionSpec> = chosen
        .map(|(name, bytes)| {
            let bits = bytes as f64 / 32.0;
            errors.push(sensitivity * (-2.0 * bits).exp2() * (0.1 * random.normal()).exp());
            OptionSpec::new(name, [size / 256 * bytes])
        })
        .collect();
    let worst = errors.iter().copied().fold(0.0, f64::max);
    let layer = number / shapes.len();
    Drawn {
        spec: GroupSpec::new(format!("blk.{layer}.{kind}.{}", number % shapes.len()), specs)
            .size(size),
        values: errors.iter().map(|error| worst - error).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;

    #[test]
    fn an_eight_billion_model_has_252_tensors_and_its_size() {
        let drawn = Family::LlmShaped.generate(252, 7, 0.5, 1).unwrap();
        let weights: u64 = (0..252).map(|i| drawn.problem.size(i)).sum();
        assert_eq!(weights, 36 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 12_288));
        assert_eq!(drawn.problem.option_count(), 252 * 7);
        assert!(drawn.values.iter().all(|v| v.is_finite() && *v >= 0.0));
        for group in 0..252 {
            let costs = &drawn.problem.costs(0)[drawn.problem.options_of(group)];
            assert!(costs.is_sorted() && costs[0] < costs[6]);
        }
    }

    #[test]
    fn every_family_is_a_function_of_its_seed() {
        for family in Family::ALL {
            for options in [2, 7, 15] {
                let one = family.generate(40, options, 0.3, 5).unwrap();
                assert_eq!(one, family.generate(40, options, 0.3, 5).unwrap());
                assert_ne!(one, family.generate(40, options, 0.3, 6).unwrap());
                assert_eq!(one.problem.option_count(), 40 * options, "{family:?}");
            }
        }
    }
}
