//! Random numbers without hidden state.
//!
//! Every random number of a run is a function of the seed, of what it is for and
//! of a counter (step, sample), never of what was drawn before or on which
//! thread. So a resumed run continues to the bit, and so do 1, 2 and 8 threads.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for. Streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Gumbel noise of the relaxation.
    Gumbel = 1,
    /// Draws of the stochastic loss.
    Draw = 2,
    /// Random feasible assignments.
    Feasible = 3,
    /// Mutations of the evolutionary baseline.
    Mutation = 4,
    /// Samples of the score-function (REINFORCE) baseline.
    Score = 5,
    /// Generated benchmark instances.
    Instance = 6,
    /// Roundings and polish moves.
    Polish = 7,
    /// Tokens drawn for samples of the Fisher matrix.
    Fisher = 8,
    /// Order of texts and windows.
    Text = 9,
    /// Order of windows that scales are tuned on.
    Tuning = 10,
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

/// The stream of `purpose` number `index` of a run with `seed`.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> Stream {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    Stream(ChaCha8Rng::from_seed(key))
}

impl Stream {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in the open interval (0, 1): multiples of 2⁻⁵² shifted by half of one,
    /// so that `u` and `1 − u` are equally likely and neither is 0.
    pub fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 12) as f64 + 0.5) * (1.0 / (1_u64 << 52) as f64)
    }

    /// Uniform in `0..n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "a range to draw from must not be empty");
        // Lemire's multiplication; the bias is below n / 2^64.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// `0..n` in a random order (Fisher and Yates).
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// Standard normal (Box-Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::{Purpose, stream};

    #[test]
    fn an_order_has_everything_once_and_is_that_of_its_stream() {
        for n in [0, 1, 2, 37] {
            let order = stream(5, Purpose::Tuning, 3).order(n);
            assert_eq!(order, stream(5, Purpose::Tuning, 3).order(n));
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n).collect::<Vec<_>>());
        }
        // All six orders of three come up.
        let orders: std::collections::BTreeSet<_> =
            (0..100).map(|n| stream(5, Purpose::Tuning, n).order(3)).collect();
        assert_eq!(orders.len(), 6);
    }
}
