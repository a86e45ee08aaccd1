//! CSV files.

use super::*;

const HEAD: &str = "group,option,bytes,loss\n";

#[test]
fn no_rows() {
    assert_kind!(csv_kind(HEAD), FileErrorKind::CsvNoRows);
}

#[test]
fn missing_column() {
    for column in ["group", "option", "loss"] {
        let text = HEAD.replace(column, "other");
        let kind = csv_kind(&text);
        assert!(
            matches!(kind, FileErrorKind::CsvMissingColumn { column: found } if found == column),
            "{kind:?}"
        );
    }
}

#[test]
fn no_cost_column() {
    assert_kind!(csv_kind("group,option,loss\na,x,1\n"), FileErrorKind::CsvNoCost);
}

#[test]
fn column_twice() {
    assert_kind!(
        csv_kind("group,option,loss,loss\na,x,1,1\n"),
        FileErrorKind::CsvDuplicateColumn { .. }
    );
    assert_kind!(
        csv_kind("group,option,loss,\na,x,1,1\n"),
        FileErrorKind::CsvDuplicateColumn { .. }
    );
}

#[test]
fn too_few_cells() {
    let text = format!("{HEAD}a,x,1,0\na,y,2\n");
    assert_kind!(csv_kind(&text), FileErrorKind::CsvCellCount { line: 3, expected: 4, found: 3 });
}

#[test]
fn costs_that_are_no_whole_numbers() {
    for cost in ["-1", "1.5", "1e3", "", "x", "NaN", "99999999999999999999"] {
        let kind = csv_kind(&format!("{HEAD}a,x,{cost},0\n"));
        assert!(
            matches!(&kind, FileErrorKind::CsvCell { line: 2, column, .. } if column == "bytes"),
            "{kind:?}"
        );
    }
}

#[test]
fn losses_that_are_no_finite_numbers() {
    for loss in ["NaN", "inf", "-inf", "1e400", "", "x"] {
        let kind = csv_kind(&format!("{HEAD}a,x,1,{loss}\n"));
        assert!(
            matches!(&kind, FileErrorKind::CsvCell { line: 2, column, .. } if column == "loss"),
            "{kind:?}"
        );
    }
}

#[test]
fn group_of_two_sizes() {
    let text = "group,option,bytes,loss,size\na,x,1,0,5\na,y,1,0,6\n";
    assert_kind!(
        csv_kind(text),
        FileErrorKind::CsvSizeConflict { line: 3, first: 5, found: 6, .. }
    );
}

#[test]
fn no_budget() {
    let error = csv(&format!("{HEAD}a,x,1,0\n"), "").unwrap_err();
    assert!(error.to_string().contains("--budget bytes=AMOUNT"), "{error}");
}

#[test]
fn budget_of_another_resource() {
    let error = csv(&format!("{HEAD}a,x,1,0\n"), "us=4").unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::MissingBudget { .. });
    let error = csv(&format!("{HEAD}a,x,1,0\n"), "bytes=4 us=4").unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::UnknownBudget { .. });
}

#[test]
fn infeasible_budget() {
    let error = csv(&format!("{HEAD}a,x,5,0\n"), "4").unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::Problem(ProblemError::BudgetTooSmall { .. }));
}

#[test]
fn duplicate_option() {
    let error = csv(&format!("{HEAD}a,x,1,0\nb,x,1,0\na,x,2,0\n"), "9").unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::Problem(ProblemError::DuplicateOption { .. }));
}
