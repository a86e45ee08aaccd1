//! Costs and held-out losses that do not fit the budgets.

use super::*;

#[test]
fn none() {
    assert_kind!(broken("\"cost\": 5, ", ""), FileErrorKind::MissingCost { .. });
}

#[test]
fn cost_and_costs() {
    assert_kind!(
        broken("\"cost\": 5", "\"cost\": 5, \"costs\": {\"bytes\": 5}"),
        FileErrorKind::CostAndCosts { .. }
    );
}

#[test]
fn resource_without_budget() {
    assert_kind!(
        broken("\"cost\": 5", "\"costs\": {\"bytes\": 5, \"us\": 1}"),
        FileErrorKind::CostWithoutBudget { .. }
    );
}

#[test]
fn resource_left_out() {
    assert_kind!(broken("\"cost\": 5", "\"costs\": {}"), FileErrorKind::MissingCost { .. });
}

#[test]
fn resource_twice() {
    assert_kind!(
        broken("\"cost\": 5", "\"costs\": {\"bytes\": 5, \"bytes\": 6}"),
        FileErrorKind::DuplicateCost { .. }
    );
}

#[test]
fn one_cost_for_two_budgets() {
    assert_kind!(
        broken("10}]", "10}, {\"resource\": \"us\", \"limit\": 1}]"),
        FileErrorKind::AmbiguousCost { budgets: 2, .. }
    );
}

#[test]
fn held_out_losses_of_some_options_only() {
    let kind = broken("\"loss\": 1.5", "\"loss\": 1.5, \"heldout_loss\": 2");
    assert!(
        matches!(&kind, FileErrorKind::HeldOutIncomplete { option, .. } if option == "small"),
        "{kind:?}"
    );
}
