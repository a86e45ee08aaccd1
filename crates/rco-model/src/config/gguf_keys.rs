//! Checked access to the metadata of a GGUF file.

use rco_formats::gguf::{Array, Metadata, Value};

use super::Family;
use crate::error::ModelError;

/// The keys of one architecture: `block_count` stands for `llama.block_count`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) family: Family,
    pub(super) architecture: &'a str,
    pub(super) metadata: &'a Metadata,
}

impl<'a> Keys<'a> {
    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.metadata.get(&self.path(key))
    }

    pub(super) fn missing(&self, key: &str, meaning: &'static str) -> ModelError {
        ModelError::MissingField { field: self.path(key), family: self.family.name(), meaning }
    }

    pub(super) fn bad(&self, key: &str, found: &impl ToString, expected: &str) -> ModelError {
        let (field, found) = (self.path(key), found.to_string());
        ModelError::BadField { field, found, expected: expected.to_owned() }
    }

    pub(super) fn unsupported(
        &self,
        key: &str,
        found: &impl ToString,
        supported: &str,
    ) -> ModelError {
        ModelError::Unsupported {
            field: self.path(key),
            found: found.to_string(),
            family: self.family.name(),
            supported: supported.to_owned(),
        }
    }

    fn as_count(&self, key: &str, value: &Value) -> Result<usize, ModelError> {
        match value.as_u64() {
            Some(n @ 1..=0x7fff_ffff) => Ok(n as usize),
            _ => Err(self.bad(key, &show(value), "a whole number from 1 to 2^31 - 1")),
        }
    }

    /// A count of at least one.
    pub(super) fn count(&self, key: &str, meaning: &'static str) -> Result<usize, ModelError> {
        self.count_opt(key)?.ok_or_else(|| self.missing(key, meaning))
    }

    /// A count, if the key is there.
    pub(super) fn count_opt(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.get(key).map(|v| self.as_count(key, v)).transpose()
    }

    /// A count of 0 or more; 0 without the key.
    pub(super) fn count_or_zero(&self, key: &str) -> Result<usize, ModelError> {
        match self.get(key) {
            None => Ok(0),
            Some(v) if v.as_u64() == Some(0) => Ok(0),
            Some(v) => self.as_count(key, v),
        }
    }

    /// One count for each of `layers` blocks: from an array, or one number for all.
    pub(super) fn counts(
        &self,
        key: &str,
        layers: usize,
        meaning: &'static str,
    ) -> Result<Vec<usize>, ModelError> {
        let value = self.get(key).ok_or_else(|| self.missing(key, meaning))?;
        let Value::Array(array) = value else {
            return Ok(vec![self.as_count(key, value)?; layers]);
        };
        let numbers: Vec<Value> = match array {
            Array::U32(v) => v.iter().map(|&n| n.into()).collect(),
            Array::I32(v) => v.iter().map(|&n| n.into()).collect(),
            Array::U64(v) => v.iter().map(|&n| n.into()).collect(),
            Array::I64(v) => v.iter().map(|&n| n.into()).collect(),
            _ => Vec::new(),
        };
        if numbers.len() != layers {
            let expected = format!("a whole number or a list of {layers}");
            return Err(self.bad(key, &show(value), &expected));
        }
        numbers.iter().map(|n| self.as_count(key, n)).collect()
    }

    /// A count that is the same for all blocks.
    pub(super) fn same_count(
        &self,
        key: &str,
        layers: usize,
        meaning: &'static str,
    ) -> Result<usize, ModelError> {
        let counts = self.counts(key, layers, meaning)?;
        match counts.first() {
            Some(&first) if counts.iter().all(|&n| n == first) => Ok(first),
            _ => Err(self.unsupported(key, &format!("{counts:?}"), "all blocks are alike")),
        }
    }

    /// A positive number, if the key is there: the shortest decimal number that the file's
    /// single precision stands for, so that 1e-5 is 1e-5 here as in `config.json`.
    pub(super) fn positive_opt(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::F32(x) => x.to_string().parse().ok(),
            other => other.as_f64(),
        };
        match number {
            Some(x) if f64::is_finite(x) && x > 0.0 => Ok(Some(x)),
            _ => Err(self.bad(key, &show(value), "a number above 0")),
        }
    }

    /// A positive number.
    pub(super) fn positive(&self, key: &str, meaning: &'static str) -> Result<f64, ModelError> {
        self.positive_opt(key)?.ok_or_else(|| self.missing(key, meaning))
    }

    /// A string, if the key is there.
    pub(super) fn text_opt(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        let read = |v: &'a Value| v.as_str().ok_or_else(|| self.bad(key, &show(v), "a string"));
        self.get(key).map(read).transpose()
    }
}

/// A value for an error message; arrays by their length.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Array(array) => format!("a list of {}", array.len()),
        Value::String(text) => format!("'{text}'"),
        other => {
            let text = format!("{other:?}");
            // `U32(5)` is 5.
            text.split_once('(').map_or(text.clone(), |(_, v)| v.trim_end_matches(')').to_owned())
        }
    }
}
