//! Names and numbers of the recipes.

use std::fmt;

use rco_formats::gguf::TensorType;

/// A recipe of `llama-quantize`, by its number in `general.file_type` (`enum llama_ftype`
/// in `llama.h`, llama.cpp as packed in `llama-cpp-sys-2` 0.1.160).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Preset(u32);

/// What is known of a recipe.
struct Entry {
    preset: Preset,
    name: &'static str,
    default: TensorType,
    needs_importance: bool,
}

macro_rules! presets {
    ($($number:literal $id:ident $name:literal $default:ident $needs:literal;)*) => {
        impl Preset {
            $(
                #[doc = concat!("`", $name, "`, file type ", $number, ".")]
                pub const $id: Self = Self($number);
            )*
        }
        const PRESETS: &[Entry] = &[$(Entry {
            preset: Preset::$id,
            name: $name,
            default: TensorType::$default,
            needs_importance: $needs,
        },)*];
    };
}

// By size, the smallest first.
presets! {
    24 IQ1_S "IQ1_S" IQ1_S true;
    31 IQ1_M "IQ1_M" IQ1_M true;
    19 IQ2_XXS "IQ2_XXS" IQ2_XXS true;
    20 IQ2_XS "IQ2_XS" IQ2_XS true;
    28 IQ2_S "IQ2_S" IQ2_XS true;
    29 IQ2_M "IQ2_M" IQ2_S true;
    21 Q2_K_S "Q2_K_S" Q2_K true;
    10 Q2_K "Q2_K" Q2_K false;
    23 IQ3_XXS "IQ3_XXS" IQ3_XXS true;
    22 IQ3_XS "IQ3_XS" IQ3_S true;
    26 IQ3_S "IQ3_S" IQ3_S false;
    11 Q3_K_S "Q3_K_S" Q3_K false;
    27 IQ3_M "IQ3_M" IQ3_S false;
    12 Q3_K_M "Q3_K_M" Q3_K false;
    13 Q3_K_L "Q3_K_L" Q3_K false;
    30 IQ4_XS "IQ4_XS" IQ4_XS false;
    25 IQ4_NL "IQ4_NL" IQ4_NL false;
    2 Q4_0 "Q4_0" Q4_0 false;
    14 Q4_K_S "Q4_K_S" Q4_K false;
    15 Q4_K_M "Q4_K_M" Q4_K false;
    3 Q4_1 "Q4_1" Q4_1 false;
    8 Q5_0 "Q5_0" Q5_0 false;
    16 Q5_K_S "Q5_K_S" Q5_K false;
    17 Q5_K_M "Q5_K_M" Q5_K false;
    9 Q5_1 "Q5_1" Q5_1 false;
    18 Q6_K "Q6_K" Q6_K false;
    7 Q8_0 "Q8_0" Q8_0 false;
}

impl Preset {
    /// Every recipe, the smallest first.
    pub fn all() -> impl Iterator<Item = Self> {
        PRESETS.iter().map(|entry| entry.preset)
    }

    /// Its name, as `llama-quantize` takes it.
    pub fn name(self) -> &'static str {
        self.entry().map_or("", |entry| entry.name)
    }

    /// The recipe of this name, in capitals or not.
    pub fn from_name(name: &str) -> Option<Self> {
        let entry = PRESETS.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))?;
        Some(entry.preset)
    }

    /// Its number, the value of `general.file_type`.
    pub fn file_type(self) -> u32 {
        self.0
    }

    /// The recipe of this number.
    pub fn from_file_type(number: u32) -> Option<Self> {
        Self::all().find(|preset| preset.0 == number)
    }

    /// The type of the tensors that the recipe has no rule for.
    pub fn default_type(self) -> TensorType {
        self.entry().map_or(TensorType::F16, |entry| entry.default)
    }

    /// Whether llama.cpp refuses to write a usual model by it without an importance matrix.
    pub fn needs_importance(self) -> bool {
        self.entry().is_some_and(|entry| entry.needs_importance)
    }

    fn entry(self) -> Option<&'static Entry> {
        PRESETS.iter().find(|entry| entry.preset == self)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_numbers_are_unique_and_lead_back() {
        let names: HashSet<&str> = Preset::all().map(Preset::name).collect();
        let numbers: HashSet<u32> = Preset::all().map(Preset::file_type).collect();
        assert_eq!((names.len(), numbers.len()), (PRESETS.len(), PRESETS.len()));
        for preset in Preset::all() {
            assert_eq!(Preset::from_name(&preset.name().to_lowercase()), Some(preset));
            assert_eq!(Preset::from_file_type(preset.file_type()), Some(preset));
        }
        assert_eq!(Preset::from_name("Q4_K"), None);
    }
}
