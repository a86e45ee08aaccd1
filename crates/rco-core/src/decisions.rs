//! The problem as the solver sees it: ties merged, fixed choices reduced to one option.
//!
//! A *decision* is one group, or several groups tied together. Its options carry
//! the summed costs of its members. Everything that searches (geometry, knapsack,
//! relaxation) works on decisions; objectives and plans speak of groups.

use std::ops::Range;

use crate::assignment::Assignment;
use crate::problem::Problem;

/// Decisions of a [`Problem`], as ragged arrays.
///
/// Options of all decisions lie in one flat order: decision 0's options first.
/// `flat` below means an index into that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decisions {
    pub(crate) offsets: Vec<usize>,
    pub(crate) costs: Vec<Vec<u64>>,
    pub(crate) sizes: Vec<u64>,
    pub(crate) member_offsets: Vec<usize>,
    pub(crate) members: Vec<u32>,
    /// Original option index within a member group, for each flat option.
    pub(crate) option_index: Vec<u32>,
}

impl Decisions {
    /// Number of decisions.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there is nothing to decide on.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Number of options of all decisions together: the dimension of logit space.
    pub fn option_count(&self) -> usize {
        self.option_index.len()
    }

    /// Boundaries of the decisions in the flat order; `len() + 1` entries.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Flat indices of the options of one decision.
    pub fn options_of(&self, decision: usize) -> Range<usize> {
        self.offsets[decision]..self.offsets[decision + 1]
    }

    /// Number of resources.
    pub fn resource_count(&self) -> usize {
        self.costs.len()
    }

    /// Cost of every option (flat order) in one resource.
    pub fn costs(&self, resource: usize) -> &[u64] {
        &self.costs[resource]
    }

    /// Size (weight count) of every decision: the sum over its members.
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// The groups that a decision decides on.
    pub fn members(&self, decision: usize) -> &[u32] {
        &self.members[self.member_offsets[decision]..self.member_offsets[decision + 1]]
    }

    /// Total cost of `choices` (one local option index per decision) in one resource.
    pub fn cost_of(&self, choices: &[u32], resource: usize) -> u64 {
        let costs = &self.costs[resource];
        choices.iter().zip(&self.offsets).map(|(&k, &start)| costs[start + k as usize]).sum()
    }

    /// Turns one local option index per decision into an assignment of the groups.
    pub fn expand(&self, choices: &[u32]) -> Assignment {
        debug_assert_eq!(choices.len(), self.len());
        let mut out = vec![0_u32; self.members.len()];
        for (decision, &choice) in choices.iter().enumerate() {
            let option = self.option_index[self.offsets[decision] + choice as usize];
            for &group in self.members(decision) {
                out[group as usize] = option;
            }
        }
        Assignment::new(out)
    }

    /// The inverse of [`Decisions::expand`] for an assignment that passes [`Problem::check`].
    pub fn restrict(&self, assignment: &Assignment) -> Vec<u32> {
        (0..self.len())
            .map(|decision| {
                let option = assignment.choices()[self.members(decision)[0] as usize];
                let range = self.options_of(decision);
                self.option_index[range].iter().position(|&o| o == option).unwrap_or(0) as u32
            })
            .collect()
    }

    /// Adds up a value per option of every group (flat order of `problem`) into a
    /// value per option of every decision: tied groups add, unavailable options vanish.
    ///
    /// # Panics
    /// If `per_group` does not have [`Problem::option_count`] entries or `out` not
    /// [`Decisions::option_count`].
    pub fn fold(&self, problem: &Problem, per_group: &[f64], out: &mut [f64]) {
        assert_eq!(per_group.len(), problem.option_count());
        assert_eq!(out.len(), self.option_count());
        for decision in 0..self.len() {
            for flat in self.options_of(decision) {
                let option = self.option_index[flat] as usize;
                out[flat] = self
                    .members(decision)
                    .iter()
                    .map(|&group| per_group[problem.options_of(group as usize).start + option])
                    .sum();
            }
        }
    }
}
