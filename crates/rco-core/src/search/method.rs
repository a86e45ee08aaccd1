//! The interface of all methods: resumable step machines.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::SearchError;
use super::name::MethodName;
use super::oracle::Oracle;

/// What one step did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// Whether the method has come to its end.
    pub done: bool,
    /// Mean loss that the step measured.
    pub loss: Option<f64>,
    /// Expected cost of the relaxation for every resource.
    pub expected_cost: Vec<f64>,
    /// Temperature of the relaxation.
    pub tau: Option<f64>,
}

impl Progress {
    /// The end of a method.
    pub fn done() -> Self {
        Self { done: true, ..Self::default() }
    }

    /// A step that measured `loss`.
    pub fn measured(loss: f64) -> Self {
        Self { loss: Some(loss), ..Self::default() }
    }
}

/// A search method as a sequence of steps, each a function of the method's state
/// and of what the oracle answers. So a method that is restored from its saved
/// state goes on to the bit.
pub trait Method {
    /// Its name.
    fn name(&self) -> MethodName;

    /// Steps it is going to take at most, where it knows.
    fn planned_steps(&self) -> Option<u64>;

    /// Takes one step. After the step that says `done` there is no other. A method
    /// that is not given the evaluations it asks for comes to its end.
    ///
    /// # Errors
    /// Errors of the objective and of the exact solver.
    fn step(&mut self, oracle: &mut Oracle<'_>) -> Result<Progress, SearchError>;

    /// Ends the search: the steps that remain only turn what there is into plans.
    fn wind_up(&mut self);

    /// The state, which holds all that the next steps depend on.
    ///
    /// # Errors
    /// [`SearchError::State`].
    fn save(&self) -> Result<Value, SearchError>;

    /// Puts a saved state back.
    ///
    /// # Errors
    /// [`SearchError::State`] if it is not the state of this method.
    fn restore(&mut self, state: Value) -> Result<(), SearchError>;
}

/// Turns a state into JSON.
pub(crate) fn to_json<T: Serialize>(method: MethodName, state: &T) -> Result<Value, SearchError> {
    serde_json::to_value(state)
        .map_err(|source| SearchError::State { method: method.to_string(), source })
}

/// Turns JSON into a state.
pub(crate) fn from_json<T: DeserializeOwned>(
    method: MethodName,
    state: Value,
) -> Result<T, SearchError> {
    serde_json::from_value(state)
        .map_err(|source| SearchError::State { method: method.to_string(), source })
}
