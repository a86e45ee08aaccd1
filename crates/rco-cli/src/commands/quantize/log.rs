//! `log.txt` of a run folder: what was done when, for people.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rco_core::search::{
    CheckpointEvent, Control, Observer, SearchOutcome, StageEvent, StartEvent, StepEvent,
};
use rco_quant::job::Reporter;

use super::Stages;
use crate::error::CliError;
use crate::number;

/// A file that only grows, a line for each thing: time, seconds since the command began, what.
struct Log {
    file: File,
    begun: Instant,
}

impl Log {
    fn line(&mut self, text: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let elapsed = self.begun.elapsed().as_secs_f64();
        let text = text.replace(['\n', '\r'], " ");
        // A run does not end because its log cannot be written.
        let _ = self.file.write_all(format!("{} {elapsed:9.1} s  {text}\n", utc(now)).as_bytes());
    }
}

/// A reporter that also writes into a log.
struct Logged<'a> {
    shown: &'a mut dyn Reporter,
    log: Log,
}

impl<'a> Logged<'a> {
    /// Opens a log, what it holds already kept.
    fn open(path: &Path, shown: &'a mut dyn Reporter) -> Result<Self, CliError> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(CliError::io(path, "opening"))?;
        Ok(Self { shown, log: Log { file, begun: Instant::now() } })
    }

    /// Notes the command that begins, or goes on.
    fn begin(&mut self) {
        let words = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned());
        let words = words.collect::<Vec<_>>().join(" ");
        self.log.line(&format!("rco {} {words}", env!("CARGO_PKG_VERSION")));
    }

    fn write(&mut self, text: &str) {
        self.log.line(text);
    }
}

/// Does `work` over a run folder, its stages in the log there and, unless `is_silent`, on the
/// screen; how it ended is in the log, too.
pub(crate) fn logged<T>(
    dir: &Path,
    is_silent: bool,
    name: &str,
    work: impl FnOnce(&mut dyn Reporter) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let mut stages = Stages::new(is_silent);
    let mut log = Logged::open(&dir.join("log.txt"), &mut stages)?;
    log.begin();
    let done = work(&mut log);
    match &done {
        Ok(_) => log.write(&format!("{name}: done")),
        Err(error) => log.write(&format!("{name}: {error}")),
    }
    drop(log);
    stages.finish();
    done
}

impl Reporter for Logged<'_> {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.log.line(name);
        self.shown.stage(name, total);
    }

    fn advance(&mut self, done: u64, message: &str) {
        self.shown.advance(done, message);
    }

    fn note(&mut self, text: &str) {
        self.log.line(&format!("note: {text}"));
        self.shown.note(text);
    }

    fn observer(&mut self) -> Box<dyn Observer + '_> {
        Box::new(Watching { shown: self.shown.observer(), log: &mut self.log })
    }
}

/// Watches a search: stages and the outcome go into the log.
struct Watching<'a> {
    shown: Box<dyn Observer + 'a>,
    log: &'a mut Log,
}

impl Observer for Watching<'_> {
    fn on_start(&mut self, event: &StartEvent) -> io::Result<()> {
        if let Some(step) = event.resumed_at {
            self.log.line(&format!("search: going on after step {step}"));
        }
        self.shown.on_start(event)
    }

    fn on_stage(&mut self, event: &StageEvent) -> io::Result<()> {
        self.log.line(&format!("search {}/{}: {}", event.index + 1, event.count, event.method));
        self.shown.on_stage(event)
    }

    fn on_step(&mut self, event: &StepEvent) -> io::Result<Control> {
        self.shown.on_step(event)
    }

    fn on_checkpoint(&mut self, event: &CheckpointEvent) -> io::Result<()> {
        self.shown.on_checkpoint(event)
    }

    fn on_finish(&mut self, outcome: &SearchOutcome) -> io::Result<()> {
        let loss = number::loss(Some(outcome.loss_heldout));
        let SearchOutcome { method, origin, steps, .. } = outcome;
        self.log.line(&format!(
            "search: done after {steps} steps, held-out loss {loss} by {method}, {origin}"
        ));
        self.shown.on_finish(outcome)
    }
}

/// A time in seconds since 1970 as `2026-01-31T23:59:59Z`.
fn utc(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |y: u64| y.is_multiple_of(4) && !y.is_multiple_of(100) || y.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while month < 11 && days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let (month, day) = (month + 1, days + 1);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }
}
