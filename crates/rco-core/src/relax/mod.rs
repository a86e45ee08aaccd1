//! The relaxation: probabilities from logits, Gumbel noise, annealing.

mod anneal;
mod gumbel;
mod softmax;

pub use anneal::Anneal;
pub use gumbel::{add_gumbel, gumbel};
pub use softmax::{softmax, softmax_backward};
