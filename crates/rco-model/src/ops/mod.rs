//! Operations of a block, each a forward function and its vector-Jacobian product.
//!
//! In f32 on the CPU they run as kernels over rows, in parallel; for any other type or
//! device the same is composed of the tensor library's primitives. The tests hold the
//! primitives (in f64) against central differences, and the kernels against them.
//!
//! Results do not depend on the number of threads: work is divided by the shape alone and
//! sums over rows are added up in the order of the rows.

mod activations;
mod attention;
mod attention_probs;
mod compiled;
mod exp;
mod gated;
mod host;
mod linear;
mod rms_norm;
mod rotary;
mod soft_cap;

pub use activations::ActivationRounding;
pub(crate) use activations::round_activations;
pub(crate) use attention::{
    AttentionGradients, AttentionShape, Chunk, attention, attention_backward,
};
pub(crate) use attention_probs::{attention_probs, attention_probs_backward};
pub use compiled::{Loop, vectorised};
pub(crate) use exp::exp;
pub(crate) use gated::{gated, gated_backward};
pub(crate) use host::{floats, largest, zeros};
pub(crate) use linear::{InputGradient, bias_gradient, linear, linear_backward, weight_gradient};
pub(crate) use rms_norm::{rms_norm, rms_norm_backward};
pub(crate) use rotary::RotaryTable;
pub(crate) use soft_cap::{soft_cap, soft_cap_backward};

#[cfg(test)]
pub(crate) mod tests;
