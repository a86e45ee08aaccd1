//! The quadratic loss: one number for each chosen option and one for each chosen pair.

use rayon::prelude::*;
use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_core::{Assignment, Problem, ProblemError};

use super::fingerprint::Fingerprint;
use super::magnitude;
use super::separable::check_length;

/// What two options of different groups add to the loss if both are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The two options, as flat indices.
    pub options: [usize; 2],
    /// What they add.
    pub loss: f64,
    /// What they add on held-out data; `loss` if `None`.
    pub heldout_loss: Option<f64>,
}

/// Why a quadratic loss is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuadraticError {
    /// The linear part is wrong, or a pair's loss is not finite.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// A pair names an option that does not exist.
    #[error("pair number {pair} names option {option}, but the problem has {count} options")]
    UnknownOption {
        /// Position of the pair, counted from 0.
        pair: usize,
        /// The flat index found.
        option: usize,
        /// Options in the problem.
        count: usize,
    },
    /// A pair joins two options of one group, of which only one can be chosen.
    #[error("pair number {pair} joins two options of group `{group}`: a pair joins two groups")]
    SameGroup {
        /// Position of the pair, counted from 0.
        pair: usize,
        /// Name of the group.
        group: String,
    },
}

/// `L(x) = Σ_i l_{i,x(i)} + Σ_{i<h} q_{(i,x(i)),(h,x(h))}`.
///
/// The option gradient is exact: that of option `k` of group `i` is
/// `l_ik + Σ_h q_{(i,k),(h,x(h))}`, so its differences within a group are the changes
/// of the loss when that group alone moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Quadratic {
    offsets: Vec<usize>,
    linear: Vec<f64>,
    heldout_linear: Option<Vec<f64>>,
    /// Neighbours of option `j` are the entries `starts[j]..starts[j + 1]` below, in
    /// ascending order; every pair stands there twice.
    starts: Vec<usize>,
    neighbours: Vec<u32>,
    weights: Vec<f64>,
    heldout_weights: Vec<f64>,
}

impl Quadratic {
    /// A loss from one finite number per option (flat order) and any number of pairs.
    /// Pairs of the same two options add up.
    ///
    /// # Errors
    /// [`QuadraticError`].
    pub fn new(
        problem: &Problem,
        linear: Vec<f64>,
        pairs: Vec<Pair>,
    ) -> Result<Self, QuadraticError> {
        problem.check_values("loss", &linear)?;
        let count = linear.len();
        let group_of = |flat: usize| problem.offsets().partition_point(|&start| start <= flat) - 1;
        for (number, pair) in pairs.iter().enumerate() {
            if let Some(&option) = pair.options.iter().find(|&&option| option >= count) {
                return Err(QuadraticError::UnknownOption { pair: number, option, count });
            }
            let [first, second] = pair.options.map(group_of);
            if first == second {
                let group = problem.group_name(first).to_owned();
                return Err(QuadraticError::SameGroup { pair: number, group });
            }
            for value in [pair.loss, pair.heldout_loss.unwrap_or(0.0)] {
                if !value.is_finite() {
                    let what = format!("loss of pair number {number}");
                    return Err(ProblemError::NotFinite { what, value }.into());
                }
            }
        }
        let weight = |pair: &Pair| pair.loss.abs().max(pair.heldout_loss.unwrap_or(0.0).abs());
        magnitude::check(problem, &linear, pairs.iter().map(weight).sum())?;
        let mut entries: Vec<(usize, usize, f64, f64)> = Vec::with_capacity(2 * pairs.len());
        for pair in pairs {
            let [a, b] = pair.options;
            let heldout = pair.heldout_loss.unwrap_or(pair.loss);
            entries.push((a, b, pair.loss, heldout));
            entries.push((b, a, pair.loss, heldout));
        }
        // A stable sort: repeated pairs keep their order, and so does their sum.
        entries.sort_by_key(|&(a, b, ..)| (a, b));
        let mut starts = vec![0_usize; count + 1];
        for &(a, ..) in &entries {
            starts[a + 1] += 1;
        }
        for j in 0..count {
            starts[j + 1] += starts[j];
        }
        Ok(Self {
            offsets: problem.offsets().to_vec(),
            linear,
            heldout_linear: None,
            starts,
            neighbours: entries.iter().map(|&(_, b, ..)| b as u32).collect(),
            weights: entries.iter().map(|&(_, _, loss, _)| loss).collect(),
            heldout_weights: entries.iter().map(|&(.., heldout)| heldout).collect(),
        })
    }

    /// Adds separate linear losses on held-out data, one finite number per option.
    ///
    /// # Errors
    /// [`ProblemError::ValueCount`] or [`ProblemError::NotFinite`].
    pub fn with_heldout(
        mut self,
        problem: &Problem,
        linear: Vec<f64>,
    ) -> Result<Self, ProblemError> {
        problem.check_values("held-out loss", &linear)?;
        let pairs = self.heldout_weights.iter().map(|weight| weight.abs()).sum();
        magnitude::check(problem, &linear, pairs)?;
        self.heldout_linear = Some(linear);
        Ok(self)
    }

    /// Number of pair terms.
    pub fn pair_count(&self) -> usize {
        self.neighbours.len() / 2
    }

    /// Flat index of every chosen option.
    fn chosen(&self, assignment: &Assignment) -> Result<Vec<usize>, ObjectiveError> {
        check_length(assignment, &self.offsets)?;
        let flat = |(&k, &start): (&u32, &usize)| start + k as usize;
        Ok(assignment.choices().iter().zip(&self.offsets).map(flat).collect())
    }

    /// The options that share a pair with option `j`, and the entries of `weights` there.
    fn terms<'a>(&'a self, j: usize, weights: &'a [f64]) -> impl Iterator<Item = (usize, f64)> {
        let range = self.starts[j]..self.starts[j + 1];
        let others = self.neighbours[range.clone()].iter().map(|&other| other as usize);
        others.zip(weights[range].iter().copied())
    }

    fn loss_of(&self, assignment: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        let (linear, weights) = match split {
            Split::HeldOut => (
                self.heldout_linear.as_deref().unwrap_or(&self.linear),
                self.heldout_weights.as_slice(),
            ),
            _ => (self.linear.as_slice(), self.weights.as_slice()),
        };
        let chosen = self.chosen(assignment)?;
        let mut is_chosen = vec![false; self.linear.len()];
        for &j in &chosen {
            is_chosen[j] = true;
        }
        let mut loss = 0.0;
        for &j in &chosen {
            loss += linear[j];
            for (other, weight) in self.terms(j, weights) {
                if other < j && is_chosen[other] {
                    loss += weight;
                }
            }
        }
        Ok(loss)
    }

    fn evaluation_of(&self, assignment: &Assignment) -> Result<Evaluation, ObjectiveError> {
        let mut gradient = self.linear.clone();
        for j in self.chosen(assignment)? {
            for (other, weight) in self.terms(j, &self.weights) {
                gradient[other] += weight;
            }
        }
        Ok(Evaluation { loss: self.loss_of(assignment, Split::Calibration)?, gradient })
    }
}

impl Objective for Quadratic {
    fn evaluate(&mut self, assignment: &Assignment, _: Draw) -> Result<Evaluation, ObjectiveError> {
        self.evaluation_of(assignment)
    }

    fn loss(&mut self, assignment: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        self.loss_of(assignment, split)
    }

    fn evaluate_batch(
        &mut self,
        requests: &[(Assignment, Draw)],
    ) -> Result<Vec<Evaluation>, ObjectiveError> {
        let this = &*self;
        let all: Vec<_> = requests.par_iter().map(|(at, _)| this.evaluation_of(at)).collect();
        all.into_iter().collect()
    }

    fn loss_batch(
        &mut self,
        assignments: &[Assignment],
        split: Split,
    ) -> Result<Vec<f64>, ObjectiveError> {
        let this = &*self;
        let all: Vec<_> = assignments.par_iter().map(|at| this.loss_of(at, split)).collect();
        all.into_iter().collect()
    }

    fn proxy_scores(&self) -> Option<&[f64]> {
        Some(&self.linear)
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn fingerprint(&self) -> String {
        Fingerprint::new("quadratic")
            .indices(self.offsets.iter().copied())
            .list(&self.linear)
            .list(self.heldout_linear.as_deref().unwrap_or_default())
            .indices(self.starts.iter().copied())
            .indices(self.neighbours.iter().map(|&j| j as usize))
            .list(&self.weights)
            .list(&self.heldout_weights)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rco_core::{Budget, GroupSpec, OptionSpec};

    use super::*;

    fn problem(options: &[usize]) -> Problem {
        Problem::builder()
            .budget(Budget::at_most("bytes", 1 << 20))
            .groups(options.iter().enumerate().map(|(i, &count)| {
                let option = |k| OptionSpec::new(format!("o{k}"), [k as u64]);
                GroupSpec::new(format!("g{i}"), (0..count).map(option).collect::<Vec<_>>())
            }))
            .build()
            .unwrap()
    }

    fn pair(a: usize, b: usize, loss: f64) -> Pair {
        Pair { options: [a, b], loss, heldout_loss: None }
    }

    #[test]
    fn a_pair_counts_only_if_both_options_are_chosen() {
        let mut loss =
            Quadratic::new(&problem(&[2, 2]), vec![1.0, 2.0, 4.0, 8.0], vec![pair(3, 0, 16.0)])
                .unwrap();
        let at = |choices: [u32; 2]| Assignment::new(choices.to_vec());
        assert_eq!(loss.loss(&at([0, 1]), Split::Calibration).unwrap(), 25.0);
        assert_eq!(loss.loss(&at([1, 1]), Split::Calibration).unwrap(), 10.0);
    }

    #[test]
    fn held_out_pairs_are_used_on_held_out_data_only() {
        let problem = problem(&[1, 1]);
        let with = Pair { options: [0, 1], loss: 1.0, heldout_loss: Some(10.0) };
        let mut loss = Quadratic::new(&problem, vec![0.0; 2], vec![with])
            .unwrap()
            .with_heldout(&problem, vec![0.5; 2])
            .unwrap();
        let at = Assignment::new(vec![0, 0]);
        assert_eq!(loss.loss(&at, Split::Calibration).unwrap(), 1.0);
        assert_eq!(loss.loss(&at, Split::HeldOut).unwrap(), 11.0);
    }

    #[test]
    fn repeated_pairs_add_up() {
        let pairs = vec![pair(0, 1, 1.0), pair(1, 0, 2.0)];
        let mut loss = Quadratic::new(&problem(&[1, 1]), vec![0.0; 2], pairs).unwrap();
        let at = Assignment::new(vec![0, 0]);
        assert_eq!(loss.loss(&at, Split::Calibration).unwrap(), 3.0);
    }

    #[test]
    fn a_pair_within_a_group_is_refused() {
        let error = Quadratic::new(&problem(&[2, 1]), vec![0.0; 3], vec![pair(0, 1, 1.0)]);
        assert!(matches!(error, Err(QuadraticError::SameGroup { pair: 0, .. })));
    }

    #[test]
    fn a_pair_with_an_unknown_option_is_refused() {
        let error = Quadratic::new(&problem(&[2, 1]), vec![0.0; 3], vec![pair(0, 3, 1.0)]);
        assert!(matches!(error, Err(QuadraticError::UnknownOption { option: 3, count: 3, .. })));
    }

    #[test]
    fn an_infinite_pair_is_refused() {
        let error =
            Quadratic::new(&problem(&[2, 1]), vec![0.0; 3], vec![pair(0, 2, f64::INFINITY)]);
        assert!(matches!(error, Err(QuadraticError::Problem(ProblemError::NotFinite { .. }))));
    }

    /// A ragged problem with random terms, and an assignment of it.
    fn instances() -> impl Strategy<Value = (Problem, Vec<f64>, Vec<Pair>, Vec<u32>)> {
        prop::collection::vec(1_usize..5, 2..6).prop_flat_map(|counts| {
            let problem = problem(&counts);
            let options = problem.option_count();
            let linear = prop::collection::vec(-1.0..1.0_f64, options);
            let pairs = prop::collection::vec((0..options, 0..options, -1.0..1.0_f64), 0..40);
            let choices: Vec<_> = counts.iter().map(|&count| 0..count as u32).collect();
            (Just(problem), linear, pairs, choices).prop_map(|(problem, linear, raw, choices)| {
                let group = |flat: usize| problem.offsets().partition_point(|&s| s <= flat);
                let apart = raw.into_iter().filter(|&(a, b, _)| group(a) != group(b));
                let pairs = apart.map(|(a, b, loss)| pair(a, b, loss)).collect();
                (problem, linear, pairs, choices)
            })
        })
    }

    /// The loss by its definition, over all pairs of groups.
    fn by_definition(problem: &Problem, linear: &[f64], pairs: &[Pair], choices: &[u32]) -> f64 {
        let flat: Vec<usize> =
            choices.iter().zip(problem.offsets()).map(|(&k, &o)| o + k as usize).collect();
        let both = |p: &&Pair| p.options.iter().all(|j| flat.contains(j));
        flat.iter().map(|&j| linear[j]).sum::<f64>()
            + pairs.iter().filter(both).map(|p| p.loss).sum::<f64>()
    }

    proptest! {
        #[test]
        fn the_loss_is_that_of_the_definition((problem, linear, pairs, choices) in instances()) {
            let expected = by_definition(&problem, &linear, &pairs, &choices);
            let mut loss = Quadratic::new(&problem, linear, pairs).unwrap();
            let found = loss.loss(&Assignment::new(choices), Split::Calibration).unwrap();
            prop_assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }

        #[test]
        fn gradient_differences_are_the_changes_of_single_moves(
            (problem, linear, pairs, choices) in instances()
        ) {
            let mut loss = Quadratic::new(&problem, linear, pairs).unwrap();
            let at = Assignment::new(choices.clone());
            let here = loss.evaluate(&at, Draw(0)).unwrap();
            for group in 0..problem.group_count() {
                let start = problem.options_of(group).start;
                for k in 0..problem.options_of(group).len() {
                    let mut moved = choices.clone();
                    moved[group] = k as u32;
                    let there = loss.loss(&Assignment::new(moved), Split::Calibration).unwrap();
                    let predicted =
                        here.gradient[start + k] - here.gradient[start + at.option(group)];
                    prop_assert!((there - here.loss - predicted).abs() < 1e-12);
                }
            }
        }

        #[test]
        fn batches_equal_single_evaluations_to_the_bit(
            (problem, linear, pairs, choices) in instances()
        ) {
            let mut loss = Quadratic::new(&problem, linear, pairs).unwrap();
            let at = Assignment::new(choices);
            let requests = vec![(at.clone(), Draw(0)); 3];
            let single = loss.evaluate(&at, Draw(0)).unwrap();
            prop_assert_eq!(loss.evaluate_batch(&requests).unwrap(), vec![single.clone(); 3]);
            let losses = loss.loss_batch(&[at.clone(), at], Split::Calibration).unwrap();
            prop_assert_eq!(losses, vec![single.loss; 2]);
        }
    }
}
