//! Checkpoints: resume to the bit, refusal of what does not belong.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::*;

fn saving(method: MethodName, dir: &Path) -> SearchSettings {
    let every = Duration::ZERO;
    let checkpoint = Some(CheckpointSettings { dir: dir.to_owned(), every });
    SearchSettings { checkpoint, ..quick(method) }
}

/// Interrupts after one step.
struct InterruptAt(u64);

impl Observer for InterruptAt {
    fn on_step(&mut self, event: &StepEvent) -> io::Result<Control> {
        Ok(if event.step == self.0 { Control::Interrupt } else { Control::Continue })
    }
}

#[test]
fn a_run_interrupted_at_any_step_ends_as_an_undisturbed_one() {
    let problem = problem(&Spec::default());
    for method in general_methods() {
        for noisy in [false, true] {
            let make = || {
                if noisy {
                    Synthetic::noisy(&problem, 5)
                } else {
                    Synthetic::quadratic(&problem, 5)
                }
            };
            let whole = timeless(run(&problem, &mut make(), &quick(method)));
            for at in 1..=whole.steps {
                let dir = tempfile::tempdir().unwrap();
                let settings = saving(method, dir.path());
                let mut observer = InterruptAt(at);
                let error = search(&problem, &mut make(), &settings, &mut observer).unwrap_err();
                assert!(matches!(error, SearchError::Interrupted { steps } if steps == at));
                let resumed = timeless(run(&problem, &mut make(), &settings));
                assert_eq!(resumed, whole, "{method} at step {at}");
            }
        }
    }
}

#[test]
fn a_run_killed_within_any_step_ends_as_an_undisturbed_one() {
    let problem = problem(&Spec::default());
    let method = MethodName::Portfolio;
    let whole = timeless(run(&problem, &mut Synthetic::noisy(&problem, 5), &quick(method)));
    let asked = whole.counts.limited() + whole.counts.heldout;
    for limit in (0..asked).step_by(3) {
        let dir = tempfile::tempdir().unwrap();
        let settings = saving(method, dir.path());
        let mut dying = Synthetic::noisy(&problem, 5);
        dying.fail_after = Some(limit);
        let error = search(&problem, &mut dying, &settings, &mut Silent).unwrap_err();
        assert!(matches!(error, SearchError::Objective(_)));
        let resumed = run(&problem, &mut Synthetic::noisy(&problem, 5), &settings);
        assert_eq!(timeless(resumed), whole, "killed at evaluation {limit}");
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_gets_there() {
    let problem = problem(&Spec::default());
    let method = MethodName::Portfolio;
    let whole = timeless(run(&problem, &mut Synthetic::quadratic(&problem, 5), &quick(method)));
    let dir = tempfile::tempdir().unwrap();
    let settings = saving(method, dir.path());
    let mut step = 0;
    let outcome = loop {
        step += 2;
        let mut objective = Synthetic::quadratic(&problem, 5);
        match search(&problem, &mut objective, &settings, &mut InterruptAt(step)) {
            Ok(outcome) => break outcome,
            Err(SearchError::Interrupted { steps }) => assert_eq!(steps, step),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(timeless(outcome), whole);
}

#[test]
fn a_finished_run_returns_its_outcome_again() {
    let problem = problem(&Spec::default());
    let dir = tempfile::tempdir().unwrap();
    let settings = saving(MethodName::Portfolio, dir.path());
    let first = timeless(run(&problem, &mut Synthetic::noisy(&problem, 5), &settings));
    let mut objective = Synthetic::noisy(&problem, 5);
    assert_eq!(timeless(run(&problem, &mut objective, &settings)), first);
    assert_eq!(objective.calls.gradients, 0);
}

#[test]
fn a_run_out_of_time_goes_on_when_it_is_given_more() {
    let problem = problem(&Spec::default());
    let method = MethodName::Portfolio;
    let whole = timeless(run(&problem, &mut Synthetic::noisy(&problem, 5), &quick(method)));
    let dir = tempfile::tempdir().unwrap();
    let mut settings = saving(method, dir.path());
    settings.time_limit = Some(Duration::ZERO);
    let short = run(&problem, &mut Synthetic::noisy(&problem, 5), &settings);
    assert_eq!(short.stopped, StopReason::Time);
    settings.time_limit = None;
    assert_eq!(timeless(run(&problem, &mut Synthetic::noisy(&problem, 5), &settings)), whole);
}

/// Leaves a checkpoint in `dir` that was taken in the RCO stage.
fn leave_checkpoint(dir: &Path) -> (Problem, SearchSettings) {
    let problem = problem(&Spec::default());
    let settings = saving(MethodName::Rco, dir);
    let mut objective = Synthetic::quadratic(&problem, 5);
    search(&problem, &mut objective, &settings, &mut InterruptAt(12)).unwrap_err();
    (problem, settings)
}

#[test]
fn a_damaged_checkpoint_is_refused_wherever_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (problem, settings) = leave_checkpoint(dir.path());
    let path = dir.path().join(CHECKPOINT_FILE);
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let mut objective = Synthetic::quadratic(&problem, 5);
        let error = search(&problem, &mut objective, &settings, &mut Silent).unwrap_err();
        assert!(matches!(error, SearchError::CheckpointDamaged { .. }), "{error}");
        assert_eq!(objective.calls.limited(), 0);
    };
    for end in (0..whole.len()).step_by(whole.len() / 40) {
        refused(&whole[..end]);
    }
    refused(&whole[..whole.len() - 1]);
    for place in (0..whole.len()).step_by(whole.len() / 60) {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        refused(&bytes);
    }
    refused(b"{}");
    refused(&[whole.clone(), whole.clone()].concat());
    fs::write(&path, &whole).unwrap();
    run(&problem, &mut Synthetic::quadratic(&problem, 5), &settings);
}

/// What a refusal of the checkpoint in `settings` says.
fn refusal(problem: &Problem, objective: &mut Synthetic, settings: &SearchSettings) -> String {
    let error = search(problem, objective, settings, &mut Silent).unwrap_err();
    assert!(matches!(error, SearchError::CheckpointForeign { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_checkpoint_of_another_run_is_refused_and_the_difference_named() {
    let dir = tempfile::tempdir().unwrap();
    let (same, settings) = leave_checkpoint(dir.path());
    let objective = || Synthetic::quadratic(&same, 5);

    let other = problem(&Spec { groups: 9, ..Spec::default() });
    let text = refusal(&other, &mut Synthetic::quadratic(&other, 5), &settings);
    assert!(text.contains("number of groups was 8 and is now 9"), "{text}");

    let other = problem(&Spec { seed: 2, ..Spec::default() });
    let text = refusal(&other, &mut Synthetic::quadratic(&other, 5), &settings);
    assert!(text.contains("budget was at most"), "{text}");

    let text = refusal(&same, &mut Synthetic::quadratic(&same, 6), &settings);
    assert!(text.contains("the objective was synthetic 5"), "{text}");

    let changed = SearchSettings { seed: 4, ..settings.clone() };
    let text = refusal(&same, &mut objective(), &changed);
    assert!(text.contains("setting `seed` was 3 and is now 4"), "{text}");

    let mut changed = settings.clone();
    changed.rco.learning_rate = 0.25;
    let text = refusal(&same, &mut objective(), &changed);
    assert!(text.contains("setting `rco.learning_rate` was 0.1 and is now 0.25"), "{text}");

    let changed = SearchSettings { threads: 2, ..settings };
    run(&same, &mut objective(), &changed);
}

#[test]
fn the_history_has_each_step_once_however_often_a_run_is_killed() {
    let problem = problem(&Spec::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let settings = SearchSettings {
        checkpoint: Some(CheckpointSettings::new(dir.path())),
        ..quick(MethodName::Portfolio)
    };
    let mut outcome = None;
    for limit in [40, 55, 90, 10_000] {
        let mut objective = Synthetic::noisy(&problem, 5);
        objective.fail_after = Some(limit);
        let mut history = JsonlHistory::new(&path);
        outcome = search(&problem, &mut objective, &settings, &mut history).ok();
        if outcome.is_none() {
            drop(history);
            // A line that the kill has torn.
            let mut text = fs::read_to_string(&path).unwrap();
            text.push_str("{\"step\":99");
            fs::write(&path, text).unwrap();
        }
    }
    let steps = outcome.unwrap().steps;
    let text = fs::read_to_string(&path).unwrap();
    let numbers: Vec<u64> = text
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["step"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(numbers, (1..=steps).collect::<Vec<_>>());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let problem = problem(&Spec::default());
    let settings = saving(MethodName::Uniform, &file.join("run"));
    let mut objective = Synthetic::quadratic(&problem, 5);
    let error = search(&problem, &mut objective, &settings, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("run/checkpoint.json"), "{error}");
}
