//! The exact solution of the core: dynamic programming over lists of partial solutions.
//!
//! Everything is relative to the break solution: a partial solution has changed some of
//! the core's decisions, which adds `delta` to the reduced cost and loses `loss ≥ 0`
//! against the linear relaxation. What a complete solution `x` falls short of the bound
//! of the relaxation is its *shortfall* `D(x) = loss(x) + λ · slack(x) ≥ 0`.

use std::cmp::Ordering;

/// An option that may replace the break option of its decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Loss against the relaxation, not negative.
    pub(super) loss: f64,
    /// Reduced cost minus that of the break option.
    pub(super) delta: i64,
    /// The decision.
    pub(super) decision: u32,
    /// The place.
    pub(super) place: u32,
}

/// The candidates of one decision.
#[derive(Debug, Clone, Copy)]
struct Stage {
    start: u32,
    end: u32,
    /// Smallest loss among them.
    least: f64,
    /// Lower bounds over this and all later stages: loss of a change, loss per unit of
    /// cost added, loss per unit of cost taken away.
    later_up: f64,
    later_down: f64,
}

#[derive(Debug, Clone, Copy)]
struct State {
    delta: i64,
    loss: f64,
    trace: u32,
}

/// One change of a partial solution and what came before it.
#[derive(Debug, Clone, Copy)]
struct Trace {
    previous: u32,
    candidate: u32,
}

const ROOT: u32 = u32::MAX;
/// Traces are not cleaned up below this number.
const LEAST_TRACES: usize = 1 << 12;

/// What a run found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    /// Smallest shortfall found; infinite if nothing feasible was found.
    pub(super) shortfall: f64,
    /// No solution has a smaller shortfall than this (or than `shortfall`).
    pub(super) proven: f64,
}

/// The question a run answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    /// Multiplier of the relaxation.
    pub(super) lambda: f64,
    /// Capacity that the break solution leaves.
    pub(super) room: i64,
    /// Whether the capacity has to be used up.
    pub(super) exactly: bool,
    /// What a better solution is better by at least: nearly 1 where all values are
    /// integers, else 0.
    pub(super) grain: f64,
}

impl Task {
    /// Shortfall of a partial solution if nothing more is changed; infinite if it does
    /// not meet the budget.
    pub(super) fn shortfall(self, delta: i64, loss: f64) -> f64 {
        let slack = self.room - delta;
        if slack == 0 {
            loss
        } else if slack > 0 && !self.exactly {
            loss + self.lambda * slack as f64
        } else {
            f64::INFINITY
        }
    }
}

/// Candidates and workspace of the dynamic programming.
#[derive(Debug, Clone, Default)]
pub(super) struct Core {
    pub(super) candidates: Vec<Candidate>,
    stages: Vec<Stage>,
    states: Vec<State>,
    merged: Vec<State>,
    spare: Vec<State>,
    traces: Vec<Trace>,
    marks: Vec<u32>,
    keys: Vec<Key>,
    best: u32,
    best_changes: Vec<Candidate>,
    /// Partial solutions looked at since [`Core::clear`].
    pub(super) looked_at: u64,
}

impl Core {
    /// Space that most instances with `decisions` decisions and `options` options need.
    pub(super) fn new(decisions: usize, options: usize) -> Self {
        Self {
            candidates: Vec::with_capacity(options.min(LEAST_TRACES)),
            stages: Vec::with_capacity(decisions.min(LEAST_TRACES)),
            states: Vec::with_capacity(LEAST_TRACES),
            merged: Vec::with_capacity(LEAST_TRACES),
            spare: Vec::with_capacity(LEAST_TRACES),
            traces: Vec::with_capacity(2 * LEAST_TRACES),
            marks: Vec::with_capacity(2 * LEAST_TRACES),
            keys: Vec::with_capacity(LEAST_TRACES),
            best_changes: Vec::with_capacity(decisions),
            ..Self::default()
        }
    }

    /// Forgets the candidates.
    pub(super) fn clear(&mut self) {
        self.candidates.clear();
        self.best_changes.clear();
        self.looked_at = 0;
    }

    /// Takes the change of one decision as the best solution so far; `None` means no change.
    pub(super) fn start_from(&mut self, change: Option<Candidate>) {
        self.best_changes.extend(change);
    }

    /// Number of decisions that the last [`Core::arrange`] left open.
    pub(super) fn decisions(&self) -> usize {
        self.stages.len()
    }

    /// The changes to the break solution that make the best solution found.
    pub(super) fn best_changes(&self) -> &[Candidate] {
        &self.best_changes
    }

    /// Drops candidates that cannot improve on `shortfall` and orders the decisions of
    /// the others by their smallest loss. Candidates of a decision must be adjacent.
    pub(super) fn arrange(&mut self, task: Task, shortfall: f64) {
        self.candidates.retain(|candidate| candidate.loss < shortfall - task.grain);
        self.stages.clear();
        let mut start = 0;
        for group in self.candidates.chunk_by(|a, b| a.decision == b.decision) {
            let least = group.iter().map(|c| c.loss).fold(f64::INFINITY, f64::min);
            let end = start + group.len() as u32;
            self.stages.push(Stage { start, end, least, later_up: 0.0, later_down: 0.0 });
            start = end;
        }
        self.stages
            .sort_unstable_by(|a, b| a.least.total_cmp(&b.least).then(a.start.cmp(&b.start)));
        let (mut up, mut down) = (f64::INFINITY, f64::INFINITY);
        for stage in self.stages.iter_mut().rev() {
            for candidate in &self.candidates[stage.start as usize..stage.end as usize] {
                let rate = candidate.loss / candidate.delta.unsigned_abs() as f64;
                if candidate.delta > 0 {
                    up = up.min(rate);
                } else if candidate.delta < 0 {
                    down = down.min(rate);
                }
            }
            stage.later_up = up;
            stage.later_down = down;
        }
    }

    /// Finds the smallest shortfall below `incumbent`, keeping at most `width` partial
    /// solutions at once and looking at no more than `nodes` of them.
    ///
    /// With `incumbent` infinite and nothing found, an unlimited run proves that there
    /// is no solution.
    pub(super) fn run(&mut self, task: Task, incumbent: f64, width: usize, nodes: u64) -> Outcome {
        let limit = self.looked_at.saturating_add(nodes);
        let mut shortfall = incumbent;
        let mut dropped = f64::INFINITY;
        self.traces.clear();
        self.best = ROOT;
        self.merged.clear();
        self.states.clear();
        self.states.push(State { delta: 0, loss: 0.0, trace: ROOT });
        let mut improved = false;
        for index in 0..self.stages.len() {
            let stage = self.stages[index];
            if stage.least >= shortfall - task.grain || self.states.is_empty() {
                break;
            }
            let rest = Rest::new(task, self.stages.get(index + 1));
            if self.looked_at >= limit {
                let rest = Rest::new(task, Some(&stage));
                let open = self.states.iter().map(|s| rest.bound(task, s.delta, s.loss));
                dropped = open.fold(dropped, f64::min);
                break;
            }
            let cut = self.extend(task, rest, stage, width, &mut shortfall, &mut improved);
            dropped = dropped.min(cut);
        }
        if improved {
            self.record_best();
        }
        let proven = if dropped >= shortfall - task.grain { shortfall } else { dropped };
        Outcome { shortfall, proven }
    }

    /// One stage: every state unchanged or with one of the stage's candidates. Returns
    /// the smallest bound of what had to be dropped to keep to `width`.
    fn extend(
        &mut self,
        task: Task,
        rest: Rest,
        stage: Stage,
        width: usize,
        shortfall: &mut f64,
        improved: &mut bool,
    ) -> f64 {
        let count = stage.end - stage.start + 1;
        self.looked_at += self.states.len() as u64 * u64::from(count);
        // Improvements first: the smaller the shortfall, the fewer states survive.
        for number in stage.start..stage.end {
            let candidate = self.candidates[number as usize];
            for state in &self.states {
                let total =
                    task.shortfall(state.delta + candidate.delta, state.loss + candidate.loss);
                if total < *shortfall {
                    *shortfall = total;
                    *improved = true;
                    self.traces.push(Trace { previous: state.trace, candidate: number });
                    self.best = self.traces.len() as u32 - 1;
                }
            }
        }
        let mut dropped = f64::INFINITY;
        let cutoff = *shortfall - task.grain;
        let alive = |state: &State| rest.bound(task, state.delta, state.loss) < cutoff;
        self.merged.clear();
        self.merged.extend(self.states.iter().filter(|state| alive(state)));
        for number in stage.start..stage.end {
            let candidate = self.candidates[number as usize];
            std::mem::swap(&mut self.merged, &mut self.spare);
            self.merged.clear();
            let mut out = Output::new(task, &mut self.merged);
            let mut kept = self.spare.iter().copied().peekable();
            for state in &self.states {
                let new = State {
                    delta: state.delta + candidate.delta,
                    loss: state.loss + candidate.loss,
                    trace: state.trace,
                };
                if !alive(&new) {
                    continue;
                }
                while let Some(old) =
                    kept.next_if(|old| (old.delta, old.loss) <= (new.delta, new.loss))
                {
                    out.push(old);
                }
                if out.admits(&new) {
                    self.traces.push(Trace { previous: new.trace, candidate: number });
                    out.push(State { trace: self.traces.len() as u32 - 1, ..new });
                }
            }
            for old in kept {
                out.push(old);
            }
            if self.merged.len() > 2 * width {
                let cut = shrink(&mut self.merged, &mut self.keys, task, rest, width);
                dropped = dropped.min(cut);
            }
            if self.traces.len() > (4 * width).max(LEAST_TRACES) {
                self.compact();
            }
        }
        std::mem::swap(&mut self.states, &mut self.merged);
        self.merged.clear();
        dropped.min(shrink(&mut self.states, &mut self.keys, task, rest, width))
    }

    /// Forgets the traces that no state and no incumbent needs.
    fn compact(&mut self) {
        const DEAD: u32 = 0;
        const LIVE: u32 = 1;
        self.marks.clear();
        self.marks.resize(self.traces.len(), DEAD);
        let lists = self.states.iter().chain(&self.merged);
        let ends = lists.map(|s| s.trace).chain([self.best]);
        for trace in ends.filter(|&t| t != ROOT) {
            self.marks[trace as usize] = LIVE;
        }
        // What comes before a trace has a smaller index.
        for index in (0..self.traces.len()).rev() {
            let previous = self.traces[index].previous;
            if self.marks[index] == LIVE && previous != ROOT {
                self.marks[previous as usize] = LIVE;
            }
        }
        let mut kept = 0;
        for index in 0..self.traces.len() {
            if self.marks[index] == LIVE {
                let mut trace = self.traces[index];
                if trace.previous != ROOT {
                    trace.previous = self.marks[trace.previous as usize];
                }
                self.traces[kept as usize] = trace;
                self.marks[index] = kept;
                kept += 1;
            }
        }
        self.traces.truncate(kept as usize);
        let lists = self.states.iter_mut().chain(&mut self.merged);
        for state in lists.filter(|s| s.trace != ROOT) {
            state.trace = self.marks[state.trace as usize];
        }
        if self.best != ROOT {
            self.best = self.marks[self.best as usize];
        }
    }

    fn record_best(&mut self) {
        self.best_changes.clear();
        let mut trace = self.best;
        while trace != ROOT {
            let Trace { previous, candidate } = self.traces[trace as usize];
            self.best_changes.push(self.candidates[candidate as usize]);
            trace = previous;
        }
    }
}

/// How promising a state is: by its bound, and where bounds tie (they all do if values
/// are costs), by how near it is to using up the capacity.
#[derive(Debug, Clone, Copy)]
struct Key {
    bound: f64,
    slack: u64,
    delta: i64,
}

impl Key {
    fn order(&self, other: &Self) -> Ordering {
        let bounds = self.bound.total_cmp(&other.bound);
        bounds.then((self.slack, self.delta).cmp(&(other.slack, other.delta)))
    }
}

/// Keeps the `width` states with the smallest bounds, if there are more; returns the
/// smallest bound that was dropped.
fn shrink(
    states: &mut Vec<State>,
    keys: &mut Vec<Key>,
    task: Task,
    rest: Rest,
    width: usize,
) -> f64 {
    let mut dropped = f64::INFINITY;
    if states.len() <= width {
        return dropped;
    }
    let key = |state: &State| Key {
        bound: rest.bound(task, state.delta, state.loss),
        slack: (task.room - state.delta).unsigned_abs(),
        delta: state.delta,
    };
    keys.clear();
    keys.extend(states.iter().map(key));
    // No two states have the same delta, so no two keys are equal.
    let (_, &mut cut, _) = keys.select_nth_unstable_by(width, Key::order);
    states.retain(|state| {
        let key = key(state);
        let keep = key.order(&cut).is_lt();
        if !keep {
            dropped = dropped.min(key.bound);
        }
        keep
    });
    dropped
}

/// Lower bounds on what later stages lose.
#[derive(Debug, Clone, Copy)]
struct Rest {
    least: f64,
    up: f64,
    down: f64,
}

impl Rest {
    fn new(task: Task, next: Option<&Stage>) -> Self {
        let Some(next) = next else {
            return Self { least: f64::INFINITY, up: f64::INFINITY, down: f64::INFINITY };
        };
        // Room need not be filled under an `at most` budget: each unit left costs `λ`.
        let up = if task.exactly { next.later_up } else { next.later_up.min(task.lambda) };
        Self { least: next.least, up, down: next.later_down }
    }

    /// Lower bound of the shortfall if at least one later decision changes.
    fn bound(self, task: Task, delta: i64, loss: f64) -> f64 {
        let slack = task.room - delta;
        let rate = if slack >= 0 { self.up } else { self.down };
        let moved = if slack == 0 { 0.0 } else { rate * slack.unsigned_abs() as f64 };
        loss + self.least.max(moved)
    }
}

/// Collects states in ascending order of `delta` without dominated ones.
struct Output<'a> {
    task: Task,
    states: &'a mut Vec<State>,
    /// Smallest `loss − λ·delta` so far: what the value falls short of the break
    /// solution's.
    least: f64,
}

impl<'a> Output<'a> {
    fn new(task: Task, states: &'a mut Vec<State>) -> Self {
        Self { task, states, least: f64::INFINITY }
    }

    /// Whether no state so far costs as little and is worth as much.
    fn admits(&self, state: &State) -> bool {
        if self.task.exactly {
            self.states.last().is_none_or(|last| last.delta < state.delta)
        } else {
            state.loss - self.task.lambda * (state.delta as f64) < self.least
        }
    }

    fn push(&mut self, state: State) {
        if self.admits(&state) {
            self.least = state.loss - self.task.lambda * state.delta as f64;
            self.states.push(state);
        }
    }
}

#[cfg(test)]
impl Core {
    /// Elements that the workspace has room for.
    pub(super) fn capacity(&self) -> usize {
        self.candidates.capacity()
            + self.stages.capacity()
            + self.states.capacity()
            + self.merged.capacity()
            + self.spare.capacity()
            + self.traces.capacity()
            + self.marks.capacity()
            + self.keys.capacity()
            + self.best_changes.capacity()
    }
}
