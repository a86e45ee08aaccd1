//! Ordered keys and values.

use std::collections::HashMap;

use super::error::GgufFault;
use super::limits::{MAX_KEY_BYTES, name_problem};
use super::split::{KEY_COUNT, KEY_NO, KEY_TENSORS};
use super::value::{Array, Value};

/// Keys and values in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

/// Equal if keys, values and order are equal.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Metadata {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// The value of a key as integer without sign.
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The value of a key as floating point.
    pub fn f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// The value of a key as truth value.
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// The value of a key as text.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The value of a key as array.
    pub fn array(&self, key: &str) -> Option<&Array> {
        self.get(key)?.as_array()
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> Option<&str> {
        self.str("general.architecture")
    }

    /// Sets the value of a key: in its place if the key exists, else at the end. Gives
    /// the value that was there.
    ///
    /// # Errors
    /// [`GgufFault::BadName`] for a key that is empty, longer than 65,535 bytes or holds
    /// a zero byte.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<Option<Value>, GgufFault> {
        if let Some(&i) = self.index.get(key) {
            return Ok(Some(std::mem::replace(&mut self.entries[i].1, value.into())));
        }
        if let Some(problem) = name_problem(key.as_bytes(), MAX_KEY_BYTES) {
            return Err(GgufFault::BadName { what: format!("the key '{key}'"), problem });
        }
        self.index.insert(key.to_owned(), self.entries.len());
        self.entries.push((key.to_owned(), value.into()));
        Ok(None)
    }

    /// Removes a key; the order of the others stays.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        for position in self.index.values_mut() {
            *position -= usize::from(*position > at);
        }
        Some(self.entries.remove(at).1)
    }

    /// Removes what says that the file is a part of a model: that of a model in one file.
    pub fn remove_split(&mut self) {
        for key in [KEY_NO, KEY_COUNT, KEY_TENSORS] {
            self.remove(key);
        }
    }

    /// Appends a key that must be new.
    pub(crate) fn push_new(&mut self, key: String, value: Value) -> Result<(), GgufFault> {
        if self.index.insert(key.clone(), self.entries.len()).is_some() {
            return Err(GgufFault::DuplicateKey { key });
        }
        self.entries.push((key, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abc() -> Metadata {
        let mut metadata = Metadata::new();
        for (key, value) in [("a", 1_u32), ("b", 2), ("c", 3)] {
            metadata.set(key, value).unwrap();
        }
        metadata
    }

    #[test]
    fn setting_a_key_again_keeps_its_place() {
        let mut metadata = abc();
        assert_eq!(metadata.set("b", "two").unwrap(), Some(Value::U32(2)));
        let keys: Vec<&str> = metadata.iter().map(|(k, _)| k).collect();
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!(metadata.str("b"), Some("two"));
    }

    #[test]
    fn removing_a_key_keeps_the_others_findable() {
        let mut metadata = abc();
        assert_eq!(metadata.remove("a"), Some(Value::U32(1)));
        assert_eq!(metadata.remove("a"), None);
        assert_eq!(metadata.u64("b"), Some(2));
        assert_eq!(metadata.u64("c"), Some(3));
        metadata.set("a", 9_u8).unwrap();
        let keys: Vec<&str> = metadata.iter().map(|(k, _)| k).collect();
        assert_eq!(keys, ["b", "c", "a"]);
    }

    #[test]
    fn keys_that_no_reader_takes_are_refused() {
        let mut metadata = abc();
        for key in ["", "zero\0byte", &"k".repeat(65_536)] {
            assert!(matches!(metadata.set(key, 1_u8), Err(GgufFault::BadName { .. })));
        }
        assert_eq!(metadata.len(), 3);
    }
}
