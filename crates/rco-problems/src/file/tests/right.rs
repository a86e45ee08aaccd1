//! What reads without complaint.

use super::*;

#[test]
fn a_separable_problem() {
    let mut instance = parse(GOOD).unwrap();
    assert_eq!(instance.name.as_deref(), Some("two"));
    assert_eq!(instance.problem.costs(0), [2, 5, 1, 9]);
    assert_eq!(instance.problem.size(0), 3);
    assert_eq!(instance.problem.size(1), 1);
    assert!(instance.objective.is_separable());
    let at = Assignment::new(vec![1, 0]);
    assert_eq!(instance.objective.loss(&at, Split::Calibration).unwrap(), 3.5);
}

#[test]
fn pairs_make_the_loss_quadratic() {
    let pairs = r#""pairs": [{"groups": ["b", "a"], "options": ["large", "small"], "loss": 8}],
        "groups""#;
    let mut instance = parse(&GOOD.replacen("\"groups\"", pairs, 1)).unwrap();
    assert!(!instance.objective.is_separable());
    assert_eq!(instance.pairs, 1);
    let at = Assignment::new(vec![0, 1]);
    assert_eq!(instance.objective.loss(&at, Split::Calibration).unwrap(), 11.0);
}

#[test]
fn ties_and_fixed_choices() {
    let text = r#""ties": [["a", "b"]], "fixed": {"a": "small"}, "groups""#;
    let instance = parse(&GOOD.replacen("\"groups\"", text, 1)).unwrap();
    assert_eq!(instance.problem.decisions().len(), 1);
    assert_eq!(instance.problem.cost_range(0), (3, 3));
}

#[test]
fn costs_by_resource_in_any_order() {
    let text = r#"{"format": "rco-problem", "version": 1,
        "budgets": [{"resource": "bytes", "limit": "1KB"},
                    {"resource": "us", "limit": 7, "kind": "exactly"}],
        "groups": [{"name": "a", "options": [
            {"name": "x", "costs": {"us": 7, "bytes": 4}, "loss": 0}]}]}"#;
    let problem = parse(text).unwrap().problem;
    assert_eq!((problem.costs(0), problem.costs(1)), (&[4_u64][..], &[7_u64][..]));
    assert_eq!(problem.budgets()[0].limit, 1000);
    assert_eq!(problem.budgets()[1].kind, BudgetKind::Exactly);
}

#[test]
fn held_out_losses_of_options_and_pairs() {
    let text = GOOD.replace("\"loss\"", "\"heldout_loss\": 100, \"loss\"").replacen(
        "\"groups\"",
        r#""pairs": [{"groups": ["a", "b"],
            "options": ["small", "small"], "loss": 1, "heldout_loss": 5}], "groups""#,
        1,
    );
    let mut instance = parse(&text).unwrap();
    assert!(instance.heldout);
    let at = Assignment::new(vec![0, 0]);
    assert_eq!(instance.objective.loss(&at, Split::Calibration).unwrap(), 7.0);
    assert_eq!(instance.objective.loss(&at, Split::HeldOut).unwrap(), 205.0);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    parse(&format!("\u{feff}{GOOD}")).unwrap();
    csv("\u{feff}group,option,bytes,loss\na,x,1,0\n", "10").unwrap();
}

#[test]
fn budgets_from_outside_replace_those_of_the_file() {
    let with = |budget: &str| {
        let budgets = vec![budget.parse().unwrap()];
        parse_json(GOOD.as_bytes(), "p", &ReadOptions { budgets, ..ReadOptions::default() })
    };
    assert_eq!(with("7").unwrap().problem.budgets()[0].limit, 7);
    let exact = with("bytes==6").unwrap();
    assert_eq!(exact.problem.budgets()[0].kind, BudgetKind::Exactly);
    assert_kind!(*with("time=6").unwrap_err().kind, FileErrorKind::UnknownBudget { .. });
}

#[test]
fn a_file_without_budgets_takes_those_from_outside() {
    let text = GOOD.replacen(r#"[{"resource": "bytes", "limit": 10}]"#, "[]", 1);
    let budgets = vec!["bytes=6".parse().unwrap()];
    let options = ReadOptions { budgets, ..ReadOptions::default() };
    let problem = parse_json(text.as_bytes(), "p", &options).unwrap().problem;
    assert_eq!(problem.budgets()[0].limit, 6);
    assert_kind!(kind(&text), FileErrorKind::AmbiguousCost { .. });
}

#[test]
fn csv_with_one_resource() {
    let text = "group,option,bytes,loss,size\n# a note\na, x,2,0.5,7\nb,x,3,-1e-3,\na,y,4,0,7\n";
    let mut instance = csv(text, "bytes=1KB").unwrap();
    assert_eq!(instance.problem.costs(0), [2, 4, 3]);
    assert_eq!((instance.problem.size(0), instance.problem.size(1)), (7, 1));
    let at = Assignment::new(vec![0, 0]);
    assert_eq!(instance.objective.loss(&at, Split::Calibration).unwrap(), 0.499);
}

#[test]
fn csv_with_two_resources() {
    let text = "group,option,bytes,us,loss\na,x,2,9,0.5\n";
    let problem = csv(text, "us==9 bytes=10").unwrap().problem;
    assert_eq!(problem.budgets()[0].resource, "bytes");
    assert_eq!(problem.budgets()[1].limit, 9);
    assert_eq!(problem.budgets()[1].kind, BudgetKind::Exactly);
    assert_kind!(*csv(text, "bytes=10").unwrap_err().kind, FileErrorKind::MissingBudget { .. });
    assert_kind!(*csv(text, "10").unwrap_err().kind, FileErrorKind::AmbiguousBudget { .. });
}

#[test]
fn a_document_written_and_read_again_is_the_same() {
    let file: ProblemFile = serde_json::from_str(GOOD).unwrap();
    let again: ProblemFile = serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
    assert_eq!(file, again);
}
