//! Reads JSON problem files and gives every kind of mistake its own error.

use serde::Deserialize;
use serde_json::error::Category;

use super::build::Instance;
use super::document::{FORMAT, Object, ProblemFile, VERSION};
use super::error::{FileError, FileErrorKind};
use super::read::{ReadOptions, text};
use super::scalar::Scalar;
use crate::hash::hex_digest;

/// Reads a problem from the bytes of a JSON file; `name` stands in errors.
///
/// # Errors
/// A [`FileError`] that says what is wrong and where.
pub fn parse_json(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<Instance, FileError> {
    document(bytes, options)
        .and_then(|file| file.into_instance(&options.budgets))
        .map(|instance| Instance { sha256: hex_digest(bytes), ..instance })
        .map_err(|kind| FileError::new(name, kind))
}

fn document(bytes: &[u8], options: &ReadOptions) -> Result<ProblemFile, FileErrorKind> {
    let text = text(bytes, options)?;
    let file = serde_json::from_str::<Object<ProblemFile>>(text)
        .map_err(|error| header_error(text).unwrap_or_else(|| classify(text, &error)))?
        .0;
    check_header(&file.format, &file.version.0)?;
    Ok(file)
}

fn check_header(format: &str, version: &Scalar) -> Result<(), FileErrorKind> {
    if format != FORMAT {
        return Err(FileErrorKind::WrongFormat { found: format.to_owned() });
    }
    if *version != Scalar::Unsigned(VERSION) {
        return Err(FileErrorKind::UnsupportedVersion { found: version.to_string() });
    }
    Ok(())
}

/// A file of another format or version has other fields: that is the thing to say.
fn header_error(text: &str) -> Option<FileErrorKind> {
    #[derive(Deserialize)]
    struct Header {
        format: String,
        version: Scalar,
    }
    let header = serde_json::from_str::<Object<Header>>(text).ok()?.0;
    check_header(&header.format, &header.version).err()
}

/// Sorts the errors of the JSON reader by kind. Its messages are matched by their
/// beginnings; a test for each kind guards against changes of the wording.
fn classify(text: &str, error: &serde_json::Error) -> FileErrorKind {
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(head, _)| head);
    match error.classify() {
        Category::Eof => FileErrorKind::Truncated { line, column, message: message.to_owned() },
        Category::Io | Category::Syntax => {
            if let Some(found) = not_finite(text, line, column) {
                return FileErrorKind::NotFinite { line, column, found };
            }
            match message {
                "number out of range" => FileErrorKind::NumberOutOfRange { line, column },
                "trailing characters" => FileErrorKind::TrailingText { line, column },
                _ => FileErrorKind::Syntax { line, column, message: message.to_owned() },
            }
        }
        Category::Data => data_error(message, line, column),
    }
}

fn data_error(message: &str, line: usize, column: usize) -> FileErrorKind {
    let quoted = |prefix: &str| {
        let rest = message.strip_prefix(prefix)?;
        let end = rest.find("`, ").or_else(|| rest.rfind('`'))?;
        Some((rest[..end].to_owned(), rest[end..].trim_start_matches("`, ").to_owned()))
    };
    if let Some((field, rest)) = quoted("unknown field `") {
        let expected = rest.trim_start_matches("expected ").to_owned();
        return FileErrorKind::UnknownField { line, column, field, expected };
    }
    if let Some((field, _)) = quoted("missing field `") {
        return FileErrorKind::MissingField { line, column, field };
    }
    if let Some((field, _)) = quoted("duplicate field `") {
        return FileErrorKind::DuplicateField { line, column, field };
    }
    let mismatch = ["invalid type: ", "invalid length "]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix)?.rsplit_once(", expected "));
    if let Some((found, expected)) = mismatch {
        let (found, expected) = (in_json_words(found), in_json_words(expected));
        return FileErrorKind::WrongType { line, column, expected, found };
    }
    FileErrorKind::InvalidValue { line, column, message: message.to_owned() }
}

/// Serde's words for types, in those of JSON.
fn in_json_words(text: &str) -> String {
    match text {
        "sequence" | "a sequence" => "a list".to_owned(),
        "map" | "a map" => "an object".to_owned(),
        "null" | "unit" => "null".to_owned(),
        other => other.to_owned(),
    }
}

/// The text at an error, if it starts with a number that JSON does not have.
fn not_finite(text: &str, line: usize, column: usize) -> Option<String> {
    let line = text.lines().nth(line.checked_sub(1)?)?.as_bytes();
    // The reader stops at the first letter it cannot use, or one after it.
    (column.saturating_sub(3)..=column).find_map(|start| {
        let rest = line.get(start..)?;
        let word = ["NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"]
            .into_iter()
            .find(|word| rest.starts_with(word.as_bytes()))?;
        Some(word.to_owned())
    })
}
