//! `rco solve`: the best plan for a problem file.

mod args;
mod report;
mod summary;

use std::path::Path;

use rco_core::BudgetKind;
use rco_core::search::{
    Control, Fanout, JsonlHistory, MethodName, Observer, SearchError, SearchSettings, StopReason,
    search,
};
use rco_problems::file::{Instance, ReadOptions, read};
use serde_json::{Value, json};

pub(crate) use self::args::Args;
use self::report::Report;
use crate::error::CliError;
use crate::output::{self, Out};
use crate::plan::Plan;
use crate::progress::{Bar, Interrupt};
use crate::run_folder::{Description, RunFolder};

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if let Some(path) = &args.output {
        output::check_target(path, args.force)?;
    }
    let options = ReadOptions { budgets: args.budget.clone(), max_bytes: args.max_file_size.value };
    let mut instance = read(&args.problem, &options)?;
    let settings = args.settings()?;
    settings.validate()?;
    let mut out = if args.quiet || args.json { Out::none() } else { Out::stdout() };

    let report = Report::new(&instance, &args.problem);
    report.problem(&mut out)?;
    if args.dry_run {
        return if args.json {
            Out::stdout().json(&report.problem_json())
        } else {
            report.dry_run(&mut out, &settings)
        };
    }
    let folder = match &args.run {
        None => None,
        Some(dir) => {
            let description = describe(&args.problem, &instance, &settings)?;
            Some(RunFolder::open(dir, &description)?)
        }
    };
    // The objective runs on rayon's global pool, the search on one of its own.
    super::start_threads(settings.threads)?;
    let outcome = {
        let mut interrupt = Interrupt::new(match folder {
            Some(_) => Control::Interrupt,
            None => Control::Finish,
        });
        let mut bar = Bar::new(args.quiet);
        let mut history = folder.as_ref().map(|f| JsonlHistory::new(f.history()));
        let mut observers: Vec<&mut dyn Observer> = vec![&mut interrupt, &mut bar];
        observers.extend(history.as_mut().map(|h| h as &mut dyn Observer));
        search(&instance.problem, &mut *instance.objective, &settings, &mut Fanout(observers))
    };
    let outcome = outcome.map_err(|error| match error {
        SearchError::Interrupted { .. } => CliError::Interrupted {
            hint: "run the same command again to go on from here".to_owned(),
        },
        other => other.into(),
    })?;

    let plan = Plan::new(&instance, &args.problem, settings.seed, &outcome);
    if let Some(folder) = &folder {
        output::write_json(&folder.plan(), &plan)?;
    }
    if let Some(path) = &args.output {
        output::check_target(path, args.force)?;
        output::write_json(path, &plan)?;
    }
    let report = Report::new(&instance, &args.problem);
    report.outcome(&mut out, &outcome, args.plan)?;
    let written = folder.map(|f| f.plan()).into_iter().chain(args.output.clone());
    for path in written {
        out.field("plan file", path.display())?;
    }
    if args.json {
        Out::stdout().json(&report.outcome_json(&outcome, &plan))?;
    }
    if outcome.stopped == StopReason::Requested {
        let hint = "this is the best plan so far".to_owned();
        return Err(CliError::Interrupted { hint });
    }
    Ok(())
}

fn describe(
    path: &Path,
    instance: &Instance,
    settings: &SearchSettings,
) -> Result<Description, CliError> {
    let in_json = |error: serde_json::Error| CliError::Io {
        path: path.to_owned(),
        action: "describing the run",
        source: error.into(),
    };
    let mut kept = serde_json::to_value(settings).map_err(in_json)?;
    if let Value::Object(entries) = &mut kept {
        // These may change between a run and its continuation.
        for free in ["threads", "time_limit", "checkpoint"] {
            entries.remove(free);
        }
    }
    let budgets: Vec<String> = instance
        .problem
        .budgets()
        .iter()
        .map(|b| {
            let sign = if b.kind == BudgetKind::Exactly { "==" } else { "<=" };
            format!("{} {sign} {}", b.resource, b.limit)
        })
        .collect();
    let command = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    Ok(Description::new(path, &instance.sha256, json!(budgets), kept, command))
}

/// The method that runs in the end: the portfolio takes the exact one where it can.
fn method_in_words(method: MethodName, separable: bool) -> String {
    match (method, separable) {
        (MethodName::Portfolio, true) => "portfolio (the loss is separable: exact)".to_owned(),
        (method, _) => method.to_string(),
    }
}
