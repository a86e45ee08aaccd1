//! The `rco` command.
//!
//! Exit codes: 0 done · 1 the search failed · 2 wrong usage · 3 no plan meets the
//! budgets · 4 an input file is wrong · 5 reading or writing failed · 6 the run folder
//! belongs to another run, is damaged or is in use · 130 interrupted.

mod commands;
mod error;
mod number;
mod output;
mod plan;
mod progress;
mod run_folder;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::quantize::Step;

/// Chooses one option for each group so that the loss is smallest and the cost stays
/// within the budget, to the unit.
#[derive(Debug, Parser)]
#[command(name = "rco", version, about, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done                                4  an input file is wrong
  1  the search failed                   5  reading or writing failed
  2  wrong usage                         6  the run folder belongs to another run
  3  no plan meets the budgets         130  interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    Quantize(Box<commands::quantize::Args>),
    Options(Box<commands::quantize::OptionsArgs>),
    Search(Box<commands::quantize::SearchArgs>),
    Build(Box<commands::quantize::BuildArgs>),
    Prune(Box<commands::prune::Args>),
    Solve(commands::solve::Args),
    #[command(subcommand, hide = true)]
    Check(commands::check::Check),
    Eval(commands::eval::Args),
    Inspect(commands::inspect::Args),
    Schema(commands::schema::Args),
    #[command(subcommand)]
    Bench(commands::bench::Bench),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Quantize(args) => commands::quantize::run(&args.flags, Step::All),
        Command::Options(args) => commands::quantize::run(&args.flags, Step::Options),
        Command::Search(args) => commands::quantize::run(&args.flags, Step::Search),
        Command::Build(args) => commands::quantize::run(&args.flags, Step::Build),
        Command::Prune(args) => commands::prune::run(&args),
        Command::Solve(args) => commands::solve::run(&args),
        Command::Check(check) => commands::check::run(&check),
        Command::Bench(bench) => commands::bench::run(&bench),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Schema(args) => commands::schema::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            output::report_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
