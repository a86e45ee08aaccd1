//! A source with some weights taken from others: a plan's choice of options.

use std::collections::HashMap;
use std::sync::Arc;

use super::{HostWeight, WeightSource};
use crate::error::ModelError;
use crate::key::WeightKey;
use crate::ops::ActivationRounding;

/// A base with some weights replaced.
#[derive(Clone)]
pub struct Overlay {
    base: Arc<dyn WeightSource>,
    replaced: HashMap<WeightKey, Arc<dyn WeightSource>>,
}

impl Overlay {
    /// Everything from `base`.
    pub fn new(base: Arc<dyn WeightSource>) -> Self {
        Self { base, replaced: HashMap::new() }
    }

    /// Takes one weight from another source from now on.
    pub fn replace(&mut self, key: WeightKey, source: Arc<dyn WeightSource>) {
        self.replaced.insert(key, source);
    }

    /// Takes one weight from the base again.
    pub fn restore(&mut self, key: WeightKey) {
        self.replaced.remove(&key);
    }

    fn of(&self, key: WeightKey) -> &dyn WeightSource {
        &**self.replaced.get(&key).unwrap_or(&self.base)
    }
}

impl WeightSource for Overlay {
    fn name(&self, key: WeightKey) -> String {
        self.of(key).name(key)
    }

    fn shape(&self, key: WeightKey) -> Option<Vec<usize>> {
        self.of(key).shape(key)
    }

    fn read_rows(&self, key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.of(key).read_rows(key, first, out)
    }

    fn activation_rounding(&self, key: WeightKey) -> ActivationRounding {
        self.of(key).activation_rounding(key)
    }

    fn load(&self, key: WeightKey) -> Result<HostWeight, ModelError> {
        self.of(key).load(key)
    }

    fn load_rows(&self, key: WeightKey, rows: &[u32]) -> Result<HostWeight, ModelError> {
        self.of(key).load_rows(key, rows)
    }
}
