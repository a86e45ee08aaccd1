//! Where the time goes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Reading and decoding the weights of the plan.
    Reading,
    /// The blocks, forward.
    Forward,
    /// Final norm, logits, loss, and the gradient at the states.
    Head,
    /// Blocks once more, for what backward needs and forward did not keep.
    Again,
    /// The blocks, backward, without the two below.
    Backward,
    /// Products that give the gradients of weights.
    WeightGradients,
    /// What is done with these: decoding options and their inner products.
    Visitor,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 7] = [
        Self::Reading,
        Self::Forward,
        Self::Head,
        Self::Again,
        Self::Backward,
        Self::WeightGradients,
        Self::Visitor,
    ];

    /// A few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading weights",
            Self::Forward => "forward",
            Self::Head => "head and loss",
            Self::Again => "blocks again",
            Self::Backward => "backward",
            Self::WeightGradients => "weight gradients",
            Self::Visitor => "options",
        }
    }
}

/// Adds up the time of each part; that of a part within a part counts for the inner one.
#[derive(Debug, Default)]
pub(crate) struct Clock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    current: Option<(Part, Instant)>,
    spent: [Duration; Part::ALL.len()],
}

impl State {
    /// Books the time since the last change, and goes over to another part.
    fn switch(&mut self, to: Option<Part>) -> Option<Part> {
        let now = Instant::now();
        let before = self.current.map(|(part, since)| {
            self.spent[part as usize] += now - since;
            part
        });
        self.current = to.map(|part| (part, now));
        before
    }
}

impl Clock {
    pub(crate) fn run<R>(&self, part: Part, f: impl FnOnce() -> R) -> R {
        let before = self.switch(Some(part));
        let result = f();
        self.switch(before);
        result
    }

    fn switch(&self, to: Option<Part>) -> Option<Part> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).switch(to)
    }

    pub(crate) fn spent(&self) -> [Duration; Part::ALL.len()] {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spent
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::{Clock, Part};

    #[test]
    fn the_time_of_a_part_within_a_part_counts_once() {
        let clock = Clock::default();
        clock.run(Part::Backward, || {
            clock.run(Part::Visitor, || sleep(Duration::from_millis(40)));
        });
        let spent = clock.spent();
        assert!(spent[Part::Visitor as usize] >= Duration::from_millis(40));
        assert!(spent[Part::Backward as usize] < Duration::from_millis(20));
        assert_eq!(spent[Part::Forward as usize], Duration::ZERO);
    }
}
