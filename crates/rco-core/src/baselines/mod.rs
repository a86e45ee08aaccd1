//! Baselines: what RCO is compared with, behind the same interface and counted in
//! the same way. Each finishes with feasible plans.

mod augmented;
mod evolution;
mod exact;
mod greedy;
mod known;
mod lagrangian;
mod mutation;
mod penalty;
mod proxy;
mod random;
mod reinforce;
pub(crate) mod relaxed;
pub(crate) mod scores;
pub(crate) mod uniform;

pub use augmented::{Augmented, AugmentedSettings};
pub use evolution::{Evolution, EvolutionSettings, EvolutionStart, Selection};
pub use exact::Exact;
pub use greedy::Greedy;
pub use known::Known;
pub use lagrangian::{Lagrangian, LagrangianSettings};
pub use penalty::{Penalty, PenaltySettings};
pub use proxy::Proxy;
pub use random::{Random, RandomSettings};
pub use reinforce::{Reinforce, ReinforceSettings};
pub use relaxed::RelaxSettings;
pub use scores::ScoreSettings;
pub use uniform::Uniform;
