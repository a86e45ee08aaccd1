//! The problem: groups with options, integer costs, budgets, ties and fixed choices.

mod builder;
mod error;

use std::ops::Range;
use std::sync::Arc;

pub use builder::{GroupSpec, OptionSpec, ProblemBuilder};
pub use error::{Blocker, ProblemError};

use crate::budget::Budget;
use crate::decisions::Decisions;

/// A validated problem. Immutable: built once by [`ProblemBuilder`].
///
/// Options of all groups lie in one flat order, group 0's options first. Values
/// per option (gradients, scores, losses) are slices in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(crate) budgets: Vec<Budget>,
    pub(crate) group_names: Vec<Arc<str>>,
    pub(crate) sizes: Vec<u64>,
    pub(crate) offsets: Vec<usize>,
    pub(crate) option_names: Vec<Arc<str>>,
    /// `costs[r][flat]`.
    pub(crate) costs: Vec<Vec<u64>>,
    pub(crate) fixed: Vec<Option<u32>>,
    pub(crate) decisions: Decisions,
}

impl Problem {
    /// Starts an empty problem.
    pub fn builder() -> ProblemBuilder {
        ProblemBuilder::default()
    }

    /// The budgets, one for each resource.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// Number of groups `N`.
    pub fn group_count(&self) -> usize {
        self.group_names.len()
    }

    /// Number of options of all groups together.
    pub fn option_count(&self) -> usize {
        self.option_names.len()
    }

    /// Name of a group.
    pub fn group_name(&self, group: usize) -> &str {
        &self.group_names[group]
    }

    /// The group of that name.
    pub fn group_by_name(&self, name: &str) -> Option<usize> {
        self.group_names.iter().position(|n| &**n == name)
    }

    /// Size of a group: its number of weights.
    pub fn size(&self, group: usize) -> u64 {
        self.sizes[group]
    }

    /// Flat indices of a group's options.
    pub fn options_of(&self, group: usize) -> Range<usize> {
        self.offsets[group]..self.offsets[group + 1]
    }

    /// Boundaries of the groups in the flat order; `group_count() + 1` entries.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Name of an option of a group.
    pub fn option_name(&self, group: usize, option: usize) -> &str {
        &self.option_names[self.offsets[group] + option]
    }

    /// Index within its group of the option of that name.
    pub fn option_by_name(&self, group: usize, name: &str) -> Option<usize> {
        self.option_names[self.options_of(group)].iter().position(|n| &**n == name)
    }

    /// Costs `c_ik` of every option (flat order) in one resource.
    pub fn costs(&self, resource: usize) -> &[u64] {
        &self.costs[resource]
    }

    /// The option a group is fixed to, if any.
    pub fn fixed(&self, group: usize) -> Option<usize> {
        self.fixed[group].map(|k| k as usize)
    }

    /// The problem as the solver sees it.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Smallest and largest possible total cost in one resource, respecting ties
    /// and fixed choices, ignoring the other resources.
    pub fn cost_range(&self, resource: usize) -> (u64, u64) {
        let mut range = (0, 0);
        for decision in 0..self.decisions.len() {
            let costs = &self.decisions.costs(resource)[self.decisions.options_of(decision)];
            range.0 += costs.iter().min().copied().unwrap_or(0);
            range.1 += costs.iter().max().copied().unwrap_or(0);
        }
        range
    }

    /// Checks a list with one finite value per option (flat order), named `what`.
    ///
    /// # Errors
    /// [`ProblemError::ValueCount`] or [`ProblemError::NotFinite`].
    pub fn check_values(&self, what: &str, values: &[f64]) -> Result<(), ProblemError> {
        if values.len() != self.option_count() {
            return Err(ProblemError::ValueCount {
                what: what.to_owned(),
                expected: self.option_count(),
                found: values.len(),
            });
        }
        let Some(flat) = values.iter().position(|v| !v.is_finite()) else {
            return Ok(());
        };
        let group = self.offsets.partition_point(|&start| start <= flat) - 1;
        Err(ProblemError::NotFinite {
            what: format!(
                "{what} of option `{}` of group `{}`",
                self.option_names[flat], self.group_names[group]
            ),
            value: values[flat],
        })
    }
}
