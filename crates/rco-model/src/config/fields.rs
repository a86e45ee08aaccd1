//! Checked access to the fields of `config.json`.

use serde_json::{Map, Value};

use super::Family;
use crate::error::ModelError;

/// An object of the configuration; `prefix` is where it lies, for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) family: Family,
    pub(super) object: &'a Map<String, Value>,
    pub(super) prefix: &'static str,
}

impl<'a> Fields<'a> {
    fn path(&self, field: &str) -> String {
        format!("{}{field}", self.prefix)
    }

    /// The value; `None` if it is absent or null.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|v| !v.is_null())
    }

    fn need(&self, field: &str, meaning: &'static str) -> Result<&'a Value, ModelError> {
        self.get(field).ok_or_else(|| self.missing(field, meaning))
    }

    pub(super) fn missing(&self, field: &str, meaning: &'static str) -> ModelError {
        ModelError::MissingField { field: self.path(field), family: self.family.name(), meaning }
    }

    pub(super) fn bad(&self, field: &str, found: &Value, expected: &str) -> ModelError {
        ModelError::BadField {
            field: self.path(field),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn unsupported(&self, field: &str, found: &Value, supported: &str) -> ModelError {
        ModelError::Unsupported {
            field: self.path(field),
            found: found.to_string(),
            family: self.family.name(),
            supported: supported.to_owned(),
        }
    }

    fn as_count(&self, field: &str, value: &Value) -> Result<usize, ModelError> {
        // No dimension of a model comes near 2³¹; larger ones would overflow products.
        match value.as_u64() {
            Some(n @ 1..=0x7fff_ffff) => Ok(n as usize),
            _ => Err(self.bad(field, value, "a whole number from 1 to 2^31 - 1")),
        }
    }

    /// A count of at least one.
    pub(super) fn count(&self, field: &str, meaning: &'static str) -> Result<usize, ModelError> {
        self.as_count(field, self.need(field, meaning)?)
    }

    /// A count, if the field is there.
    pub(super) fn count_opt(&self, field: &str) -> Result<Option<usize>, ModelError> {
        self.get(field).map(|v| self.as_count(field, v)).transpose()
    }

    fn as_positive(&self, field: &str, value: &Value) -> Result<f64, ModelError> {
        match value.as_f64() {
            Some(x) if x.is_finite() && x > 0.0 => Ok(x),
            _ => Err(self.bad(field, value, "a number above 0")),
        }
    }

    /// A positive number.
    pub(super) fn positive(&self, field: &str, meaning: &'static str) -> Result<f64, ModelError> {
        self.as_positive(field, self.need(field, meaning)?)
    }

    /// A positive number, if the field is there.
    pub(super) fn positive_opt(&self, field: &str) -> Result<Option<f64>, ModelError> {
        self.get(field).map(|v| self.as_positive(field, v)).transpose()
    }

    /// A truth value.
    pub(super) fn flag(&self, field: &str, meaning: &'static str) -> Result<bool, ModelError> {
        let value = self.need(field, meaning)?;
        value.as_bool().ok_or_else(|| self.bad(field, value, "true or false"))
    }

    /// A truth value with the default that the family's own configuration class has, for
    /// fields that files leave out when they equal it.
    pub(super) fn flag_or(&self, field: &str, default: bool) -> Result<bool, ModelError> {
        match self.get(field) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.bad(field, v, "true or false")),
        }
    }

    /// Refuses any value but absence, null and `value`.
    pub(super) fn only(&self, field: &str, value: &Value, why: &str) -> Result<(), ModelError> {
        match self.get(field) {
            Some(v) if v != value => Err(self.unsupported(field, v, why)),
            _ => Ok(()),
        }
    }

    /// A string.
    pub(super) fn text(&self, field: &str, meaning: &'static str) -> Result<&'a str, ModelError> {
        let value = self.need(field, meaning)?;
        value.as_str().ok_or_else(|| self.bad(field, value, "a string"))
    }

    /// An object inside this one, if it is there.
    pub(super) fn object(
        &self,
        field: &str,
        prefix: &'static str,
    ) -> Result<Option<Fields<'a>>, ModelError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields { family: self.family, object, prefix })),
            Some(v) => Err(self.bad(field, v, "an object")),
        }
    }
}
