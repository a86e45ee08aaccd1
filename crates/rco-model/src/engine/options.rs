//! Option gradients: the derivative of the loss when a weight moves to another form.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::block::{GradientVisitor, WeightGradient};
use crate::error::ModelError;
use crate::key::WeightKey;
use crate::weights::WeightSource;

/// A slot of the result and where the form is read.
type Form = (usize, Arc<dyn WeightSource>);

/// The forms that weights may take. Each adds to one slot of the result; an option of
/// several tensors has one form for each of them in the same slot.
#[derive(Clone, Default)]
pub struct OptionTensors {
    forms: HashMap<WeightKey, Vec<Form>>,
    slots: usize,
}

impl OptionTensors {
    /// Adds a form of `key`: what `source` holds under that key.
    pub fn add(&mut self, slot: usize, key: WeightKey, source: Arc<dyn WeightSource>) {
        self.forms.entry(key).or_default().push((slot, source));
        self.slots = self.slots.max(slot + 1);
    }

    /// One more than the largest slot.
    pub fn slots(&self) -> usize {
        self.slots
    }
}

/// Forms option gradients `Σ ⟨∂L/∂W, W_k − W⟩` as the backward pass goes by. Forms are read
/// a few rows at a time; nothing but one number per slot is kept.
pub struct OptionGradients<'a> {
    options: &'a OptionTensors,
    settled: HashSet<WeightKey>,
    gradients: Vec<f64>,
}

impl<'a> OptionGradients<'a> {
    /// Zero for every slot. The weights in `settled` are skipped, their products too.
    pub fn new(options: &'a OptionTensors, settled: impl IntoIterator<Item = WeightKey>) -> Self {
        let gradients = vec![0.0; options.slots];
        Self { options, settled: settled.into_iter().collect(), gradients }
    }

    /// One number per slot.
    pub fn into_values(self) -> Vec<f64> {
        self.gradients
    }
}

impl GradientVisitor for OptionGradients<'_> {
    fn wants(&self, key: WeightKey) -> bool {
        self.options.forms.contains_key(&key) && !self.settled.contains(&key)
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        let forms = self.options.forms.get(&gradient.key).map_or(&[][..], Vec::as_slice);
        let sources: Vec<&dyn WeightSource> = forms.iter().map(|(_, source)| &**source).collect();
        for ((slot, _), value) in forms.iter().zip(gradient.dot_sources(&sources)?) {
            self.gradients[*slot] += value;
        }
        Ok(())
    }
}
