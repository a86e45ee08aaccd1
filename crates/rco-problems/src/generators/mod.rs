//! Multiple-choice knapsacks for benchmarks: the classic families and one shaped like
//! the tensors of a language model.
//!
//! The classic families follow the definitions for the 0/1 knapsack in D. Pisinger,
//! "Where are the hard knapsack problems?" (Computers & Operations Research 32, 2005),
//! carried over to groups of options: costs are uniform in `1..=R` and sorted within a
//! group; values are sorted where the family does not tie them to the costs.

mod llm;

use rco_core::rng::{Purpose, Stream, stream};
use rco_core::{Budget, GroupSpec, OptionSpec, Problem, ProblemError};
use serde::{Deserialize, Serialize};

pub use llm::{QuantType, TYPES};

/// Range `R` of the costs of the classic families.
const RANGE: u64 = 10_000;

/// A kind of instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Values independent of costs.
    Uncorrelated,
    /// `v = c + U(−R/10, R/10)`, at least 1.
    WeaklyCorrelated,
    /// `v = c + R/10`.
    StronglyCorrelated,
    /// `c = v + R/10`.
    InverseStronglyCorrelated,
    /// `v = c`: the relaxation says nothing, only the sum counts.
    SubsetSum,
    /// Weight tensors and quantisation types: costs in bytes, values
    /// `−sensitivity · error` over several decades.
    LlmShaped,
}

/// A separable problem: maximise the sum of the values of the chosen options.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Groups, costs and one `at most` budget.
    pub problem: Problem,
    /// Value of every option (flat order of the problem).
    pub values: Vec<f64>,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 6] = [
        Self::Uncorrelated,
        Self::WeaklyCorrelated,
        Self::StronglyCorrelated,
        Self::InverseStronglyCorrelated,
        Self::SubsetSum,
        Self::LlmShaped,
    ];

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uncorrelated => "uncorrelated",
            Self::WeaklyCorrelated => "weakly correlated",
            Self::StronglyCorrelated => "strongly correlated",
            Self::InverseStronglyCorrelated => "inverse strongly correlated",
            Self::SubsetSum => "subset-sum",
            Self::LlmShaped => "LLM-shaped",
        }
    }

    /// Draws an instance of `groups` groups with `options` options each (the LLM-shaped
    /// family has at most as many as [`TYPES`]). The budget lies the share `tightness`
    /// (0 to 1) of the way from the smallest total to the largest.
    ///
    /// # Errors
    /// [`ProblemError`] if there is no group or no option.
    pub fn generate(
        self,
        groups: usize,
        options: usize,
        tightness: f64,
        seed: u64,
    ) -> Result<Instance, ProblemError> {
        let mut random = stream(seed, Purpose::Instance, 16 + self as u64);
        let drawn: Vec<Drawn> = if self == Self::LlmShaped {
            llm::draw(groups, options, &mut random)
        } else {
            (0..groups).map(|i| self.classic(i, options, &mut random)).collect()
        };
        assemble(drawn, tightness)
    }

    /// One group of a classic family.
    fn classic(self, group: usize, options: usize, random: &mut Stream) -> Drawn {
        let mut draw =
            || (0..options).map(|_| 1 + random.below(RANGE as usize) as u64).collect::<Vec<_>>();
        let mut costs = draw();
        costs.sort_unstable();
        let tenth = (RANGE / 10) as f64;
        let as_values = |costs: &[u64]| costs.iter().map(|&c| c as f64).collect::<Vec<_>>();
        let values = match self {
            Self::Uncorrelated => {
                let mut values = draw();
                values.sort_unstable();
                as_values(&values)
            }
            Self::WeaklyCorrelated => costs
                .iter()
                .map(|&c| (c as f64 + (tenth * (2.0 * random.uniform() - 1.0)).round()).max(1.0))
                .collect(),
            Self::StronglyCorrelated => costs.iter().map(|&c| c as f64 + tenth).collect(),
            Self::InverseStronglyCorrelated => {
                let values = as_values(&costs);
                costs.iter_mut().for_each(|c| *c += RANGE / 10);
                values
            }
            Self::SubsetSum | Self::LlmShaped => as_values(&costs),
        };
        let options = costs
            .iter()
            .enumerate()
            .map(|(k, &cost)| OptionSpec::new(format!("option {k}"), [cost]))
            .collect::<Vec<_>>();
        Drawn { group: GroupSpec::new(format!("group {group}"), options), values }
    }
}

/// A group and the values of its options.
pub(crate) struct Drawn {
    pub(crate) group: GroupSpec,
    pub(crate) values: Vec<f64>,
}

fn assemble(drawn: Vec<Drawn>, tightness: f64) -> Result<Instance, ProblemError> {
    let (mut smallest, mut largest) = (0_u64, 0_u64);
    for Drawn { group, .. } in &drawn {
        let costs = || group.options.iter().map(|option| option.costs[0]);
        smallest += costs().min().unwrap_or(0);
        largest += costs().max().unwrap_or(0);
    }
    let room = ((largest - smallest) as f64 * tightness.clamp(0.0, 1.0)) as u64;
    let (groups, values): (Vec<_>, Vec<_>) =
        drawn.into_iter().map(|drawn| (drawn.group, drawn.values)).unzip();
    let problem = Problem::builder()
        .budget(Budget::at_most("bytes", smallest + room.min(largest - smallest)))
        .groups(groups)
        .build()?;
    Ok(Instance { problem, values: values.concat() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_the_shape_asked_for_and_repeats() {
        for family in Family::ALL {
            let instance = family.generate(40, 7, 0.4, 3).unwrap();
            assert_eq!(instance.problem.group_count(), 40);
            assert_eq!(instance.values.len(), 280);
            assert!(instance.values.iter().all(|v| v.is_finite()));
            assert_eq!(instance, family.generate(40, 7, 0.4, 3).unwrap());
            assert_ne!(instance, family.generate(40, 7, 0.4, 4).unwrap());
        }
    }

    #[test]
    fn tightness_spans_the_range_of_totals() {
        for family in Family::ALL {
            for (tightness, at) in [(0.0, 0), (1.0, 1)] {
                let problem = family.generate(9, 4, tightness, 1).unwrap().problem;
                let (smallest, largest) = problem.cost_range(0);
                assert_eq!(problem.budgets()[0].limit, [smallest, largest][at]);
            }
        }
    }

    #[test]
    fn costs_of_an_8b_model_are_its_ggml_bytes() {
        let problem = Family::LlmShaped.generate(252, 7, 0.5, 0).unwrap().problem;
        // Query projection, 4096 x 4096 in Q4_K: 144 bytes for 256 weights.
        assert_eq!(problem.costs(0)[problem.options_of(0)][3], 4096 * 4096 / 256 * 144);
    }
}
