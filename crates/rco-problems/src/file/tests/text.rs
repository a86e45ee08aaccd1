//! Files that are no text, or no JSON.

use super::*;

#[test]
fn missing_file() {
    let error = read("nowhere/p.json".as_ref(), &ReadOptions::default()).unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::Io(_));
}

#[test]
fn unknown_extension() {
    let error = read("p.toml".as_ref(), &ReadOptions::default()).unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::UnknownExtension { .. });
}

#[test]
fn larger_than_the_limit() {
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), GOOD).unwrap();
    let options = ReadOptions { max_bytes: 100, ..ReadOptions::default() };
    let error = read(file.path(), &options).unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::TooLarge { limit: 100 });
    read(file.path(), &ReadOptions::default()).unwrap();
}

#[test]
fn empty() {
    assert_kind!(kind(""), FileErrorKind::Empty);
    assert_kind!(kind(" \n\t"), FileErrorKind::Empty);
    assert_kind!(csv_kind(""), FileErrorKind::Empty);
}

#[test]
fn utf_16() {
    let bytes: Vec<u8> =
        [0xFEFF_u16].into_iter().chain(GOOD.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let error = parse_json(&bytes, "p", &ReadOptions::default()).unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::WideText);
}

#[test]
fn not_utf_8_names_line_and_column() {
    let mut bytes = GOOD.as_bytes().to_vec();
    let at = GOOD.find("two").unwrap();
    bytes[at] = 0xFF;
    let error = parse_json(&bytes, "p", &ReadOptions::default()).unwrap_err();
    assert_kind!(*error.kind, FileErrorKind::NotUtf8 { line: 2, column: 51 });
}

#[test]
fn not_json() {
    assert_kind!(kind("group,option,cost\n"), FileErrorKind::Syntax { line: 1, .. });
    assert_kind!(broken("},\n    {", "}\n    {"), FileErrorKind::Syntax { line: 8, .. });
}

#[test]
fn truncated_anywhere() {
    for end in 1..GOOD.len() {
        assert_kind!(kind(&GOOD[..end]), FileErrorKind::Truncated { .. });
    }
}

#[test]
fn text_after_the_end() {
    assert_kind!(kind(&format!("{GOOD} {{}}")), FileErrorKind::TrailingText { .. });
}

#[test]
fn deep_nesting() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_kind!(kind(&deep), FileErrorKind::WrongType { .. });
    let ties = format!("\"ties\": {deep}, \"groups\"");
    assert_kind!(broken("\"groups\"", &ties), FileErrorKind::WrongType { .. });
    let unknown = format!("{{\"format\": \"rco-problem\", \"x\": {deep}}}");
    assert_kind!(kind(&unknown), FileErrorKind::UnknownField { .. });
    let objects = format!("{{\"fixed\": {}", "{\"a\":".repeat(100_000));
    assert_kind!(kind(&objects), FileErrorKind::WrongType { .. });
}

#[test]
fn a_number_beyond_floating_point() {
    assert_kind!(broken("1.5", "1e400"), FileErrorKind::NumberOutOfRange { line: 7, .. });
}

#[test]
fn nan_and_infinity() {
    for word in ["NaN", "Infinity", "-Infinity", "nan", "inf"] {
        let kind = broken("1.5", word);
        assert!(
            matches!(&kind, FileErrorKind::NotFinite { line: 7, found, .. } if word.ends_with(found.trim_start_matches('-'))),
            "{kind:?}"
        );
    }
}
