//! The solver: fixed costs and budgets, values that change from call to call.

use super::several::Several;
use super::single::Single;
use super::{Certificate, KnapsackError, Settings};
use crate::budget::Budget;
use crate::decisions::Decisions;

/// Largest magnitude of a value, so that no difference or sum overflows.
const LARGEST_VALUE: f64 = 1e300;

/// Solves multiple-choice knapsacks that differ in their values only.
///
/// A solver owns its workspace: after a few calls it allocates nothing more with one
/// budget. Clone it to solve on several threads.
#[derive(Debug, Clone)]
pub struct Solver {
    offsets: Vec<usize>,
    /// `costs[r][flat]`.
    costs: Vec<Vec<u64>>,
    totals: Vec<u64>,
    method: Method,
}

#[derive(Debug, Clone)]
enum Method {
    Single(Box<Single>),
    Several(Box<Several>),
}

/// What the last call of [`Solver::solve`] had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Decisions left open by reduced-cost fixing.
    pub core_decisions: usize,
    /// Options left open besides those of the break solution.
    pub core_options: usize,
    /// Partial solutions looked at.
    pub states: u64,
}

impl Solver {
    /// Prepares a solver for the costs of `decisions`, with one budget per resource.
    ///
    /// # Errors
    /// [`KnapsackError::NoDecisions`], [`KnapsackError::NoOptions`],
    /// [`KnapsackError::BudgetCount`], [`KnapsackError::CostOverflow`], or
    /// [`KnapsackError::Infeasible`] if a budget cannot be met by itself.
    pub fn new(
        decisions: &Decisions,
        budgets: &[Budget],
        settings: Settings,
    ) -> Result<Self, KnapsackError> {
        if decisions.is_empty() {
            return Err(KnapsackError::NoDecisions);
        }
        if budgets.is_empty() || budgets.len() != decisions.resource_count() {
            return Err(KnapsackError::BudgetCount {
                expected: decisions.resource_count(),
                found: budgets.len(),
            });
        }
        let method = if let [budget] = budgets {
            Method::Single(Box::new(Single::new(decisions, 0, budget, settings)?))
        } else {
            Method::Several(Box::new(Several::new(decisions, budgets, settings)?))
        };
        Ok(Self {
            offsets: decisions.offsets().to_vec(),
            costs: (0..budgets.len()).map(|r| decisions.costs(r).to_vec()).collect(),
            totals: vec![0; budgets.len()],
            method,
        })
    }

    /// Maximises the sum of `values[flat]` over the chosen options and writes one local
    /// option index per decision into `choices`.
    ///
    /// Ties are broken the same way in every call with equal input.
    ///
    /// # Errors
    /// [`KnapsackError::Length`] and [`KnapsackError::BadValue`]; with several budgets
    /// also [`KnapsackError::JointlyInfeasible`], [`KnapsackError::Undecided`] and
    /// [`KnapsackError::Highs`].
    pub fn solve(
        &mut self,
        values: &[f64],
        choices: &mut [u32],
    ) -> Result<Certificate, KnapsackError> {
        self.check(values, choices)?;
        let certificate = match &mut self.method {
            Method::Single(single) => single.solve(&self.offsets, values, choices),
            Method::Several(several) => several.solve(&self.offsets, values, choices)?,
        };
        for (total, costs) in self.totals.iter_mut().zip(&self.costs) {
            let pairs = self.offsets.iter().zip(&*choices);
            *total = pairs.map(|(&start, &choice)| costs[start + choice as usize]).sum();
        }
        Ok(certificate)
    }

    /// Total cost of the last solution in every resource; zeros before the first one.
    pub fn costs(&self) -> &[u64] {
        &self.totals
    }

    /// What the last call of [`Solver::solve`] had to do.
    pub fn work(&self) -> Work {
        match &self.method {
            Method::Single(single) => single.work(),
            Method::Several(several) => several.work(),
        }
    }

    fn check(&self, values: &[f64], choices: &[u32]) -> Result<(), KnapsackError> {
        let decisions = self.offsets.len() - 1;
        let options = self.offsets[decisions];
        if values.len() != options {
            let found = values.len();
            return Err(KnapsackError::Length { what: "values", expected: options, found });
        }
        if choices.len() != decisions {
            let found = choices.len();
            return Err(KnapsackError::Length { what: "choices", expected: decisions, found });
        }
        let bad = values.iter().position(|value| value.is_nan() || value.abs() > LARGEST_VALUE);
        if let Some(flat) = bad {
            let decision = self.offsets.partition_point(|&start| start <= flat) - 1;
            return Err(KnapsackError::BadValue {
                decision,
                option: flat - self.offsets[decision],
                value: values[flat],
            });
        }
        Ok(())
    }
}
