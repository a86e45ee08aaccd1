//! Budgets in the user's words: bytes of the file, bits per weight, memory of a device.

use std::str::FromStr;

use rco_formats::gguf::{GgufModel, Metadata};

use crate::error::QuantError;

/// Bits per weight of the whole file, exactly as written: `digits · 10^-places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitsPerWeight {
    digits: u64,
    places: u32,
}

impl BitsPerWeight {
    /// Bytes of a file with so many weights, rounded down.
    pub fn bytes(self, weights: u64) -> u64 {
        let bits = u128::from(self.digits) * u128::from(weights);
        let bytes = bits / (8 * 10_u128.pow(self.places));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl FromStr for BitsPerWeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        let plain = !whole.is_empty() && digits.len() <= 12;
        if !plain || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{text}` is no number of bits, such as 4 or 3.25"));
        }
        let digits = digits.parse().map_err(|_| format!("`{text}` is too long"))?;
        if digits == 0 || digits > 64 * 10_u64.pow(fraction.len() as u32) {
            return Err(format!("`{text}` bits per weight: expected more than 0, at most 64"));
        }
        Ok(Self { digits, places: fraction.len() as u32 })
    }
}

impl std::fmt::Display for BitsPerWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.places == 0 {
            return write!(f, "{}", self.digits);
        }
        let unit = 10_u64.pow(self.places);
        let width = self.places as usize;
        write!(f, "{}.{:0width$}", self.digits / unit, self.digits % unit)
    }
}

/// Number of weights of a model: the elements of all tensors.
///
/// # Errors
/// A shape that overflows.
pub fn weights(model: &GgufModel) -> Result<u64, QuantError> {
    let mut sum = 0_u64;
    for (_, tensor) in model.tensors() {
        let elements = tensor.spec.elements()?;
        sum = sum
            .checked_add(elements)
            .ok_or(QuantError::Overflow { what: "the number of weights" })?;
    }
    Ok(sum)
}

/// Type of the key-value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// 32 bits.
    F32,
    /// 16 bits, llama.cpp's default.
    #[default]
    F16,
    /// 34 bytes for 32 values.
    Q8_0,
    /// 22 bytes for 32 values.
    Q5_0,
    /// 18 bytes for 32 values.
    Q4_0,
}

impl KvType {
    /// Every type, with its name.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::F32, "f32"),
        (Self::F16, "f16"),
        (Self::Q8_0, "q8_0"),
        (Self::Q5_0, "q5_0"),
        (Self::Q4_0, "q4_0"),
    ];

    /// Bytes of `values` values in whole blocks.
    fn bytes(self, values: u64) -> Option<u64> {
        let (block, bytes) = match self {
            Self::F32 => (1, 4),
            Self::F16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q5_0 => (32, 22),
            Self::Q4_0 => (32, 18),
        };
        values.div_ceil(block).checked_mul(bytes)
    }
}

impl FromStr for KvType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(ty, _)| ty).ok_or_else(|| {
            let known = Self::ALL.map(|(_, name)| name).join(", ");
            format!("`{text}` is no type of a key-value cache; there are {known}")
        })
    }
}

/// What a runtime needs beside the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Bytes of the key-value cache.
    pub kv_cache: u64,
    /// Estimate of the buffers for intermediate results: an upper one, since llama.cpp
    /// plans them when it loads.
    pub compute: u64,
}

/// Tokens that llama.cpp processes at a time.
const MICRO_BATCH: u64 = 512;
/// Context length is padded to a multiple of this.
const CONTEXT_STEP: u64 = 256;

/// Memory beside the weights for `parallel` sequences of `context` tokens each.
///
/// The cache holds keys and values of every layer; layers with a sliding window are
/// counted in full, which llama.cpp does as well unless it is told otherwise.
///
/// # Errors
/// [`QuantError::MissingKey`] for metadata that the estimate needs.
pub fn beside(
    metadata: &Metadata,
    context: u64,
    parallel: u64,
    kv: KvType,
) -> Result<Beside, QuantError> {
    let arch = metadata.architecture().unwrap_or_default().to_owned();
    let key = |name: &str| {
        let key = format!("{arch}.{name}");
        metadata.u64(&key).ok_or(QuantError::MissingKey { key })
    };
    let layers = key("block_count")?;
    let embedding = key("embedding_length")?;
    let heads = key("attention.head_count")?.max(1);
    let kv_heads = key("attention.head_count_kv").unwrap_or(heads);
    let key_length = key("attention.key_length").unwrap_or(embedding / heads);
    let value_length = key("attention.value_length").unwrap_or(key_length);
    let vocabulary = metadata.array("tokenizer.ggml.tokens").map_or(0, |a| a.len() as u64);
    let width = key("feed_forward_length").unwrap_or(0).max(embedding);

    let overflow = QuantError::Overflow { what: "the size of the key-value cache" };
    let cells =
        context.checked_next_multiple_of(CONTEXT_STEP).and_then(|c| c.checked_mul(parallel.max(1)));
    let side = |length: u64| {
        let row = kv.bytes(kv_heads.checked_mul(length)?)?;
        row.checked_mul(cells?)?.checked_mul(layers)
    };
    let kv_cache = side(key_length).zip(side(value_length)).and_then(|(k, v)| k.checked_add(v));
    // Logits of a batch, scores of all heads on all cells, and the widest activations.
    let compute = || {
        let tokens = MICRO_BATCH.min(context.max(1));
        let logits = vocabulary.checked_mul(tokens)?;
        let scores = heads.checked_mul(cells?)?.checked_mul(tokens)?;
        let states = width.checked_mul(tokens)?.checked_mul(4)?;
        logits.checked_add(scores)?.checked_add(states)?.checked_mul(4)
    };
    match (kv_cache, compute()) {
        (Some(kv_cache), Some(compute)) => Ok(Beside { kv_cache, compute }),
        _ => Err(overflow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_weight_are_exact_decimals() {
        let bits: BitsPerWeight = "3.10".parse().unwrap();
        // As a float, 3.1 × 10¹⁸ bits would be off by some hundred.
        assert_eq!(bits.bytes(1_000_000_000_000_000_000), 387_500_000_000_000_000);
        assert_eq!(bits.to_string(), "3.10");
        assert_eq!("4".parse::<BitsPerWeight>().unwrap().bytes(3), 1);
        assert_eq!("64".parse::<BitsPerWeight>().unwrap().bytes(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_no_number_of_bits_is_refused() {
        for bad in ["", ".", "-1", "1e3", "0", "0.0", "65", "nan", "3.1.2", "1234567890123"] {
            assert!(bad.parse::<BitsPerWeight>().is_err(), "{bad}");
        }
    }

    fn metadata() -> Metadata {
        use rco_formats::gguf::Value;
        let mut m = Metadata::new();
        m.set("general.architecture", Value::String(rco_formats::gguf::Text(b"llama".to_vec())))
            .unwrap();
        for (key, value) in [
            ("llama.block_count", 32_u32),
            ("llama.embedding_length", 4096),
            ("llama.attention.head_count", 32),
            ("llama.attention.head_count_kv", 8),
        ] {
            m.set(key, Value::U32(value)).unwrap();
        }
        m
    }

    #[test]
    fn the_cache_of_an_8b_llama_at_8192_tokens_is_a_gibibyte() {
        let found = beside(&metadata(), 8192, 1, KvType::F16).unwrap();
        assert_eq!(found.kv_cache, 1 << 30);
        let found = beside(&metadata(), 8192, 2, KvType::Q8_0).unwrap();
        assert_eq!(found.kv_cache, (1 << 30) / 16 * 17);
    }

    #[test]
    fn a_claim_that_overflows_is_an_error() {
        assert!(matches!(
            beside(&metadata(), u64::MAX / 2, 8, KvType::F16),
            Err(QuantError::Overflow { .. })
        ));
    }
}
