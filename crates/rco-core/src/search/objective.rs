//! The loss that is minimised, as the search sees it.

use crate::assignment::Assignment;

/// Names the random sample (a sequence of text, a batch, a simulation seed) that
/// a stochastic loss is evaluated on. Equal draws mean equal samples. A
/// deterministic objective ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Draw(pub u64);

/// The data a loss without gradient is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Split {
    /// The mean over the `count` draws from `first` on: cheaper than all of the
    /// calibration data, for selection with growing samples.
    Draws {
        /// The first draw.
        first: Draw,
        /// How many draws follow each other.
        count: u32,
    },
    /// All data that the search may learn from.
    Calibration,
    /// Data that only selects and reports.
    HeldOut,
}

/// Loss and option gradient at one assignment on one draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The loss; smaller is better.
    pub loss: f64,
    /// `g_ik`: derivative of the loss when probability mass moves onto option `k`
    /// of group `i`; one entry per option in the problem's flat order. Only
    /// differences within a group matter.
    pub gradient: Vec<f64>,
}

/// How the loss answers to the size of what a plan changes, on one draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Strain {
    /// The loss; smaller is better.
    pub loss: f64,
    /// For every group the derivative of the loss when what its chosen option changes is scaled, at
    /// the scale 1: for a weight with the error `e`, `⟨∂L/∂W, e⟩`.
    pub groups: Vec<f64>,
}

/// An objective could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[error("the loss could not be evaluated: {message}")]
pub struct ObjectiveError {
    /// What went wrong, in words for the user.
    pub message: String,
    /// The underlying error, if there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ObjectiveError {
    /// An error without an underlying cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }
}

/// A loss over assignments, possibly stochastic, with one derivative per option.
///
/// Implementations must be deterministic: the same assignment and the same draw
/// or split give the same bits, whatever the number of threads.
pub trait Objective {
    /// Loss at `assignment` on the sample named by `draw`, and the option gradient there.
    ///
    /// # Errors
    /// [`ObjectiveError`] if the loss cannot be computed.
    fn evaluate(
        &mut self,
        assignment: &Assignment,
        draw: Draw,
    ) -> Result<Evaluation, ObjectiveError>;

    /// Loss alone (cheaper), on `split`.
    ///
    /// # Errors
    /// [`ObjectiveError`] if the loss cannot be computed.
    fn loss(&mut self, assignment: &Assignment, split: Split) -> Result<f64, ObjectiveError>;

    /// Loss and [`Strain`] at `assignment` on the sample named by `draw`; `None`, the default, where
    /// choices have no scale, or where the errors of the options of a group are not as good as
    /// independent. The separable scores have to be in proportion to squares of that scale.
    ///
    /// # Errors
    /// [`ObjectiveError`] if the loss cannot be computed.
    fn strain(
        &mut self,
        _assignment: &Assignment,
        _draw: Draw,
    ) -> Result<Option<Strain>, ObjectiveError> {
        Ok(None)
    }

    /// Several evaluations at once, results in the order of `requests`. Override it
    /// where they can run side by side; the results must not depend on how.
    ///
    /// # Errors
    /// The first [`ObjectiveError`], in the order of `requests`.
    fn evaluate_batch(
        &mut self,
        requests: &[(Assignment, Draw)],
    ) -> Result<Vec<Evaluation>, ObjectiveError> {
        requests.iter().map(|(assignment, draw)| self.evaluate(assignment, *draw)).collect()
    }

    /// Several losses at once, results in the order of `assignments`.
    ///
    /// # Errors
    /// The first [`ObjectiveError`], in the order of `assignments`.
    fn loss_batch(
        &mut self,
        assignments: &[Assignment],
        split: Split,
    ) -> Result<Vec<f64>, ObjectiveError> {
        assignments.iter().map(|assignment| self.loss(assignment, split)).collect()
    }

    /// Separable scores, one per option (flat order), smaller is better, where the
    /// caller knows some: the weight error of a quantisation type, say. The proxy
    /// baseline uses them; without them it uses option gradients.
    fn proxy_scores(&self) -> Option<&[f64]> {
        None
    }

    /// Plans that the caller knows from elsewhere, each with a word on where it comes
    /// from: a recipe that others use, say. The portfolio enters those that keep the
    /// budgets into its final choice, as they are and filled up to the budget.
    fn known_plans(&self) -> &[(String, Assignment)] {
        &[]
    }

    /// Whether [`Objective::evaluate`] gives option gradients. Without them the portfolio does
    /// without RCO and polish: it chooses among known plans and those of corrected scores.
    fn has_gradients(&self) -> bool {
        true
    }

    /// Whether the loss is exactly the sum of [`Objective::proxy_scores`] over the
    /// chosen options, so that the exact knapsack solves the problem.
    fn is_separable(&self) -> bool {
        false
    }

    /// Whether two draws can give different losses. `false` says that
    /// [`Objective::evaluate`] gives the same loss on every draw, and that this is the
    /// loss on [`Split::Draws`] and on [`Split::Calibration`] too: the search then
    /// takes the one for the other and never asks for a loss that it knows.
    fn is_stochastic(&self) -> bool {
        true
    }

    /// A text that changes when the objective does (hash of data and model). A run
    /// that is resumed compares it.
    fn fingerprint(&self) -> String;
}
