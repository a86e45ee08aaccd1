//! Fields that are missing, unknown, repeated or of the wrong type.

use super::*;

#[test]
fn unknown_field_names_those_that_exist() {
    let kind = broken("\"size\"", "\"weight\"");
    let FileErrorKind::UnknownField { line: 5, field, expected, .. } = &kind else {
        panic!("{kind:?}")
    };
    assert_eq!(field, "weight");
    assert!(expected.contains("`size`"), "{expected}");
}

#[test]
fn missing_field() {
    let kind = broken(", \"loss\": 1.5", "");
    assert!(
        matches!(&kind, FileErrorKind::MissingField { line: 7, field, .. } if field == "loss"),
        "{kind:?}"
    );
}

#[test]
fn field_twice() {
    assert_kind!(
        broken("\"size\": 3", "\"size\": 3, \"size\": 4"),
        FileErrorKind::DuplicateField { line: 5, .. }
    );
}

#[test]
fn wrong_type() {
    assert_kind!(broken("1.5", "[1.5]"), FileErrorKind::WrongType { line: 7, .. });
    assert_kind!(broken("1.5", "null"), FileErrorKind::WrongType { .. });
    assert_kind!(broken("1.5", "true"), FileErrorKind::WrongType { .. });
    assert_kind!(broken("\"two\"", "2"), FileErrorKind::WrongType { .. });
}

#[test]
fn an_array_in_place_of_an_object() {
    let array = r#"["small", 2, null, 4]"#;
    let object = r#"{"name": "small", "cost": 2, "loss": 4}"#;
    let kind = broken(object, array);
    assert!(
        matches!(&kind, FileErrorKind::WrongType { expected, found, .. }
            if expected == "an object" && found == "a list"),
        "{kind:?}"
    );
}

#[test]
fn unknown_kind_of_budget() {
    assert_kind!(
        broken("\"limit\": 10", "\"limit\": 10, \"kind\": \"about\""),
        FileErrorKind::InvalidValue { line: 3, .. }
    );
}

#[test]
fn a_pair_of_three_groups() {
    let pair = r#""pairs": [{"groups": ["a", "b", "c"], "options": ["x", "y"], "loss": 0}],
        "groups""#;
    assert_kind!(broken("\"groups\"", pair), FileErrorKind::WrongType { .. });
    let pair = r#""pairs": [{"groups": ["a"], "options": ["x", "y"], "loss": 0}], "groups""#;
    assert_kind!(broken("\"groups\"", pair), FileErrorKind::WrongType { .. });
}

#[test]
fn another_format() {
    assert_kind!(broken("rco-problem", "rco-plan"), FileErrorKind::WrongFormat { .. });
}

#[test]
fn another_version_is_named_before_its_unknown_fields() {
    let kind = broken("\"version\": 1", "\"version\": 2, \"new\": [1, 2]");
    assert!(
        matches!(&kind, FileErrorKind::UnsupportedVersion { found } if found == "2"),
        "{kind:?}"
    );
}
