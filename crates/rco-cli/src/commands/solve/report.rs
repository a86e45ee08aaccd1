//! What `rco solve` prints.

use std::path::Path;

use rco_core::knapsack::{Certificate, Status};
use rco_core::search::{Candidate, SearchOutcome, SearchSettings, StopReason};
use rco_core::{Budget, BudgetKind};
use rco_problems::file::Instance;
use serde_json::{Value, json};

use super::method_in_words;
use super::summary::{by_family, by_option};
use crate::error::CliError;
use crate::number::{amount, count, duration, grouped, loss, percent};
use crate::output::Out;
use crate::plan::Plan;
use crate::table::Columns;

/// Rows of a table before the rest is only counted.
const MAX_ROWS: usize = 24;

/// Prints one problem and its outcome.
pub(super) struct Report<'a> {
    instance: &'a Instance,
    file: &'a Path,
}

impl<'a> Report<'a> {
    pub(super) fn new(instance: &'a Instance, file: &'a Path) -> Self {
        Self { instance, file }
    }

    /// The problem: groups, loss, feasible range, budgets.
    pub(super) fn problem(&self, out: &mut Out) -> Result<(), CliError> {
        let problem = &self.instance.problem;
        let name = self.instance.name.as_deref();
        out.heading(&format!("Problem {}", name.unwrap_or(&self.file.display().to_string())))?;
        let decisions = problem.decisions().len();
        let tied = if decisions == problem.group_count() {
            String::new()
        } else {
            format!(" in {}", count(decisions as u64, "decision"))
        };
        let options = count(problem.option_count() as u64, "option");
        out.field("groups", format!("{}{tied}, {options}", grouped(problem.group_count() as u64)))?;
        let kind = match self.instance.pairs {
            0 => "separable".to_owned(),
            pairs => format!("quadratic, {}", count(pairs as u64, "pair term")),
        };
        let heldout = if self.instance.heldout { ", with held-out losses" } else { "" };
        out.field("loss", format!("{kind}{heldout}"))?;
        for (r, budget) in problem.budgets().iter().enumerate() {
            let (smallest, largest) = problem.cost_range(r);
            let range = format!("{} to {}", grouped(smallest), amount(largest, &budget.resource));
            out.field("feasible", range)?;
            out.field("budget", budget_in_words(budget))?;
        }
        Ok(())
    }

    /// What a run would do.
    pub(super) fn dry_run(&self, out: &mut Out, settings: &SearchSettings) -> Result<(), CliError> {
        let separable = self.instance.objective.is_separable();
        out.field("method", method_in_words(settings.method, separable))?;
        out.field("seed", settings.seed)?;
        if let Some(limit) = settings.evaluations {
            out.field("evaluations", format!("at most {}", grouped(limit)))?;
        }
        if let Some(limit) = settings.time_limit {
            out.field("time", format!("at most {}", duration(limit.as_secs_f64())))?;
        }
        out.line("\nDry run: the problem is sound and nothing was searched or written.")
    }

    /// The outcome: the plan, what is proven, what it took.
    pub(super) fn outcome(
        &self,
        out: &mut Out,
        outcome: &SearchOutcome,
        every_group: bool,
    ) -> Result<(), CliError> {
        let problem = &self.instance.problem;
        out.heading("Best plan")?;
        let loss_of = outcome.loss_calibration;
        out.field("loss", loss(loss_of.or(Some(outcome.loss_heldout))))?;
        if self.instance.heldout {
            out.field("held-out", loss(Some(outcome.loss_heldout)))?;
        }
        for ((budget, &cost), &slack) in
            problem.budgets().iter().zip(&outcome.costs).zip(&outcome.slack)
        {
            let share = percent(cost, budget.limit);
            let used = amount(cost, &budget.resource);
            out.field("used", format!("{used}, {share} of the budget"))?;
            out.field("slack", amount(slack, &budget.resource))?;
        }
        out.field("proof", proof_in_words(outcome))?;
        out.field("found by", format!("{} ({})", outcome.method, outcome.origin))?;
        let counts = &outcome.counts;
        let losses = grouped(counts.draws + counts.calibration + counts.heldout);
        let gradients = grouped(counts.gradients);
        out.field("evaluations", format!("{losses} of the loss, {gradients} with gradient"))?;
        out.field("time", duration(outcome.seconds))?;
        if let Some(words) = stop_in_words(outcome.stopped) {
            out.field("stopped", words)?;
        }

        out.heading("By option")?;
        out.line(self.option_table(outcome))?;
        let families = by_family(problem, outcome);
        if !families.is_empty() && families.len() <= MAX_ROWS {
            out.heading("By name")?;
            let mut table = Columns::new(&["groups", "count", "options"], 3);
            for family in families {
                let options: Vec<_> =
                    family.options.iter().map(|(name, n)| format!("{name} ×{n}")).collect();
                table.row([family.pattern, grouped(family.groups), options.join("  ")]);
            }
            out.line(table)?;
        }
        if outcome.candidates.len() > 1 {
            out.heading("Candidates, best first")?;
            out.line(self.candidate_table(&outcome.candidates))?;
        }
        if every_group {
            out.heading("Plan")?;
            out.line(self.group_table(outcome))?;
        }
        out.line("")
    }

    fn resource_names(&self) -> impl Iterator<Item = &'a str> {
        self.instance.problem.budgets().iter().map(|b| b.resource.as_str())
    }

    fn option_table(&self, outcome: &SearchOutcome) -> Columns {
        let uses = by_option(&self.instance.problem, outcome);
        let sized = uses.iter().any(|u| u.size != u.groups);
        let mut header = vec!["option", "groups"];
        header.extend(sized.then_some("size"));
        header.extend(self.resource_names());
        header.push("share");
        let mut table = Columns::new(&header, 1);
        for used in uses.iter().take(MAX_ROWS) {
            let mut row = vec![used.option.clone(), grouped(used.groups)];
            row.extend(sized.then(|| grouped(used.size)));
            row.extend(used.costs.iter().map(|&c| grouped(c)));
            row.push(percent(used.costs[0], outcome.costs[0]));
            table.row(row);
        }
        if uses.len() > MAX_ROWS {
            table.row([format!("and {} more", uses.len() - MAX_ROWS)]);
        }
        table
    }

    fn candidate_table(&self, candidates: &[Candidate]) -> Columns {
        let mut header = vec!["method", "found by", "loss"];
        header.extend(self.instance.heldout.then_some("held-out"));
        header.extend(self.resource_names());
        let mut table = Columns::new(&header, 2);
        for candidate in candidates.iter().take(MAX_ROWS) {
            let calibration = candidate.loss_calibration.or(Some(candidate.loss_heldout));
            let mut row =
                vec![candidate.method.to_string(), candidate.origin.clone(), loss(calibration)];
            row.extend(self.instance.heldout.then(|| loss(Some(candidate.loss_heldout))));
            row.extend(candidate.costs.iter().map(|&c| grouped(c)));
            table.row(row);
        }
        table
    }

    fn group_table(&self, outcome: &SearchOutcome) -> Columns {
        let problem = &self.instance.problem;
        let mut header = vec!["group", "option"];
        header.extend(self.resource_names());
        let mut table = Columns::new(&header, 2);
        for group in 0..problem.group_count() {
            let choice = outcome.assignment.option(group);
            let flat = problem.options_of(group).start + choice;
            let names = [problem.group_name(group), problem.option_name(group, choice)];
            let costs = (0..problem.budgets().len()).map(|r| grouped(problem.costs(r)[flat]));
            table.row(names.map(str::to_owned).into_iter().chain(costs));
        }
        table
    }

    /// The problem as JSON.
    pub(super) fn problem_json(&self) -> Value {
        let problem = &self.instance.problem;
        let budget = |(r, budget): (usize, &Budget)| {
            let (smallest, largest) = problem.cost_range(r);
            json!({
                "resource": budget.resource, "kind": budget.kind, "limit": budget.limit,
                "smallest": smallest, "largest": largest,
            })
        };
        json!({
            "file": self.file.display().to_string(),
            "sha256": self.instance.sha256,
            "name": self.instance.name,
            "groups": problem.group_count(),
            "options": problem.option_count(),
            "decisions": problem.decisions().len(),
            "separable": self.instance.objective.is_separable(),
            "pairs": self.instance.pairs,
            "budgets": problem.budgets().iter().enumerate().map(budget).collect::<Vec<_>>(),
        })
    }

    /// Problem, outcome and plan as JSON.
    pub(super) fn outcome_json(&self, outcome: &SearchOutcome, plan: &Plan) -> Value {
        let candidate = |c: &Candidate| {
            json!({
                "method": c.method, "found_by": c.origin, "loss": c.loss_calibration,
                "heldout_loss": c.loss_heldout, "costs": c.costs,
            })
        };
        json!({
            "problem": self.problem_json(),
            "plan": plan,
            "candidates": outcome.candidates.iter().map(candidate).collect::<Vec<_>>(),
            "evaluations": outcome.counts,
            "steps": outcome.steps,
            "stopped": outcome.stopped,
            "seconds": outcome.seconds,
        })
    }
}

fn budget_in_words(budget: &Budget) -> String {
    let kind = match budget.kind {
        BudgetKind::AtMost => "at most",
        BudgetKind::Exactly => "exactly",
    };
    format!("{kind} {}", amount(budget.limit, &budget.resource))
}

/// What is proven about the plan. The engine maximises, so its values are negated losses.
fn proof_in_words(outcome: &SearchOutcome) -> String {
    let Some(Certificate { value, bound, gap, status, .. }) = outcome.certificate else {
        return "none: no bound is known for this search; compare the candidates".to_owned();
    };
    let above = outcome.loss_calibration.unwrap_or(outcome.loss_heldout) + value;
    match status {
        Status::Optimal if above > 1e-12 * value.abs() => format!(
            "the smallest possible loss is {}; this plan was chosen by its held-out loss",
            loss(Some(-value))
        ),
        Status::Optimal => "optimal: no plan within the budget has a smaller loss".to_owned(),
        Status::Nearest { below, above } => format!(
            "the exact total cannot be met; the nearest below is {}{}",
            grouped(below),
            above.map_or_else(String::new, |a| format!(", the next above {}", grouped(a)))
        ),
        _ => format!(
            "not closed: no plan within the budget has a loss below {} (gap {gap:.1e})",
            loss(Some(-bound))
        ),
    }
}

fn stop_in_words(reason: StopReason) -> Option<&'static str> {
    match reason {
        StopReason::Completed | StopReason::Proven => None,
        StopReason::Evaluations => Some("at the limit of evaluations"),
        StopReason::Time => Some("at the limit of time"),
        StopReason::NoImprovement => Some("early: no better plan for long"),
        StopReason::Requested => Some("on request"),
        _ => Some("early"),
    }
}
