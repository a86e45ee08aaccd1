//! Losses of a deterministic objective that are known already.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Losses kept. Past that no more are added: what is known must not depend on
/// anything but the order of evaluations.
const CAPACITY: usize = 1 << 14;

/// Maps the plans of a run to their losses. Plans are told apart by 128 bits of
/// their SHA-256, for plans of large problems would fill the memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(String, f64)>", into = "Vec<(String, f64)>")]
pub(crate) struct Memo {
    order: Vec<u128>,
    losses: HashMap<u128, f64>,
}

fn key(plan: &[u32]) -> u128 {
    let mut hash = Sha256::new();
    for choice in plan {
        hash.update(choice.to_le_bytes());
    }
    hash.finalize().iter().take(16).fold(0, |key, &byte| key << 8 | u128::from(byte))
}

impl Memo {
    pub(crate) fn get(&self, plan: &[u32]) -> Option<f64> {
        self.losses.get(&key(plan)).copied()
    }

    pub(crate) fn insert(&mut self, plan: &[u32], loss: f64) {
        if self.order.len() < CAPACITY {
            let key = key(plan);
            if self.losses.insert(key, loss).is_none() {
                self.order.push(key);
            }
        }
    }
}

impl From<Vec<(String, f64)>> for Memo {
    fn from(entries: Vec<(String, f64)>) -> Self {
        let mut memo = Self::default();
        for (text, loss) in entries {
            // A key that is no number cannot come from `into`; it is never asked for.
            if let Ok(key) = u128::from_str_radix(&text, 16)
                && memo.losses.insert(key, loss).is_none()
            {
                memo.order.push(key);
            }
        }
        memo
    }
}

impl From<Memo> for Vec<(String, f64)> {
    fn from(memo: Memo) -> Self {
        memo.order.iter().map(|key| (format!("{key:x}"), memo.losses[key])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_survives_json_in_order_and_to_the_bit() {
        let mut memo = Memo::default();
        for n in 0..50_u32 {
            memo.insert(&[n, n * n], 1.0 / f64::from(n + 1));
        }
        let text = serde_json::to_string(&memo).unwrap();
        let back: Memo = serde_json::from_str(&text).unwrap();
        assert_eq!(back, memo);
        assert_eq!(back.get(&[7, 49]), Some(1.0 / 8.0));
        assert_eq!(back.get(&[7, 48]), None);
    }
}
