//! The multiple-choice knapsack, solved with a proof.
//!
//! Choose one option `k(i)` for every decision `i` so that `Σ v_{i,k(i)}` is largest
//! while `Σ c_{i,k(i)} ≤ B` (or `= B`), with integer costs and any finite values.
//!
//! # One budget
//!
//! 1. **Once per [`Solver`]**: costs are reduced (the cheapest option of each decision
//!    costs 0, the unit is the greatest common divisor of all differences), options are
//!    ordered by cost, and options that can never fit are dropped. For an `exactly`
//!    budget, a bit set over all totals, or where they are too many the sums of two
//!    halves of the decisions, say whether the limit is reachable and, if not, which
//!    totals are next to it. Where neither fits into the limits that stays open.
//! 2. **Relaxation**: the upper convex hull of each decision (Sinha & Zoltners 1979)
//!    turns the relaxation into a continuous knapsack over hull steps. Its multiplier
//!    `λ` is a threshold on their slopes, found by selection without sorting (Dyer 1984,
//!    Zemel 1984). The steps above it make the *break solution*.
//! 3. **Reduced-cost fixing**: replacing the break option of one decision by another
//!    loses `loss = (v_break − v) + λ (c − c_break) ≥ 0` against the bound. A solution
//!    falls short of the bound by exactly `D = Σ loss + λ · slack`, so an option whose
//!    loss reaches the shortfall of a known solution is in no better one.
//! 4. **Core**: what is left is added decision by decision, smallest loss first, to a
//!    list of partial solutions (dynamic programming with lists and bounds in the manner
//!    of Pisinger 1995). Partial solutions that are dominated, or whose loss plus a
//!    lower bound of what the remaining decisions lose reaches the best shortfall, are
//!    dropped. When the smallest remaining loss reaches it too, the solution is proven.
//!    Where all values are integers, a better solution is better by 1, which drops more.
//!    A narrow run first finds a good solution, then an unrestricted one proves it.
//!
//! A budget of the kind `exactly` whose totals are too many for the core is met in the
//! middle: two complete lists prove the best solution, four short ones find some
//! solution where there are many. What is missed then is [`Status::Missed`].
//!
//! If more than [`Settings::max_states`] partial solutions are alive, the least
//! promising are dropped and the smallest of their bounds is remembered: the gap in the
//! [`Certificate`] is true whatever was dropped.
//!
//! # Several budgets
//!
//! The Lagrangian dual gives the bound (ellipsoid method with deep cuts), maximisers on
//! the way are repaired into feasible solutions, and HiGHS (feature `highs`) solves what
//! reduced-cost fixing leaves. Without that feature the gap is stated and not closed.
//!
//! # Rounding
//!
//! Costs, totals and feasibility are integers throughout. Values are `f64`: scaling
//! them to integers would lose small values beside large penalties. Every loss is one
//! difference of two values plus one product with a cost difference, so it carries a few
//! units in the last place of the *larger of the two values*, and losses, none of which
//! is negative, add up without cancellation. An error in `λ` does no harm: the identity
//! of step 3 holds for every `λ`. A gap of 0 therefore means: no assignment is better by
//! more than about `4 · 2⁻⁵³ · Σ_i |v_i|` over the chosen options and those that compete
//! with them, well below 1e-12 of the sum of all magnitudes. With several budgets, the
//! proof of HiGHS adds its own tolerance, 1e-9 of the distance of bound and incumbent.
//!
//! # References
//!
//! - P. Sinha, A. A. Zoltners, *The multiple-choice knapsack problem*, Operations
//!   Research 27 (1979).
//! - M. E. Dyer, *An O(n) algorithm for the multiple-choice knapsack linear program*,
//!   Mathematical Programming 29 (1984).
//! - E. Zemel, *An O(n) algorithm for the linear multiple choice knapsack problem and
//!   related problems*, Information Processing Letters 18 (1984).
//! - D. Pisinger, *A minimal algorithm for the multiple-choice knapsack problem*,
//!   European Journal of Operational Research 83 (1995).

mod certificate;
mod core;
mod error;
mod hull;
mod instance;
mod linear;
mod meet;
mod reach;
mod settings;
mod several;
mod single;
mod solver;

pub use certificate::{Certificate, Status};
pub use error::KnapsackError;
pub use settings::{Effort, Settings};
pub use solver::{Solver, Work};
