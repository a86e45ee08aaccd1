//! Decoder-only language models as the search sees them: the loss of a hard assignment
//! and its gradient with respect to every weight, one block in memory at a time.
//!
//! * [`config`]: what a family's `config.json` or a GGUF file says, checked, nothing assumed.
//! * [`weights`]: where weights come from, named by [`WeightKey`] for every family alike.
//! * [`engine`]: the model: losses, gradients, option gradients.
//! * [`head`]: targets and token losses.
//! * [`eval`]: statistics of a comparison with a teacher.
//! * [`importance`]: importance matrices from the inputs of matrices.
//! * [`text`]: documents of calibration and held-out text, cut into windows.
//! * [`tokenizer`]: text to tokens.
//!
//! Gradients are written out rather than left to automatic differentiation: the tensor
//! library computes both sides of every product even when one is not asked for, and
//! some of its operations drop out of the graph silently. Here a weight that nobody asks
//! for costs nothing, and a gradient is never absent. The tensor library (candle) does
//! matrix products and data movement, and occurs in no public signature but that of
//! [`ModelError::Tensor`].

mod batch;
mod block;
pub mod config;
pub mod engine;
mod error;
pub mod eval;
pub mod head;
pub mod importance;
mod key;
mod ops;
pub mod text;
pub mod tokenizer;
pub mod weights;

pub use batch::Batch;
pub use block::{
    DroppedExperts, ExpertFlips, ExpertUse, FlipForm, GradientVisitor, InputVisitor, LayerInput,
    LinearGradient, WeightGradient,
};
pub use config::ModelConfig;
pub use engine::{Model, Settings};
pub use error::ModelError;
pub use key::{WeightKey, WeightKind};
pub use ops::{ActivationRounding, Loop, vectorised};
