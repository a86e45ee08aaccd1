//! What every fuzz target of problem files does with a file that reads.

use rco_core::knapsack::{Settings, Solver, Status};
use rco_core::search::{Draw, Split};
use rco_problems::file::{FileError, Instance, ReadOptions};

/// Largest problem that is also solved.
const MAX_OPTIONS: usize = 64;

/// Options with room for small files only.
pub fn options(budgets: &[&str]) -> ReadOptions {
    let budgets = budgets.iter().map(|b| b.parse().expect("a valid budget")).collect();
    ReadOptions { budgets, max_bytes: 1 << 20 }
}

/// An error must have a message; a small problem must be solved within its budgets.
pub fn exercise(read: Result<Instance, FileError>) {
    let mut instance = match read {
        Ok(instance) => instance,
        Err(error) => {
            assert!(error.to_string().len() > "file: ".len());
            return;
        }
    };
    let problem = &instance.problem;
    let decisions = problem.decisions();
    if decisions.option_count() > MAX_OPTIONS {
        return;
    }
    let mut values = vec![0.0; decisions.option_count()];
    if let Some(scores) = instance.objective.proxy_scores() {
        let negated: Vec<f64> = scores.iter().map(|score| -score).collect();
        decisions.fold(problem, &negated, &mut values);
    }
    let settings = Settings { max_states: 1 << 14, max_nodes: 1 << 12, ..Settings::default() };
    let Ok(mut solver) = Solver::new(decisions, problem.budgets(), settings) else { return };
    let mut choices = vec![0; decisions.len()];
    let Ok(certificate) = solver.solve(&values, &mut choices) else { return };
    let plan = decisions.expand(&choices);
    problem.check(&plan).expect("the plan belongs to the problem");
    let nearest = matches!(certificate.status, Status::Nearest { .. });
    assert!(nearest || problem.is_feasible(&plan), "the plan breaks a budget");
    for split in [Split::Calibration, Split::HeldOut] {
        let loss = instance.objective.loss(&plan, split).expect("a loss of a valid plan");
        assert!(loss.is_finite(), "the loss is {loss}");
    }
    let evaluation = instance.objective.evaluate(&plan, Draw(0)).expect("a valid plan");
    assert!(evaluation.gradient.iter().all(|g| g.is_finite()));
}
