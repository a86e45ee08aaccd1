//! Problems that are readable but wrong.

use super::*;

fn problem_error(from: &str, to: &str) -> ProblemError {
    match broken(from, to) {
        FileErrorKind::Problem(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_groups() {
    let text = r#"{"format": "rco-problem", "version": 1,
        "budgets": [{"resource": "bytes", "limit": 10}], "groups": []}"#;
    assert_kind!(kind(text), FileErrorKind::Problem(ProblemError::NoGroups));
}

#[test]
fn no_budgets() {
    let text = r#"{"format": "rco-problem", "version": 1, "groups": [
        {"name": "a", "options": [{"name": "x", "costs": {}, "loss": 0}]}]}"#;
    assert_kind!(kind(text), FileErrorKind::Problem(ProblemError::NoBudgets));
}

#[test]
fn empty_group() {
    let text = r#"{"format": "rco-problem", "version": 1,
        "budgets": [{"resource": "bytes", "limit": 10}],
        "groups": [{"name": "a", "options": []}]}"#;
    assert_kind!(kind(text), FileErrorKind::Problem(ProblemError::EmptyGroup { .. }));
}

#[test]
fn empty_names() {
    assert_kind!(problem_error("\"a\"", "\"\""), ProblemError::EmptyName { .. });
    assert_kind!(problem_error("\"small\"", "\"\""), ProblemError::EmptyName { .. });
    assert_kind!(problem_error("\"bytes\"", "\"\""), ProblemError::EmptyName { .. });
}

#[test]
fn duplicate_group() {
    assert_kind!(problem_error("\"b\"", "\"a\""), ProblemError::DuplicateGroup { .. });
}

#[test]
fn duplicate_option() {
    assert_kind!(problem_error("\"large\"", "\"small\""), ProblemError::DuplicateOption { .. });
}

#[test]
fn duplicate_resource() {
    let text = GOOD
        .replace("10}]", "10}, {\"resource\": \"bytes\", \"limit\": 1}]")
        .replace("\"cost\": 5", "\"costs\": {\"bytes\": 5}");
    // Without a second name there is no telling which cost is meant.
    assert_kind!(kind(&text), FileErrorKind::Problem(ProblemError::DuplicateResource { .. }));
}

#[test]
fn more_budgets_than_supported() {
    let budgets: Vec<_> =
        (0..65).map(|i| format!("{{\"resource\": \"r{i}\", \"limit\": 1}}")).collect();
    assert_kind!(
        broken(r#"{"resource": "bytes", "limit": 10}"#, &budgets.join(",")),
        FileErrorKind::TooManyBudgets { found: 65, limit: 64 }
    );
}

#[test]
fn unknown_group_in_a_tie() {
    let error = problem_error("\"groups\"", "\"ties\": [[\"a\", \"B\"]], \"groups\"");
    assert!(error.to_string().contains("did you mean `b`"), "{error}");
}

#[test]
fn tie_of_one() {
    assert_kind!(
        problem_error("\"groups\"", "\"ties\": [[\"a\"]], \"groups\""),
        ProblemError::TieTooSmall { index: 0, found: 1 }
    );
}

#[test]
fn tie_of_different_options() {
    let text = GOOD.replacen("\"groups\"", "\"ties\": [[\"a\", \"b\"]], \"groups\"", 1).replacen(
        "\"large\"",
        "\"huge\"",
        1,
    );
    assert_kind!(kind(&text), FileErrorKind::Problem(ProblemError::TieOptions { .. }));
}

#[test]
fn fixed_to_an_unknown_option() {
    assert_kind!(
        problem_error("\"groups\"", "\"fixed\": {\"a\": \"tiny\"}, \"groups\""),
        ProblemError::UnknownOption { .. }
    );
}

#[test]
fn fixed_twice() {
    assert_kind!(
        problem_error("\"groups\"", r#""fixed": {"a": "small", "a": "large"}, "groups""#),
        ProblemError::FixedTwice { .. }
    );
}

#[test]
fn infeasible_budget_names_the_smallest_feasible_one() {
    let error = problem_error("\"limit\": 10", "\"limit\": 2");
    assert!(error.to_string().contains("smallest possible total is 3"), "{error}");
}

#[test]
fn exact_budget_above_all_options() {
    assert_kind!(
        problem_error("\"limit\": 10", "\"limit\": 99, \"kind\": \"exactly\""),
        ProblemError::BudgetTooLarge { largest: 14, .. }
    );
}

fn with_pair(pair: &str) -> FileErrorKind {
    broken("\"groups\"", &format!("\"pairs\": [{pair}], \"groups\""))
}

#[test]
fn pair_of_an_unknown_group() {
    assert_kind!(
        with_pair(r#"{"groups": ["a", "c"], "options": ["small", "small"], "loss": 1}"#),
        FileErrorKind::PairUnknownGroup { pair: 0, .. }
    );
}

#[test]
fn pair_of_an_unknown_option() {
    assert_kind!(
        with_pair(r#"{"groups": ["a", "b"], "options": ["small", "tiny"], "loss": 1}"#),
        FileErrorKind::PairUnknownOption { pair: 0, .. }
    );
}

#[test]
fn pair_of_a_group_with_itself() {
    assert_kind!(
        with_pair(r#"{"groups": ["a", "a"], "options": ["small", "large"], "loss": 1}"#),
        FileErrorKind::PairSameGroup { pair: 0, .. }
    );
}

#[test]
fn pair_twice() {
    assert_kind!(
        with_pair(
            r#"{"groups": ["a", "b"], "options": ["small", "large"], "loss": 1},
               {"groups": ["b", "a"], "options": ["large", "small"], "loss": 1}"#
        ),
        FileErrorKind::DuplicatePair { .. }
    );
}

#[test]
fn pair_loss_as_text() {
    assert_kind!(
        with_pair(r#"{"groups": ["a", "b"], "options": ["small", "large"], "loss": "1"}"#),
        FileErrorKind::NumberAsText { .. }
    );
}
