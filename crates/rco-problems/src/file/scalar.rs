//! Numbers as they stand in a file, before anything is decided about them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number, or a text that stands where a number was expected.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A whole number from 0 to 2⁶⁴ − 1.
    Unsigned(u64),
    /// A negative whole number.
    Negative(i64),
    /// A number with a point or an exponent, or too large for 64 bits.
    Float(f64),
    /// A text.
    Text(String),
}

impl Scalar {
    /// Reads the text of a CSV cell.
    pub(crate) fn from_cell(cell: &str) -> Self {
        if let Ok(value) = cell.parse::<u64>() {
            Self::Unsigned(value)
        } else if let Ok(value) = cell.parse::<i64>() {
            Self::Negative(value)
        } else if let Ok(value) = cell.parse::<f64>() {
            Self::Float(value)
        } else {
            Self::Text(cell.to_owned())
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Negative(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(u64::try_from(value).map_or(Scalar::Negative(value), Scalar::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Negative(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $from:ty => $variant:ident, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Scalar);

        impl From<$from> for $name {
            fn from(value: $from) -> Self {
                Self(Scalar::$variant(value))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

number!(
    /// A whole number, 0 or more.
    Integer, u64 => Unsigned,
    json_schema!({"type": "integer", "minimum": 0, "maximum": i64::MAX})
);
number!(
    /// A finite number.
    Real, f64 => Float,
    json_schema!({"type": "number"})
);
number!(
    /// The limit of a budget: a whole number, or a text with a unit such as `"5.9GB"`.
    Limit, u64 => Unsigned,
    json_schema!({"anyOf": [
        {"type": "integer", "minimum": 0, "maximum": i64::MAX},
        {"type": "string", "pattern": r"^[0-9][0-9_]*(\.[0-9]+)? *([kKmMgGtT]?[iI]?[bB])?$"}
    ]})
);
