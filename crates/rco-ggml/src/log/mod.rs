//! llama.cpp's log: silent, and kept while a call is watched.

mod ffi;

use std::cell::RefCell;

pub(crate) use ffi::silence;

/// Most bytes that are kept of one call.
const MOST: usize = 16 << 20;
/// Most bytes of warnings and errors that are kept of one call.
const MOST_FAULTS: usize = 4 << 10;

/// What llama.cpp wrote during one call.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Everything.
    pub(crate) text: String,
    faults: String,
    last_is_fault: bool,
}

impl Log {
    /// Warnings and errors on one line, or a word about their absence.
    pub(crate) fn faults(&self) -> String {
        let lines: Vec<&str> = self
            .faults
            .lines()
            .map(|line| line.trim_matches(|c: char| c.is_whitespace() || c == '='))
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() { "it does not say why".to_owned() } else { lines.join("; ") }
    }

    fn add(&mut self, kind: Kind, message: &str) {
        let is_fault = match kind {
            Kind::Fault => true,
            Kind::Note => false,
            Kind::Continued => self.last_is_fault,
        };
        self.last_is_fault = is_fault;
        if self.text.len() + message.len() <= MOST {
            self.text.push_str(message);
        }
        if is_fault && self.faults.len() + message.len() <= MOST_FAULTS {
            self.faults.push_str(message);
        }
    }
}

/// Sort of a message.
#[derive(Clone, Copy)]
enum Kind {
    Note,
    Fault,
    Continued,
}

thread_local! {
    /// The log of the watched call of this thread.
    static WATCHED: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Runs `work` and returns with its result what llama.cpp logged on this thread.
pub(crate) fn watched<T>(work: impl FnOnce() -> T) -> (T, Log) {
    silence();
    WATCHED.set(Some(Log::default()));
    let result = work();
    (result, WATCHED.take().unwrap_or_default())
}

/// Takes a message; never panics, since C calls it.
fn receive(kind: Kind, message: &str) {
    let _ = WATCHED.try_with(|watched| {
        if let Ok(mut watched) = watched.try_borrow_mut()
            && let Some(log) = watched.as_mut()
        {
            log.add(kind, message);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_warnings_and_errors_with_their_continuations() {
        let ((), log) = watched(|| {
            receive(Kind::Note, "loading\n");
            receive(Kind::Fault, "\n=====\nwrong: ");
            receive(Kind::Continued, "the end\n");
            receive(Kind::Note, "done\n");
            receive(Kind::Continued, "really\n");
        });
        assert_eq!(log.faults(), "wrong: the end");
        assert_eq!(log.text, "loading\n\n=====\nwrong: the end\ndone\nreally\n");
        receive(Kind::Fault, "nobody listens");
        assert_eq!(watched(|| ()).1.faults(), "it does not say why");
    }
}
