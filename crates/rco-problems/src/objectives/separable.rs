//! The separable loss: the sum of one number for each chosen option.

use rco_core::search::{Draw, Evaluation, Objective, ObjectiveError, Split};
use rco_core::{Assignment, Problem, ProblemError};

use super::fingerprint::Fingerprint;
use super::magnitude;

/// `L(x) = Σ_i l_{i,x(i)}`. The exact knapsack minimises it; the option gradient is `l`.
#[derive(Debug, Clone, PartialEq)]
pub struct Separable {
    offsets: Vec<usize>,
    losses: Vec<f64>,
    heldout: Option<Vec<f64>>,
}

impl Separable {
    /// A loss from one finite number per option, in the problem's flat order.
    ///
    /// # Errors
    /// [`ProblemError::ValueCount`] or [`ProblemError::NotFinite`].
    pub fn new(problem: &Problem, losses: Vec<f64>) -> Result<Self, ProblemError> {
        problem.check_values("loss", &losses)?;
        magnitude::check(problem, &losses, 0.0)?;
        Ok(Self { offsets: problem.offsets().to_vec(), losses, heldout: None })
    }

    /// Adds separate losses on held-out data, one finite number per option.
    ///
    /// # Errors
    /// [`ProblemError::ValueCount`] or [`ProblemError::NotFinite`].
    pub fn with_heldout(
        mut self,
        problem: &Problem,
        losses: Vec<f64>,
    ) -> Result<Self, ProblemError> {
        problem.check_values("held-out loss", &losses)?;
        magnitude::check(problem, &losses, 0.0)?;
        self.heldout = Some(losses);
        Ok(self)
    }

    fn on(&self, split: Split) -> &[f64] {
        match (split, &self.heldout) {
            (Split::HeldOut, Some(heldout)) => heldout,
            _ => &self.losses,
        }
    }

    fn sum(&self, assignment: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        check_length(assignment, &self.offsets)?;
        let losses = self.on(split);
        Ok(assignment
            .choices()
            .iter()
            .zip(&self.offsets)
            .map(|(&k, &o)| losses[o + k as usize])
            .sum())
    }
}

/// Refuses an assignment of another problem.
pub(super) fn check_length(
    assignment: &Assignment,
    offsets: &[usize],
) -> Result<(), ObjectiveError> {
    let groups = offsets.len() - 1;
    if assignment.len() == groups {
        return Ok(());
    }
    Err(ObjectiveError::new(format!(
        "the assignment has {} choices, but the objective has {groups} groups",
        assignment.len()
    )))
}

impl Objective for Separable {
    fn evaluate(&mut self, assignment: &Assignment, _: Draw) -> Result<Evaluation, ObjectiveError> {
        let loss = self.sum(assignment, Split::Calibration)?;
        Ok(Evaluation { loss, gradient: self.losses.clone() })
    }

    fn loss(&mut self, assignment: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        self.sum(assignment, split)
    }

    fn proxy_scores(&self) -> Option<&[f64]> {
        Some(&self.losses)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn fingerprint(&self) -> String {
        Fingerprint::new("separable")
            .indices(self.offsets.iter().copied())
            .list(&self.losses)
            .list(self.heldout.as_deref().unwrap_or_default())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use rco_core::{Budget, GroupSpec, OptionSpec};

    use super::*;

    fn problem() -> Problem {
        let options = || [OptionSpec::new("small", [1]), OptionSpec::new("large", [2])];
        Problem::builder()
            .budget(Budget::at_most("bytes", 4))
            .groups(["a", "b"].map(|name| GroupSpec::new(name, options())))
            .build()
            .unwrap()
    }

    #[test]
    fn the_loss_is_the_sum_over_chosen_options() {
        let mut loss = Separable::new(&problem(), vec![1.0, 2.0, 4.0, 8.0]).unwrap();
        let at = |choices: [u32; 2]| Assignment::new(choices.to_vec());
        assert_eq!(loss.loss(&at([0, 1]), Split::Calibration).unwrap(), 9.0);
        assert_eq!(loss.loss(&at([1, 0]), Split::HeldOut).unwrap(), 6.0);
        let evaluation = loss.evaluate(&at([1, 1]), Draw(7)).unwrap();
        assert_eq!(evaluation.loss, 10.0);
        assert_eq!(evaluation.gradient, [1.0, 2.0, 4.0, 8.0]);
    }

    #[test]
    fn held_out_losses_are_used_on_held_out_data_only() {
        let problem = problem();
        let mut loss = Separable::new(&problem, vec![1.0; 4])
            .unwrap()
            .with_heldout(&problem, vec![3.0; 4])
            .unwrap();
        let at = Assignment::new(vec![0, 0]);
        assert_eq!(loss.loss(&at, Split::Calibration).unwrap(), 2.0);
        assert_eq!(loss.loss(&at, Split::Draws { first: Draw(0), count: 1 }).unwrap(), 2.0);
        assert_eq!(loss.loss(&at, Split::HeldOut).unwrap(), 6.0);
    }

    #[test]
    fn the_fingerprint_changes_with_any_number() {
        let problem = problem();
        let of = |losses: [f64; 4]| Separable::new(&problem, losses.to_vec()).unwrap();
        let first = of([1.0, 2.0, 3.0, 4.0]);
        assert_eq!(first.fingerprint(), of([1.0, 2.0, 3.0, 4.0]).fingerprint());
        assert_ne!(first.fingerprint(), of([1.0, 2.0, 3.0, 5.0]).fingerprint());
        let heldout = first.clone().with_heldout(&problem, vec![0.0; 4]).unwrap();
        assert_ne!(first.fingerprint(), heldout.fingerprint());
    }

    #[test]
    fn a_nan_loss_is_refused_by_name() {
        let error = Separable::new(&problem(), vec![1.0, f64::NAN, 4.0, 8.0]).unwrap_err();
        assert!(error.to_string().contains("option `large` of group `a`"), "{error}");
    }

    #[test]
    fn losses_whose_sum_overflows_are_refused() {
        let error = Separable::new(&problem(), vec![1e308, 0.0, -1e308, 0.0]).unwrap_err();
        assert!(error.to_string().contains("sum of the largest losses is inf"), "{error}");
    }

    #[test]
    fn an_assignment_of_another_problem_is_refused() {
        let mut loss = Separable::new(&problem(), vec![0.0; 4]).unwrap();
        assert!(loss.loss(&Assignment::new(vec![0]), Split::Calibration).is_err());
    }
}
