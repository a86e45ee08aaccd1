//! Option gradients: the derivative of the loss when a weight moves to another form.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::block::{GradientVisitor, LinearGradient, WeightGradient};
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

    /// Slots of a weight's forms, and where these are read.
    fn of(&self, key: WeightKey) -> (Vec<usize>, Vec<&dyn WeightSource>) {
        let forms = self.forms.get(&key).map_or(&[][..], Vec::as_slice);
        forms.iter().map(|(slot, source)| (*slot, &**source)).unzip()
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
        let (slots, sources) = self.options.of(gradient.key);
        for (slot, value) in slots.into_iter().zip(gradient.dot_sources(&sources)?) {
            self.gradients[slot] += value;
        }
        Ok(())
    }
}

/// Forms `Σ ⟨∂L/∂W, W_k − W⟩²` over parts of the text: the derivative of the loss along an option
/// is a sum over tokens, of which so many at a time are added up before they are squared. So are
/// the weights of a slot, each by itself.
pub struct OptionSquares<'a> {
    options: &'a OptionTensors,
    part: usize,
    squares: Vec<f64>,
}

impl<'a> OptionSquares<'a> {
    /// Zero for every slot; `part` tokens to a part, at least 1.
    pub fn new(options: &'a OptionTensors, part: usize) -> Self {
        Self { options, part, squares: vec![0.0; options.slots] }
    }

    /// One number per slot.
    pub fn into_values(self) -> Vec<f64> {
        self.squares
    }
}

impl GradientVisitor for OptionSquares<'_> {
    fn wants(&self, key: WeightKey) -> bool {
        self.options.forms.contains_key(&key)
    }

    fn visit_linear(&mut self, gradient: &LinearGradient<'_>) -> Result<bool, ModelError> {
        let (slots, sources) = self.options.of(gradient.key);
        let squares = gradient.squares_in_parts(&sources, self.part)?;
        for (slot, square) in slots.into_iter().zip(squares) {
            self.squares[slot] += square;
        }
        Ok(true)
    }

    /// A weight that is not of a linear map inside a block: all tokens are one part.
    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        let (slots, sources) = self.options.of(gradient.key);
        for (slot, value) in slots.into_iter().zip(gradient.dot_sources(&sources)?) {
            self.squares[slot] += value * value;
        }
        Ok(())
    }
}
