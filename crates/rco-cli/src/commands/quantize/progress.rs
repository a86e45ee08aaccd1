//! What is seen while a job runs.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rco_core::search::{Control, Fanout, Observer, Silent};
use rco_quant::job::Reporter;

use crate::output;
use crate::progress::{Bar, Interrupt};

/// A bar for each stage on standard error; nothing where that is no terminal.
pub(crate) struct Stages {
    bar: ProgressBar,
    quiet: bool,
}

impl Stages {
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if !quiet {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Self { bar, quiet }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Watches a search: a bar, and an interruption that keeps what there is.
struct Watching {
    interrupt: Interrupt,
    bar: Option<Bar>,
    silent: Silent,
}

impl Watching {
    fn all(&mut self) -> Fanout<'_> {
        let shown: &mut dyn Observer = match &mut self.bar {
            Some(bar) => bar,
            None => &mut self.silent,
        };
        Fanout(vec![&mut self.interrupt, shown])
    }
}

impl Observer for Watching {
    fn on_start(&mut self, event: &rco_core::search::StartEvent) -> std::io::Result<()> {
        self.all().on_start(event)
    }

    fn on_stage(&mut self, event: &rco_core::search::StageEvent) -> std::io::Result<()> {
        self.all().on_stage(event)
    }

    fn on_step(&mut self, event: &rco_core::search::StepEvent) -> std::io::Result<Control> {
        self.all().on_step(event)
    }

    fn on_finish(&mut self, outcome: &rco_core::search::SearchOutcome) -> std::io::Result<()> {
        self.all().on_finish(outcome)
    }
}

impl Reporter for Stages {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.bar.reset();
        let template = if total.is_some() {
            "{prefix} {wide_bar} {percent} % {msg} {eta} left"
        } else {
            "{prefix} {spinner} {msg} {elapsed}"
        };
        let style = ProgressStyle::with_template(template);
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message("");
        self.bar.tick();
    }

    fn advance(&mut self, done: u64, message: &str) {
        self.bar.set_message(message.to_owned());
        self.bar.set_position(done);
    }

    fn note(&mut self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| output::note(text));
        }
    }

    fn observer(&mut self) -> Box<dyn Observer + '_> {
        self.bar.finish_and_clear();
        Box::new(Watching {
            interrupt: Interrupt::new(Control::Interrupt),
            bar: (!self.quiet).then(|| Bar::new(false)),
            silent: Silent,
        })
    }
}
