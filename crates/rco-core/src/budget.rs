//! Budgets: how much of a resource an assignment may use.

use serde::{Deserialize, Serialize};

/// Whether a budget is an upper limit or has to be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum BudgetKind {
    /// The total cost must be less than or equal to the limit.
    #[default]
    AtMost,
    /// The total cost must equal the limit.
    Exactly,
}

/// The limit `B_r` of one resource `r`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Name of the resource, such as `bytes` or `microseconds`.
    pub resource: String,
    /// The limit, in the unit of the resource.
    pub limit: u64,
    /// Upper limit or equality.
    pub kind: BudgetKind,
}

impl Budget {
    /// A budget that must not be exceeded.
    pub fn at_most(resource: impl Into<String>, limit: u64) -> Self {
        Self { resource: resource.into(), limit, kind: BudgetKind::AtMost }
    }

    /// A budget that must be met to the unit.
    pub fn exactly(resource: impl Into<String>, limit: u64) -> Self {
        Self { resource: resource.into(), limit, kind: BudgetKind::Exactly }
    }

    /// Whether a total cost satisfies this budget.
    pub fn admits(&self, total: u64) -> bool {
        match self.kind {
            BudgetKind::AtMost => total <= self.limit,
            BudgetKind::Exactly => total == self.limit,
        }
    }
}
