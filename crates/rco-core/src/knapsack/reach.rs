//! Which totals an `exactly` budget can meet.

use super::Settings;
use super::instance::Instance;

/// Reachable totals around the capacity of an instance, in reduced units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The capacity itself is reachable.
    Met,
    /// It is not; these are the neighbours.
    Between {
        /// Largest reachable total below.
        below: i64,
        /// Smallest reachable total above.
        above: Option<i64>,
    },
    /// The limits of the settings do not allow the question to be settled.
    Open,
}

/// Bytes that a state of the knapsack stands for where a bit set has to respect
/// [`Settings::max_states`].
const BYTES_PER_STATE: usize = 24;

/// Sets of totals as bits: total `t` is bit `t % 64` of word `t / 64`.
type Bits = Vec<u64>;

/// `out |= bits << shift`, cut off at the length of `out`.
fn or_shifted(out: &mut [u64], bits: &[u64], shift: usize) {
    let (words, rest) = (shift / 64, shift % 64);
    if words >= out.len() {
        return;
    }
    let count = (out.len() - words).min(bits.len());
    for index in 0..count {
        out[index + words] |= bits[index] << rest;
        if rest > 0 && index + words + 1 < out.len() {
            out[index + words + 1] |= bits[index] >> (64 - rest);
        }
    }
}

fn has(bits: &[u64], total: usize) -> bool {
    bits.get(total / 64).is_some_and(|word| word >> (total % 64) & 1 == 1)
}

/// Settles whether the capacity is reachable by a bit set over all totals, if that
/// stays within the limits of `settings`.
///
/// An instance for this must hold the options that exceed the capacity too: the
/// neighbour above needs them. That neighbour exceeds the capacity by less than the
/// largest cost of one option, since on the way from a total below to one above, one
/// decision at a time, one step crosses.
pub(super) fn reach(instance: &Instance, aligned: bool, settings: &Settings) -> Reach {
    let largest: i64 = instance.starts[1..].iter().map(|&end| instance.cost[end - 1]).sum();
    if instance.capacity == largest {
        // All dearest options: reachable, and nothing is above.
        return if aligned { Reach::Met } else { Reach::Between { below: largest, above: None } };
    }
    let capacity = instance.capacity as usize;
    let step = instance.cost.iter().max().copied().unwrap_or(0) as usize;
    let span = capacity.saturating_add(step).min(largest as usize).saturating_add(1);
    let words = span.div_ceil(64);
    let work = words as u64 * instance.flat.len() as u64;
    if words > settings.max_states.saturating_mul(BYTES_PER_STATE) / 16 || work > settings.max_nodes
    {
        return Reach::Open;
    }
    let mut bits: Bits = vec![0; words];
    let mut next: Bits = vec![0; words];
    bits[0] = 1;
    for bounds in instance.starts.windows(2) {
        let costs = &instance.cost[bounds[0]..bounds[1]];
        next.fill(0);
        for same in costs.chunk_by(|a, b| a == b) {
            or_shifted(&mut next, &bits, same[0] as usize);
        }
        std::mem::swap(&mut bits, &mut next);
    }
    if aligned && has(&bits, capacity) {
        return Reach::Met;
    }
    // Total 0 is always reachable: all cheapest options.
    let below = (0..=capacity).rev().find(|&t| has(&bits, t)).unwrap_or(0);
    let above = (capacity + 1..span).find(|&t| has(&bits, t));
    Reach::Between {
        below: below.cast_signed() as i64,
        above: above.map(|t| t.cast_signed() as i64),
    }
}

/// Places whose costs add up to `target`, if there are some and the bit sets of all
/// decisions fit into the limits of `settings`.
pub(super) fn witness(instance: &Instance, target: i64, settings: &Settings) -> Option<Vec<u32>> {
    let target = usize::try_from(target).ok()?;
    let words = target / 64 + 1;
    let memory = words.checked_mul(instance.len() + 1)?.checked_mul(8)?;
    let work = (words as u64).checked_mul(instance.flat.len() as u64)?;
    if memory > settings.max_states.saturating_mul(BYTES_PER_STATE) || work > settings.max_nodes {
        return None;
    }
    let mut sets: Vec<Bits> = Vec::with_capacity(instance.len() + 1);
    let mut bits: Bits = vec![0; words];
    bits[0] = 1;
    for bounds in instance.starts.windows(2) {
        let mut next: Bits = vec![0; words];
        for same in instance.cost[bounds[0]..bounds[1]].chunk_by(|a, b| a == b) {
            or_shifted(&mut next, &bits, same[0] as usize);
        }
        sets.push(std::mem::replace(&mut bits, next));
    }
    if !has(&bits, target) {
        return None;
    }
    let mut places = vec![0; instance.len()];
    let mut left = target;
    for (decision, before) in sets.iter().enumerate().rev() {
        let place = (instance.starts[decision]..instance.starts[decision + 1]).find(|&place| {
            let cost = instance.cost[place] as usize;
            cost <= left && has(before, left - cost)
        })?;
        left -= instance.cost[place] as usize;
        places[decision] = place as u32;
    }
    Some(places)
}
