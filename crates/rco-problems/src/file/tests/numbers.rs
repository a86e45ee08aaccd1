//! Numbers that are negative, fractional, too large or in quotes.

use super::*;

#[test]
fn negative_cost() {
    let kind = broken("\"cost\": 5", "\"cost\": -5");
    let FileErrorKind::NegativeNumber { what, found } = &kind else { panic!("{kind:?}") };
    assert_eq!(what, "cost of option `large` of group `a`");
    assert_eq!(found, "-5");
}

#[test]
fn float_cost() {
    assert_kind!(broken("\"cost\": 5", "\"cost\": 5.5"), FileErrorKind::FractionalNumber { .. });
    assert_kind!(broken("\"cost\": 5", "\"cost\": 5e3"), FileErrorKind::FractionalNumber { .. });
}

#[test]
fn cost_as_text() {
    assert_kind!(broken("\"cost\": 5", "\"cost\": \"5\""), FileErrorKind::NumberAsText { .. });
}

#[test]
fn cost_beyond_63_bits() {
    for cost in ["9223372036854775808", "18446744073709551616", "1e300"] {
        assert_kind!(
            broken("\"cost\": 5", &format!("\"cost\": {cost}")),
            FileErrorKind::NumberTooLarge { .. }
        );
    }
}

#[test]
fn sum_of_costs_beyond_63_bits() {
    let text = GOOD.replace("\"cost\": 5", "\"cost\": 9223372036854775807");
    assert_kind!(kind(&text), FileErrorKind::Problem(ProblemError::CostOverflow { .. }));
}

#[test]
fn loss_as_text() {
    assert_kind!(broken("1.5", "\"1.5\""), FileErrorKind::NumberAsText { .. });
}

#[test]
fn losses_whose_sum_overflows() {
    let text = GOOD.replace("1.5", "1.7e308");
    assert_kind!(kind(&text), FileErrorKind::Problem(ProblemError::NotFinite { .. }));
}

#[test]
fn zero_size() {
    assert_kind!(
        broken("\"size\": 3", "\"size\": 0"),
        FileErrorKind::Problem(ProblemError::ZeroSize { .. })
    );
}

#[test]
fn sizes_beyond_64_bits() {
    let text = GOOD
        .replace("\"size\": 3", "\"size\": 9223372036854775807")
        .replace("\"name\": \"b\",", "\"name\": \"b\", \"size\": 9223372036854775807,")
        .replace(
            "\"groups\": [",
            "\"groups\": [{\"name\": \"c\", \"size\": 9223372036854775807, \"options\":
                [{\"name\": \"x\", \"cost\": 0, \"loss\": 0}]},",
        );
    assert_kind!(kind(&text), FileErrorKind::Problem(ProblemError::SizeOverflow { .. }));
}

#[test]
fn limits_that_are_no_amounts() {
    let with = |limit: &str| broken("\"limit\": 10", &format!("\"limit\": {limit}"));
    assert_kind!(with("-1"), FileErrorKind::NegativeNumber { .. });
    assert_kind!(with("1.5"), FileErrorKind::FractionalNumber { .. });
    assert_kind!(with("\"10 apples\""), FileErrorKind::Limit { .. });
    assert_kind!(with("\"99999999999TB\""), FileErrorKind::Limit { .. });
    assert_kind!(with("\"-1GB\""), FileErrorKind::Limit { .. });
    assert_kind!(with("\"0.3B\", \"kind\": \"exactly\""), FileErrorKind::Limit { .. });
}
