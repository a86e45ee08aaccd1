//! Exact totals met in the middle, for `exactly` budgets whose totals are too many for a
//! bit set.
//!
//! Partial solutions of two halves of the decisions are listed by cost; a total is
//! reachable if a cost of one list is what the other lacks (Horowitz and Sahni 1974).
//! Where both lists fit into the limits, that settles which totals exist and which
//! solution is best at one of them. Where they do not, four short lists are joined in
//! two steps, each near what the others lack (Wagner 2002): that finds a solution of
//! the wanted total where there are many, and proves nothing.

use super::Settings;
use super::instance::Instance;
use super::reach::Reach;

/// Decisions that each of the four short lists takes up at most.
const PART: usize = 12;
/// Options of a decision in a short list at most.
const SHORT_OPTIONS: usize = 16;
/// Longest short list.
const SHORT_LIST: usize = 1 << 15;
/// Partners that each member of a list has in the first join.
const PARTNERS: usize = 4;
/// Selections of decisions that are tried.
const ATTEMPTS: usize = 4;
/// Trace of the empty partial solution.
const ROOT: u32 = u32::MAX;

/// A partial solution.
#[derive(Debug, Clone, Copy)]
struct State {
    cost: i64,
    loss: f64,
    trace: u32,
}

impl State {
    fn by_cost(&self, other: &Self) -> std::cmp::Ordering {
        self.cost.cmp(&other.cost).then(self.loss.total_cmp(&other.loss))
    }
}

/// What partial solutions should cost about: as a solution does, and more by a part of
/// what is left of the target.
#[derive(Debug, Clone, Copy)]
struct Aim<'a> {
    start: &'a [u32],
    /// What is left, for each decision.
    share: f64,
}

impl Aim<'_> {
    fn centre(self, instance: &Instance, decisions: &[usize]) -> i64 {
        let costs = decisions.iter().map(|&d| instance.cost[self.start[d] as usize]);
        costs.sum::<i64>() + (self.share * decisions.len() as f64) as i64
    }
}

/// Partial solutions in order of their costs, no cost twice.
#[derive(Debug, Default)]
struct List {
    states: Vec<State>,
    /// Earlier trace and chosen place.
    traces: Vec<(u32, u32)>,
    complete: bool,
    looked_at: u64,
}

impl List {
    /// All partial solutions of `decisions`; of those that cost the same, the one with
    /// the smallest loss. Where there are more than `width`, the list stays incomplete;
    /// given an aim in `near`, those with the smallest losses are kept, and among equals
    /// those nearest to the aim.
    fn new(
        instance: &Instance,
        decisions: &[usize],
        losses: &[f64],
        width: usize,
        near: Option<Aim<'_>>,
    ) -> Self {
        let mut out = Self { complete: true, ..Self::default() };
        out.states.push(State { cost: 0, loss: 0.0, trace: ROOT });
        let mut next: Vec<(State, u32)> = Vec::new();
        for (number, &decision) in decisions.iter().enumerate() {
            let mut own: Vec<usize> =
                (instance.starts[decision]..instance.starts[decision + 1]).collect();
            if near.is_some() && own.len() > SHORT_OPTIONS {
                own.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]).then(a.cmp(&b)));
                own.truncate(SHORT_OPTIONS);
            }
            let count = out.states.len().saturating_mul(own.len());
            if near.is_none() && (count > 4 * width || out.traces.len() > 16 * width) {
                out.complete = false;
                return out;
            }
            out.looked_at += count as u64;
            next.clear();
            for &place in &own {
                next.extend(out.states.iter().map(|state| {
                    let (cost, loss) =
                        (state.cost + instance.cost[place], state.loss + losses[place]);
                    (State { cost, loss, trace: state.trace }, place as u32)
                }));
            }
            next.sort_unstable_by(|a, b| a.0.by_cost(&b.0).then(a.1.cmp(&b.1)));
            next.dedup_by_key(|(state, _)| state.cost);
            if next.len() > width {
                out.complete = false;
                let Some(aim) = near else { return out };
                let centre = aim.centre(instance, &decisions[..=number]);
                let by_loss = |a: &(State, u32), b: &(State, u32)| {
                    let off = |state: &State| ((state.cost - centre).unsigned_abs(), state.cost);
                    a.0.loss.total_cmp(&b.0.loss).then(off(&a.0).cmp(&off(&b.0)))
                };
                next.select_nth_unstable_by(width, by_loss);
                next.truncate(width);
                next.sort_unstable_by(|a, b| a.0.by_cost(&b.0));
            }
            out.states.clear();
            for &(state, place) in &next {
                out.traces.push((state.trace, place));
                let trace = out.traces.len() as u32 - 1;
                out.states.push(State { trace, ..state });
            }
        }
        out
    }

    /// Writes the places of a partial solution of `decisions` into `places`.
    fn write(&self, decisions: &[usize], mut trace: u32, places: &mut [u32]) {
        for &decision in decisions.iter().rev() {
            if trace == ROOT {
                return;
            }
            let (previous, place) = self.traces[trace as usize];
            places[decision] = place;
            trace = previous;
        }
    }
}

/// Both halves of all decisions that have a choice, listed completely.
#[derive(Debug)]
struct Halves {
    decisions: [Vec<usize>; 2],
    lists: [List; 2],
}

impl Halves {
    /// `None` if the limits of `settings` do not allow it.
    fn new(instance: &Instance, losses: &[f64], settings: &Settings) -> Option<Self> {
        // Decisions by turns to the half with fewer combinations.
        let mut decisions: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
        let mut sizes = [0.0_f64; 2];
        for (decision, bounds) in instance.starts.windows(2).enumerate() {
            let half = usize::from(sizes[1] < sizes[0]);
            sizes[half] += ((bounds[1] - bounds[0]) as f64).ln();
            decisions[half].push(decision);
        }
        let width = (settings.max_states / 4).max(16);
        let mut spent = 0;
        let mut list = |half: usize| {
            let list = List::new(instance, &decisions[half], losses, width, None);
            spent += list.looked_at;
            (list.complete && spent <= settings.max_nodes).then_some(list)
        };
        let lists = [list(0)?, list(1)?];
        Some(Self { decisions, lists })
    }

    fn places(&self, traces: [u32; 2], count: usize) -> Vec<u32> {
        let mut places = vec![0; count];
        for ((decisions, list), trace) in self.decisions.iter().zip(&self.lists).zip(traces) {
            list.write(decisions, trace, &mut places);
        }
        places
    }
}

/// Which totals around the capacity are reachable, if both halves fit into the limits.
///
/// An instance for this must hold the options that exceed the capacity too.
pub(super) fn reach(instance: &Instance, settings: &Settings) -> Option<Reach> {
    let losses = vec![0.0; instance.flat.len()];
    let halves = Halves::new(instance, &losses, settings)?;
    let (low, high) = (&halves.lists[0].states, &halves.lists[1].states);
    let near = nearest(low, high, instance.capacity);
    if instance.aligned && near.met.is_some() {
        return Some(Reach::Met);
    }
    let below = near.met.or(near.below).map_or(0, |pair| pair.total);
    Some(Reach::Between { below, above: near.above })
}

/// The solution with the smallest sum of `losses` among those that cost `target`, if
/// both halves fit into the limits and there is one: its places and its loss.
pub(super) fn best(
    instance: &Instance,
    losses: &[f64],
    target: i64,
    settings: &Settings,
) -> Option<(Vec<u32>, f64)> {
    let halves = Halves::new(instance, losses, settings)?;
    let near = nearest(&halves.lists[0].states, &halves.lists[1].states, target);
    near.met.map(|pair| (halves.places(pair.traces, instance.len()), pair.loss))
}

/// Two partial solutions that make a whole one.
#[derive(Debug, Clone, Copy)]
struct Pair {
    total: i64,
    loss: f64,
    traces: [u32; 2],
}

/// The whole solutions next to a target.
#[derive(Debug, Clone, Copy)]
struct Near {
    /// Smallest loss at the target.
    met: Option<Pair>,
    /// Largest total below.
    below: Option<Pair>,
    /// Smallest total above.
    above: Option<i64>,
}

/// Joins two lists in order of cost.
fn nearest(low: &[State], high: &[State], target: i64) -> Near {
    let mut near = Near { met: None, below: None, above: None };
    // For each state of `low`, in rising order, the first of `high` that reaches the
    // target moves down.
    let mut end = high.len();
    for a in low {
        while end > 0 && a.cost + high[end - 1].cost >= target {
            end -= 1;
        }
        let pair = |b: &State| Pair {
            total: a.cost + b.cost,
            loss: a.loss + b.loss,
            traces: [a.trace, b.trace],
        };
        if let Some(found) = end.checked_sub(1).map(|at| pair(&high[at]))
            && near.below.is_none_or(|old| found.total > old.total)
        {
            near.below = Some(found);
        }
        let mut at = end;
        if let Some(b) = high.get(at)
            && a.cost + b.cost == target
        {
            let found = pair(b);
            if near.met.is_none_or(|old| found.loss < old.loss) {
                near.met = Some(found);
            }
            at += 1;
        }
        if let Some(total) = high.get(at).map(|b| a.cost + b.cost)
            && near.above.is_none_or(|old| total < old)
        {
            near.above = Some(total);
        }
    }
    near
}

/// What the short lists found near a target.
#[derive(Debug)]
pub(super) struct Found {
    /// Places of the solution: of the target if `met`, else of the largest total below.
    pub(super) places: Vec<u32>,
    /// Its total in reduced units.
    pub(super) total: i64,
    /// Smallest total above the target that was seen.
    pub(super) above: Option<i64>,
}

/// Looks for a solution that costs `target` near the places in `start`, preferring
/// small sums of `losses`.
pub(super) fn search(
    instance: &Instance,
    start: &[u32],
    losses: &[f64],
    target: i64,
    settings: &Settings,
) -> Found {
    let least = |decision: usize| {
        let own = instance.starts[decision]..instance.starts[decision + 1];
        own.filter(|&place| place as u32 != start[decision])
            .map(|place| losses[place])
            .fold(f64::INFINITY, f64::min)
    };
    let mut order: Vec<(f64, usize)> = (0..instance.len())
        .map(|decision| (least(decision), decision))
        .filter(|(loss, _)| loss.is_finite())
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let start = &approach(instance, start, order.iter().map(|&(_, decision)| decision), target);
    let cheapest: Vec<u32> = instance.starts.windows(2).map(|bounds| bounds[0] as u32).collect();
    let mut out = Found { places: cheapest, total: 0, above: None };
    let width = (settings.max_states / 16).clamp(16, SHORT_LIST);
    for attempt in 0..ATTEMPTS {
        let mut parts: [Vec<usize>; 4] = Default::default();
        let chosen = order.iter().cycle().skip(attempt * 4 * PART % order.len().max(1));
        for (n, &(_, decision)) in chosen.take(order.len().min(4 * PART)).enumerate() {
            // Another split where all decisions take part in every attempt.
            parts[(n + n / 4 * attempt) % 4].push(decision);
        }
        join(instance, start, losses, target, &parts, width, &mut out);
        if out.total == target {
            break;
        }
    }
    out
}

/// Changes the decisions of `start` in `order` until the total is about `target`: where
/// values are costs, a break solution can be far from the capacity.
fn approach(
    instance: &Instance,
    start: &[u32],
    order: impl Iterator<Item = usize>,
    target: i64,
) -> Vec<u32> {
    let mut out = start.to_vec();
    let total: i64 = out.iter().map(|&place| instance.cost[place as usize]).sum();
    let mut room = target - total;
    let step = instance.cost.iter().max().map_or(0, |cost| cost.unsigned_abs());
    for decision in order {
        if room.unsigned_abs() <= step {
            break;
        }
        let now = instance.cost[out[decision] as usize];
        let left = |place: &usize| (room - (instance.cost[*place] - now)).unsigned_abs();
        let own = instance.starts[decision]..instance.starts[decision + 1];
        let Some(place) = own.min_by_key(left) else { continue };
        if left(&place) >= room.unsigned_abs() {
            continue;
        }
        room -= instance.cost[place] - now;
        out[decision] = place as u32;
    }
    out
}

/// One attempt: four lists, joined in two steps.
fn join(
    instance: &Instance,
    start: &[u32],
    losses: &[f64],
    target: i64,
    parts: &[Vec<usize>; 4],
    width: usize,
    out: &mut Found,
) {
    let cost_of = |decision: usize| instance.cost[start[decision] as usize];
    let all: i64 = (0..instance.len()).map(cost_of).sum();
    let own = |part: usize| parts[part].iter().map(|&d| cost_of(d)).sum::<i64>();
    let fixed = all - (0..4).map(own).sum::<i64>();
    let room = target - all;
    let free = parts.iter().map(Vec::len).sum::<usize>().max(1);
    let aim = Aim { start, share: room as f64 / free as f64 };
    let lists = [0, 1, 2, 3].map(|p| List::new(instance, &parts[p], losses, width, Some(aim)));
    let centre = |part: usize| aim.centre(instance, &parts[part]);
    let first = pairs(&lists[0].states, &lists[1].states, centre(0) + centre(1));
    let second = pairs(&lists[2].states, &lists[3].states, centre(2) + centre(3));
    let near = nearest(&first.states, &second.states, target - fixed);
    if let Some(total) = near.above.map(|total| total + fixed)
        && out.above.is_none_or(|old| total < old)
    {
        out.above = Some(total);
    }
    let Some(pair) = near.met.or(near.below) else { return };
    if pair.total + fixed <= out.total {
        return;
    }
    out.total = pair.total + fixed;
    out.places = start.to_vec();
    for (side, (joined, trace)) in [&first, &second].into_iter().zip(pair.traces).enumerate() {
        let (a, b) = joined.traces[trace as usize];
        lists[2 * side].write(&parts[2 * side], a, &mut out.places);
        lists[2 * side + 1].write(&parts[2 * side + 1], b, &mut out.places);
    }
}

/// Each state of `a` with the few of `b` that bring the sum nearest to `centre`; a trace
/// of the result holds one of each.
fn pairs(a: &[State], b: &[State], centre: i64) -> List {
    let mut out = List::default();
    for left in a {
        let at = b.partition_point(|right| left.cost + right.cost < centre);
        let from = at.saturating_sub(PARTNERS / 2);
        for right in &b[from..(from + PARTNERS).min(b.len())] {
            out.traces.push((left.trace, right.trace));
            let trace = out.traces.len() as u32 - 1;
            let (cost, loss) = (left.cost + right.cost, left.loss + right.loss);
            out.states.push(State { cost, loss, trace });
        }
    }
    out.states.sort_unstable_by(|x, y| x.by_cost(y).then(x.trace.cmp(&y.trace)));
    out.states.dedup_by_key(|state| state.cost);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::problem::{GroupSpec, OptionSpec, Problem};
    use crate::rng::{Purpose, stream};

    /// An instance with huge costs, all of its totals and the losses used in the tests.
    fn case(seed: u64, groups: usize, top: usize) -> (Instance, Vec<f64>, Vec<(i64, f64)>) {
        let mut random = stream(seed, Purpose::Instance, 9);
        let specs: Vec<GroupSpec> = (0..groups)
            .map(|i| {
                let own = (0..2 + random.below(2))
                    .map(|k| OptionSpec::new(format!("{k}"), [random.below(top) as u64]));
                GroupSpec::new(format!("{i}"), own.collect::<Vec<_>>())
            })
            .collect();
        let high: u64 =
            specs.iter().map(|g| g.options.iter().map(|o| o.costs[0]).max().unwrap_or(0)).sum();
        let budget = Budget::exactly("bytes", high);
        let problem = Problem::builder().groups(specs).budget(budget.clone()).build().unwrap();
        let instance = Instance::new(problem.decisions(), 0, &budget, true).unwrap();
        let losses: Vec<f64> = instance.cost.iter().map(|_| random.uniform()).collect();
        let mut totals = vec![(0, 0.0)];
        for bounds in instance.starts.windows(2) {
            let mut next = Vec::new();
            let own = instance.cost.iter().zip(&losses).take(bounds[1]).skip(bounds[0]);
            for (cost, loss) in own {
                next.extend(totals.iter().map(|(t, l)| (t + cost, l + loss)));
            }
            totals = next;
        }
        totals.sort_by(|a, b| a.partial_cmp(b).unwrap());
        (instance, losses, totals)
    }

    #[test]
    fn neighbours_and_best_losses_equal_enumeration() {
        for seed in 0..60 {
            let top = if seed % 2 == 0 { 30 } else { 1 << 40 };
            let (mut instance, losses, totals) = case(seed, 8, top);
            let largest = totals.last().unwrap().0;
            for share in 0..20 {
                let target = largest * share / 20;
                instance.capacity = target;
                instance.aligned = true;
                let below = totals.iter().rev().find(|t| t.0 <= target).unwrap().0;
                let above = totals.iter().find(|t| t.0 > target).map(|t| t.0);
                let expected =
                    if below == target { Reach::Met } else { Reach::Between { below, above } };
                let settings = Settings::default();
                assert_eq!(reach(&instance, &settings), Some(expected), "{seed} {share}");
                let (places, loss) = best(&instance, &losses, below, &settings).unwrap();
                let least = totals.iter().find(|t| t.0 == below).unwrap().1;
                assert!((loss - least).abs() < 1e-12, "{seed} {share}: {loss} {least}");
                let cost: i64 = places.iter().map(|&p| instance.cost[p as usize]).sum();
                assert_eq!(cost, below);
                if below != target {
                    assert_eq!(best(&instance, &losses, target, &settings), None);
                }
            }
        }
    }

    #[test]
    fn lists_beyond_the_limits_are_not_taken_for_complete() {
        let (instance, losses, _) = case(1, 9, 1 << 40);
        let settings = Settings { max_states: 64, ..Settings::default() };
        assert_eq!(reach(&instance, &settings), None);
        assert_eq!(best(&instance, &losses, 5, &settings), None);
        let settings = Settings { max_nodes: 20, ..Settings::default() };
        assert_eq!(reach(&instance, &settings), None);
    }

    #[test]
    fn short_lists_end_at_totals_that_exist() {
        for seed in 0..20 {
            let (instance, losses, totals) = case(seed, 10, 1 << 40);
            let start: Vec<u32> = instance.starts.windows(2).map(|b| b[0] as u32).collect();
            let target = totals[totals.len() / 3].0 + 1;
            let found = search(&instance, &start, &losses, target, &Settings::default());
            let cost: i64 = found.places.iter().map(|&p| instance.cost[p as usize]).sum();
            assert_eq!(cost, found.total);
            assert!(found.total > 0 && found.total <= target);
            let above = found.above.unwrap();
            assert!(above > target && totals.iter().any(|t| t.0 == above));
        }
    }
}
