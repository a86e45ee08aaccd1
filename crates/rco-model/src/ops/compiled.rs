//! Loops compiled for several machines.

/// A loop with all that it works on.
///
/// A trait and no closure: only what is marked `#[inline(always)]` is sure to end up inside
/// the function that is compiled with a machine's vector instructions, and closures cannot be
/// marked. (They stayed outside, compiled for the least of all machines, once they had grown
/// past what the compiler inlines by itself.)
pub trait Loop {
    /// What it computes.
    type Output;

    /// Runs it. To be marked `#[inline(always)]`, as everything that it calls.
    fn run(self) -> Self::Output;
}

struct Compiled<L>(L);

impl<L: Loop> pulp::WithSimd for Compiled<L> {
    type Output = L::Output;

    #[allow(clippy::inline_always, reason = "that is the point")]
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> L::Output {
        self.0.run()
    }
}

/// Runs a loop with the widest vector instructions of the machine. What it computes does not
/// depend on which these are: nothing is fused or reordered.
pub fn vectorised<L: Loop>(work: L) -> L::Output {
    pulp::Arch::new().dispatch(Compiled(work))
}
