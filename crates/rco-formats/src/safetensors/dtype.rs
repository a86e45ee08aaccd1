//! Element types of safetensors.

use serde::Serialize;

macro_rules! dtypes {
    ($($id:ident $name:literal $bits:literal;)*) => {
        /// Element types, as in the `safetensors` crate 0.8.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        #[allow(missing_docs, reason = "the names say it")]
        #[non_exhaustive]
        pub enum Dtype { $(#[serde(rename = $name)] $id,)* }

        impl Dtype {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$id,)*];

            /// Name in the header.
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name,)* }
            }

            /// Bits of an element.
            pub fn bits(self) -> u64 {
                match self { $(Self::$id => $bits,)* }
            }

            /// The type of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$id),)* _ => None }
            }
        }
    };
}

dtypes! {
    Bool "BOOL" 8;
    F4 "F4" 4;
    F6E2M3 "F6_E2M3" 6;
    F6E3M2 "F6_E3M2" 6;
    U8 "U8" 8;
    I8 "I8" 8;
    F8E5M2 "F8_E5M2" 8;
    F8E4M3 "F8_E4M3" 8;
    F8E8M0 "F8_E8M0" 8;
    F8E4M3Fnuz "F8_E4M3FNUZ" 8;
    F8E5M2Fnuz "F8_E5M2FNUZ" 8;
    I16 "I16" 16;
    U16 "U16" 16;
    F16 "F16" 16;
    Bf16 "BF16" 16;
    I32 "I32" 32;
    U32 "U32" 32;
    F32 "F32" 32;
    C64 "C64" 64;
    F64 "F64" 64;
    I64 "I64" 64;
    U64 "U64" 64;
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Dtype;

    #[test]
    fn names_and_sizes_are_those_of_the_safetensors_crate() {
        for &dtype in Dtype::ALL {
            let theirs: safetensors::Dtype = serde_json::from_value(dtype.name().into()).unwrap();
            assert_eq!(theirs.bitsize() as u64, dtype.bits(), "{dtype}");
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(Dtype::from_name("bf16"), None);
    }
}
