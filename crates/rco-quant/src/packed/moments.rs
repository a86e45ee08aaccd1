//! Second moments of the inputs of a block's matrices.

use std::collections::{HashMap, HashSet};

use rco_model::{InputVisitor, LayerInput, ModelError, WeightKey};

use crate::grid::Hessian;

/// Adds up the moments of the matrices that are wanted; those that share an input share them.
#[derive(Debug, Default)]
pub(super) struct Moments {
    wanted: HashSet<WeightKey>,
    sums: Vec<Hessian>,
    /// Position in `sums` of every matrix seen.
    index: HashMap<WeightKey, usize>,
}

impl Moments {
    /// No moments yet.
    pub(super) fn of(wanted: impl IntoIterator<Item = WeightKey>) -> Self {
        Self { wanted: wanted.into_iter().collect(), ..Self::default() }
    }

    /// Position of the moments of a matrix; `None` for one that saw no input.
    pub(super) fn position(&self, key: WeightKey) -> Option<usize> {
        self.index.get(&key).copied()
    }

    /// Moments by position.
    pub(super) fn get(&self, position: usize) -> &Hessian {
        &self.sums[position]
    }

    /// Forgets moments that are not needed any more.
    pub(super) fn forget(&mut self, position: usize) {
        self.sums[position] = Hessian::new(0);
    }
}

impl InputVisitor for Moments {
    fn visit(&mut self, input: &LayerInput<'_>) -> Result<(), ModelError> {
        let Some(first) = input.keys.iter().find(|key| self.wanted.contains(key)) else {
            return Ok(());
        };
        let known = self.index.get(first).copied();
        let at = known.unwrap_or(self.sums.len());
        if known.is_none() {
            self.sums.push(Hessian::new(input.columns()));
            self.index.extend(input.keys.iter().map(|&key| (key, at)));
        }
        let (expected, found) = (self.sums[at].columns(), input.columns());
        self.sums[at].add(&input.floats()?).map_err(|_| ModelError::WrongShape {
            name: first.to_string(),
            expected: vec![expected],
            found: vec![found],
        })
    }
}
