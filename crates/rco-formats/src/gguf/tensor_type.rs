//! The ggml tensor types by number.
//!
//! Numbers from `enum ggml_type` in `ggml.h`, block lengths and bytes from the block
//! structures in `ggml-common.h` (both MIT, ggml 0.26 as packed in the crate
//! `llama-cpp-sys-2` 0.1.161). `GGML_QUANT_SIZES` of gguf-py 0.19 agrees but for Q2\_0, which
//! it lacks, and Q8\_1, which it gives 40 bytes.
//! Some derived programs use 41 and above for types of their own; those numbers mean
//! here what upstream says.

use std::fmt;

use serde::{Serialize, Serializer};

/// Number of a tensor type. Every number can be held; [`TensorType::layout`] knows the
/// current ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType(pub u32);

/// What a type is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TypeClass {
    /// Plain floating point.
    Float,
    /// Plain integers; no weights.
    Integer,
    /// Blocks of codes with scales: a way to store weights.
    Block,
    /// Blocks of three or two values, meant for models trained that way.
    Ternary,
    /// Intermediate results of the runtime, never in files.
    Internal,
}

/// How a type lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeLayout {
    /// Name as ggml writes it, in capitals.
    pub name: &'static str,
    /// Weights in a block; a row must be a whole number of blocks.
    pub block: u64,
    /// Bytes of a block.
    pub bytes: u64,
    /// What it is for.
    pub class: TypeClass,
    /// Whether ggml refuses to encode it without an importance matrix.
    pub needs_importance: bool,
}

impl TypeLayout {
    /// Bits for each weight.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes as f64 / self.block as f64
    }
}

macro_rules! tensor_types {
    ($($number:literal $id:ident $name:literal $block:literal $bytes:literal $class:ident $needs:literal;)*) => {
        impl TensorType {
            $(
                #[doc = concat!("`", $name, "`: ", $block, " weights in ", $bytes, " bytes.")]
                pub const $id: Self = Self($number);
            )*
        }
        const TYPES: &[(u32, TypeLayout)] = &[
            $(($number, TypeLayout {
                name: $name,
                block: $block,
                bytes: $bytes,
                class: TypeClass::$class,
                needs_importance: $needs,
            }),)*
        ];
    };
}

tensor_types! {
    0 F32 "F32" 1 4 Float false;
    1 F16 "F16" 1 2 Float false;
    2 Q4_0 "Q4_0" 32 18 Block false;
    3 Q4_1 "Q4_1" 32 20 Block false;
    6 Q5_0 "Q5_0" 32 22 Block false;
    7 Q5_1 "Q5_1" 32 24 Block false;
    8 Q8_0 "Q8_0" 32 34 Block false;
    9 Q8_1 "Q8_1" 32 36 Internal false;
    10 Q2_K "Q2_K" 256 84 Block false;
    11 Q3_K "Q3_K" 256 110 Block false;
    12 Q4_K "Q4_K" 256 144 Block false;
    13 Q5_K "Q5_K" 256 176 Block false;
    14 Q6_K "Q6_K" 256 210 Block false;
    15 Q8_K "Q8_K" 256 292 Internal false;
    16 IQ2_XXS "IQ2_XXS" 256 66 Block true;
    17 IQ2_XS "IQ2_XS" 256 74 Block true;
    18 IQ3_XXS "IQ3_XXS" 256 98 Block false;
    19 IQ1_S "IQ1_S" 256 50 Block true;
    20 IQ4_NL "IQ4_NL" 32 18 Block false;
    21 IQ3_S "IQ3_S" 256 110 Block false;
    22 IQ2_S "IQ2_S" 256 82 Block false;
    23 IQ4_XS "IQ4_XS" 256 136 Block false;
    24 I8 "I8" 1 1 Integer false;
    25 I16 "I16" 1 2 Integer false;
    26 I32 "I32" 1 4 Integer false;
    27 I64 "I64" 1 8 Integer false;
    28 F64 "F64" 1 8 Float false;
    29 IQ1_M "IQ1_M" 256 56 Block false;
    30 BF16 "BF16" 1 2 Float false;
    34 TQ1_0 "TQ1_0" 256 54 Ternary false;
    35 TQ2_0 "TQ2_0" 256 66 Ternary false;
    39 MXFP4 "MXFP4" 32 17 Block false;
    40 NVFP4 "NVFP4" 64 36 Block false;
    41 Q1_0 "Q1_0" 128 18 Ternary false;
    42 Q2_0 "Q2_0" 64 18 Ternary false;
}

impl TensorType {
    /// How the type lies in memory; `None` for numbers that are not known (any more).
    pub fn layout(self) -> Option<&'static TypeLayout> {
        TYPES.binary_search_by_key(&self.0, |entry| entry.0).ok().map(|i| &TYPES[i].1)
    }

    /// Every known type with its layout, by number.
    pub fn known() -> impl Iterator<Item = (Self, &'static TypeLayout)> {
        TYPES.iter().map(|(number, layout)| (Self(*number), layout))
    }

    /// The type of this name, in capitals or not.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::known().find(|(_, layout)| layout.name.eq_ignore_ascii_case(name)).map(|(ty, _)| ty)
    }

    /// Whether rows of `row_length` weights are a whole number of blocks; `None` if the
    /// type is not known.
    pub fn fits_row(self, row_length: u64) -> Option<bool> {
        self.layout().map(|layout| row_length.is_multiple_of(layout.block))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layout() {
            Some(layout) => f.write_str(layout.name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl Serialize for TensorType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_by_number_and_has_no_double_names() {
        assert!(TYPES.is_sorted_by(|a, b| a.0 < b.0));
        for (ty, layout) in TensorType::known() {
            assert_eq!(TensorType::from_name(&layout.name.to_lowercase()), Some(ty));
            assert_eq!(ty.layout(), Some(layout));
        }
        assert_eq!(TYPES.len(), 35);
    }

    #[test]
    fn removed_and_future_numbers_are_unknown() {
        for number in [4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, u32::MAX] {
            assert_eq!(TensorType(number).layout(), None);
            assert_eq!(TensorType(number).to_string(), format!("type {number}"));
        }
    }

    #[test]
    fn bits_per_weight_are_the_documented_ones() {
        let bits = |name| TensorType::from_name(name).unwrap().layout().unwrap().bits_per_weight();
        for (name, expected) in [
            ("BF16", 16.0),
            ("Q8_0", 8.5),
            ("Q6_K", 6.5625),
            ("Q4_K", 4.5),
            ("IQ4_XS", 4.25),
            ("MXFP4", 4.25),
            ("NVFP4", 4.5),
            ("Q3_K", 3.4375),
            ("Q2_K", 2.625),
            ("Q2_0", 2.25),
            ("IQ2_XXS", 2.0625),
            ("TQ1_0", 1.6875),
            ("IQ1_S", 1.5625),
            ("Q1_0", 1.125),
        ] {
            assert_eq!(bits(name), expected, "{name}");
        }
    }

    #[test]
    fn rows_of_576_take_only_blocks_of_32_and_64() {
        let fits: Vec<&str> = TensorType::known()
            .filter(|(ty, l)| l.class == TypeClass::Block && ty.fits_row(576) == Some(true))
            .map(|(_, l)| l.name)
            .collect();
        assert_eq!(fits, ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4", "NVFP4"]);
    }
}
