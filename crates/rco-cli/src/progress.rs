//! What is seen while the search runs, and how it is interrupted.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rco_core::search::{Control, Observer, SearchOutcome, StageEvent, StartEvent, StepEvent};

use crate::number;
use crate::output;

/// Signals (interrupt, terminate, hang up) received so far.
static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// Ends the search after the step at work once a signal has come. A second signal
/// ends the process at once.
pub(crate) struct Interrupt(Control);

impl Interrupt {
    pub(crate) fn new(control: Control) -> Self {
        static HANDLER: OnceLock<bool> = OnceLock::new();
        // Without a handler a signal ends the process, which a run survives as well.
        HANDLER.get_or_init(|| {
            ctrlc::set_handler(|| {
                if SIGNALS.fetch_add(1, Ordering::SeqCst) > 0 {
                    std::process::exit(130);
                }
            })
            .is_ok()
        });
        Self(control)
    }
}

impl Observer for Interrupt {
    fn on_step(&mut self, _: &StepEvent) -> io::Result<Control> {
        Ok(if SIGNALS.load(Ordering::SeqCst) > 0 { self.0 } else { Control::Continue })
    }
}

/// A progress bar on standard error; nothing where that is no terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    quiet: bool,
}

impl Bar {
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if !quiet {
            // Hidden by itself if standard error is no terminal.
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Self { bar, quiet }
    }

    fn style(known: bool) -> ProgressStyle {
        let template = if known {
            "{prefix} {wide_bar} {pos}/{len} {msg} {eta} left"
        } else {
            "{prefix} {spinner} {pos} steps {msg} {elapsed}"
        };
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    }
}

impl Observer for Bar {
    fn on_start(&mut self, event: &StartEvent) -> io::Result<()> {
        if let Some(step) = event.resumed_at
            && !self.quiet
        {
            output::note(&format!("going on after step {step}"));
        }
        Ok(())
    }

    fn on_stage(&mut self, event: &StageEvent) -> io::Result<()> {
        self.bar.reset();
        self.bar.set_style(Self::style(event.planned_steps.is_some()));
        if let Some(steps) = event.planned_steps {
            self.bar.set_length(steps);
        }
        self.bar.set_prefix(format!("{}/{} {}", event.index + 1, event.count, event.method));
        Ok(())
    }

    fn on_step(&mut self, event: &StepEvent) -> io::Result<Control> {
        if let Some(steps) = event.planned_steps {
            self.bar.set_length(steps);
        }
        self.bar.set_position(event.stage_step);
        if event.best.is_some() {
            self.bar.set_message(format!("best {}", number::loss(event.best)));
        }
        Ok(Control::Continue)
    }

    fn on_finish(&mut self, _: &SearchOutcome) -> io::Result<()> {
        self.bar.finish_and_clear();
        Ok(())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
