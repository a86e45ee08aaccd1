//! Separable benchmark instances: multiple-choice knapsacks of several families.
//!
//! The first five families follow the instance types that the knapsack literature
//! tests on (Pisinger 1995, §6; Kellerer, Pferschy and Pisinger 2004, §11.7); the
//! sixth has the shape of a language model's tensors and quantisation types.

mod llm;

use rco_core::rng::{Purpose, Stream, stream};
use rco_core::{Budget, GroupSpec, OptionSpec, Problem, ProblemError};
use serde::{Deserialize, Serialize};

/// Costs and values are drawn from 1 to this.
const RANGE: u64 = 10_000;
/// How far a weakly correlated value may lie from the cost, and by how much a
/// strongly correlated one differs.
const OFFSET: u64 = RANGE / 10;

/// How values depend on costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Family {
    /// Costs and values are independent.
    Uncorrelated,
    /// The value is the cost plus or minus a tenth of the range.
    WeaklyCorrelated,
    /// The value is the cost plus a constant: hull slopes are nearly equal, so bounds
    /// fix little.
    StronglyCorrelated,
    /// The cost is the value plus a constant.
    InverseCorrelated,
    /// The value is the cost: only filling the budget counts.
    SubsetSum,
    /// Tensors of a language model and ggml types.
    LlmShaped,
}

/// A separable instance.
#[derive(Debug, Clone, PartialEq)]
pub struct KnapsackInstance {
    /// Groups, options, costs and the budget.
    pub problem: Problem,
    /// Value of every option (flat order); larger is better, none is negative.
    pub values: Vec<f64>,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 6] = [
        Self::Uncorrelated,
        Self::WeaklyCorrelated,
        Self::StronglyCorrelated,
        Self::InverseCorrelated,
        Self::SubsetSum,
        Self::LlmShaped,
    ];

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uncorrelated => "uncorrelated",
            Self::WeaklyCorrelated => "weakly correlated",
            Self::StronglyCorrelated => "strongly correlated",
            Self::InverseCorrelated => "inverse correlated",
            Self::SubsetSum => "subset-sum",
            Self::LlmShaped => "LLM-shaped",
        }
    }

    /// Draws an instance with `groups` groups of `options` options (at most
    /// [`Family::most_options`]). The budget lies at the share `tightness` (0 to 1) of
    /// the way from the smallest to the largest total cost.
    ///
    /// # Errors
    /// [`ProblemError`] if there are no groups or no options.
    pub fn generate(
        self,
        groups: usize,
        options: usize,
        tightness: f64,
        seed: u64,
    ) -> Result<KnapsackInstance, ProblemError> {
        let mut random = stream(seed, Purpose::Instance, 10 + self as u64);
        let mut specs = Vec::with_capacity(groups);
        let mut values = Vec::with_capacity(groups * options);
        let (mut least, mut most) = (0_u64, 0_u64);
        for group in 0..groups {
            let drawn = if self == Self::LlmShaped {
                llm::group(group, groups, options, &mut random)
            } else {
                self.group(group, options, &mut random)
            };
            let costs = || drawn.spec.options.iter().map(|o| o.costs[0]);
            least += costs().min().unwrap_or(0);
            most += costs().max().unwrap_or(0);
            specs.push(drawn.spec);
            values.extend(drawn.values);
        }
        let limit = least + (tightness.clamp(0.0, 1.0) * (most - least) as f64) as u64;
        let resource = if self == Self::LlmShaped { "bytes" } else { "cost" };
        let problem =
            Problem::builder().budget(Budget::at_most(resource, limit)).groups(specs).build()?;
        Ok(KnapsackInstance { problem, values })
    }

    /// Largest number of options of a group: there are only so many ggml types.
    pub fn most_options(self) -> usize {
        if self == Self::LlmShaped { llm::TYPES.len() } else { usize::MAX }
    }

    fn group(self, number: usize, options: usize, random: &mut Stream) -> Drawn {
        let draw = |random: &mut Stream| 1 + random.below(RANGE as usize) as u64;
        let mut pairs: Vec<(u64, u64)> = (0..options)
            .map(|_| {
                let first = draw(random);
                match self {
                    Self::Uncorrelated => (first, draw(random)),
                    Self::WeaklyCorrelated => {
                        let shift = random.below(2 * OFFSET as usize + 1) as u64;
                        (first, (first + shift).saturating_sub(OFFSET).max(1))
                    }
                    Self::StronglyCorrelated => (first, first + OFFSET),
                    Self::InverseCorrelated => (first + OFFSET, first),
                    Self::SubsetSum | Self::LlmShaped => (first, first),
                }
            })
            .collect();
        // Dearer options first in no family: a user lists them by cost.
        pairs.sort_unstable();
        let specs: Vec<OptionSpec> = pairs
            .iter()
            .enumerate()
            .map(|(k, &(cost, _))| OptionSpec::new(format!("option {k}"), [cost]))
            .collect();
        Drawn {
            spec: GroupSpec::new(format!("group {number}"), specs),
            values: pairs.iter().map(|&(_, value)| value as f64).collect(),
        }
    }
}

/// A group and the values of its options.
struct Drawn {
    spec: GroupSpec,
    values: Vec<f64>,
}
