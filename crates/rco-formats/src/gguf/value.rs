//! Metadata values: thirteen types, kept bit for bit.

use std::fmt;

/// A string as it lies in the file. The format asks for UTF-8, but token tables of old
/// converters hold other bytes, so the bytes are kept as they are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// The text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// The types of a value, with their numbers in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ValueType {
    /// 8 bits without sign.
    U8 = 0,
    /// 8 bits with sign.
    I8 = 1,
    /// 16 bits without sign.
    U16 = 2,
    /// 16 bits with sign.
    I16 = 3,
    /// 32 bits without sign.
    U32 = 4,
    /// 32 bits with sign.
    I32 = 5,
    /// Single precision.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// Length and bytes.
    String = 8,
    /// Type, count and elements.
    Array = 9,
    /// 64 bits without sign.
    U64 = 10,
    /// 64 bits with sign.
    I64 = 11,
    /// Double precision.
    F64 = 12,
}

impl ValueType {
    /// The type of this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Fewest bytes an element of this type takes in the file.
    pub(crate) fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::String | Self::U64 | Self::I64 | Self::F64 => 8,
            Self::Array => 12,
        }
    }
}

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are those of ValueType")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(Text),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type. The elements of an array of arrays may differ in type
/// and length.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are those of ValueType")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<Text>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Array {
    /// Type of the elements.
    pub fn element_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// The elements at these places, in their order; places that do not exist are left out.
    #[must_use]
    pub fn gathered(&self, places: &[usize]) -> Self {
        fn of<T: Clone>(values: &[T], places: &[usize]) -> Vec<T> {
            places.iter().filter_map(|&place| values.get(place).cloned()).collect()
        }
        match self {
            Self::U8(v) => Self::U8(of(v, places)),
            Self::I8(v) => Self::I8(of(v, places)),
            Self::U16(v) => Self::U16(of(v, places)),
            Self::I16(v) => Self::I16(of(v, places)),
            Self::U32(v) => Self::U32(of(v, places)),
            Self::I32(v) => Self::I32(of(v, places)),
            Self::F32(v) => Self::F32(of(v, places)),
            Self::Bool(v) => Self::Bool(of(v, places)),
            Self::String(v) => Self::String(of(v, places)),
            Self::Array(v) => Self::Array(of(v, places)),
            Self::U64(v) => Self::U64(of(v, places)),
            Self::I64(v) => Self::I64(of(v, places)),
            Self::F64(v) => Self::F64(of(v, places)),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::String(v) => v.len(),
            Self::Array(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Value {
    /// Type of the value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// The value as a number without sign, whatever integer type holds it.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a number with sign, whatever integer type holds it.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I8(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::I64(v) => Some(v),
            _ => self.as_u64()?.try_into().ok(),
        }
    }

    /// The value as floating point: of F32 or F64.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            _ => None,
        }
    }

    /// The truth value.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(v) = *self { Some(v) } else { None }
    }

    /// The text, if the value is a string of UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { text.as_str() } else { None }
    }

    /// The array.
    pub fn as_array(&self) -> Option<&Array> {
        if let Self::Array(array) = self { Some(array) } else { None }
    }
}

macro_rules! from {
    ($($from:ty => $variant:ident),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32,
      bool => Bool, &str => String, String => String, Text => String, Array => Array,
      u64 => U64, i64 => I64, f64 => F64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_numbers_and_variants_agree() {
        for number in 0..13 {
            assert_eq!(ValueType::from_number(number).unwrap() as u32, number);
        }
        assert_eq!(ValueType::from_number(13), None);
    }

    #[test]
    fn integers_convert_only_when_the_value_fits() {
        assert_eq!(Value::from(-1_i32).as_u64(), None);
        assert_eq!(Value::from(-1_i32).as_i64(), Some(-1));
        assert_eq!(Value::from(7_i64).as_u64(), Some(7));
        assert_eq!(Value::from(u64::MAX).as_i64(), None);
        assert_eq!(Value::from(1.0_f32).as_u64(), None);
    }

    #[test]
    fn text_that_is_not_utf8_is_kept_but_not_given_as_str() {
        let value = Value::from(Text(vec![0xff, b'a']));
        assert_eq!(value.as_str(), None);
        assert_eq!(value, Value::String(Text(vec![0xff, b'a'])));
    }
}
