//! Assignments: one option for each group.

use serde::{Deserialize, Serialize};

use crate::problem::{Problem, ProblemError};

/// One option index for each group of a [`Problem`], in group order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Assignment(Vec<u32>);

impl Assignment {
    /// Wraps option indices, one for each group. Use [`Problem::check`] to
    /// learn whether they fit a problem.
    pub fn new(choices: Vec<u32>) -> Self {
        Self(choices)
    }

    /// The chosen option of every group.
    pub fn choices(&self) -> &[u32] {
        &self.0
    }

    /// The chosen option of group `group`.
    pub fn option(&self, group: usize) -> usize {
        self.0[group] as usize
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no group at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Problem {
    /// Total cost of an assignment for every resource.
    ///
    /// The sums cannot overflow: [`Problem`] is only built if the sum of the
    /// largest costs fits.
    ///
    /// # Panics
    /// If the assignment does not belong to this problem (see [`Problem::check`]).
    pub fn cost(&self, assignment: &Assignment) -> Vec<u64> {
        (0..self.budgets().len()).map(|r| self.cost_of(assignment, r)).collect()
    }

    /// Total cost of an assignment for resource `resource`.
    pub fn cost_of(&self, assignment: &Assignment, resource: usize) -> u64 {
        let costs = self.costs(resource);
        assignment
            .choices()
            .iter()
            .enumerate()
            .map(|(group, &k)| costs[self.options_of(group).start + k as usize])
            .sum()
    }

    /// Whether an assignment satisfies every budget of this problem.
    pub fn is_feasible(&self, assignment: &Assignment) -> bool {
        self.budgets()
            .iter()
            .enumerate()
            .all(|(r, budget)| budget.admits(self.cost_of(assignment, r)))
    }

    /// Checks that an assignment belongs to this problem: one known option for
    /// each group, ties and fixed choices respected. Budgets are not checked.
    ///
    /// # Errors
    /// [`ProblemError::AssignmentLength`], [`ProblemError::AssignmentOption`],
    /// [`ProblemError::AssignmentFixed`] or [`ProblemError::AssignmentTie`].
    pub fn check(&self, assignment: &Assignment) -> Result<(), ProblemError> {
        if assignment.len() != self.group_count() {
            return Err(ProblemError::AssignmentLength {
                expected: self.group_count(),
                found: assignment.len(),
            });
        }
        for (group, &option) in assignment.choices().iter().enumerate() {
            let count = self.options_of(group).len();
            if option as usize >= count {
                return Err(ProblemError::AssignmentOption {
                    group: self.group_name(group).to_owned(),
                    option: option as usize,
                    count,
                });
            }
            if let Some(fixed) = self.fixed(group)
                && fixed != option as usize
            {
                return Err(ProblemError::AssignmentFixed {
                    group: self.group_name(group).to_owned(),
                    fixed: self.option_name(group, fixed).to_owned(),
                    found: self.option_name(group, option as usize).to_owned(),
                });
            }
        }
        for decision in 0..self.decisions().len() {
            let members = self.decisions().members(decision);
            let first = members[0] as usize;
            for &other in &members[1..] {
                let other = other as usize;
                if assignment.option(first) != assignment.option(other) {
                    return Err(ProblemError::AssignmentTie {
                        group: self.group_name(first).to_owned(),
                        other: self.group_name(other).to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}
