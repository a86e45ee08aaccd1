//! Opens a problem file, within a limit of bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::build::Instance;
use super::error::{FileError, FileErrorKind};
use super::quantity::BudgetOverride;
use super::{parse_csv, parse_json};

/// How to read a problem file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Budgets that replace or complete those of the file.
    pub budgets: Vec<BudgetOverride>,
    /// Largest size of a file in bytes; 256 MiB by default. Reading takes at most about
    /// 16 times the size of the file in memory.
    pub max_bytes: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { budgets: Vec::new(), max_bytes: 256 << 20 }
    }
}

/// The format of a problem file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON: every problem.
    Json,
    /// CSV: separable problems; the budgets come from outside.
    Csv,
}

impl Format {
    /// The format that the name of a file tells.
    ///
    /// # Errors
    /// [`FileErrorKind::UnknownExtension`].
    pub fn of(path: &Path) -> Result<Self, FileError> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("json") => Ok(Self::Json),
            Some("csv") => Ok(Self::Csv),
            other => Err(FileError::new(
                &path.display().to_string(),
                FileErrorKind::UnknownExtension { found: other.unwrap_or_default().to_owned() },
            )),
        }
    }
}

/// Reads a problem file; its name decides between JSON and CSV.
///
/// # Errors
/// A [`FileError`] that names the file and what is wrong with it.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Instance, FileError> {
    let name = path.display().to_string();
    let format = Format::of(path)?;
    let mut bytes = Vec::new();
    let limit = options.max_bytes;
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| FileError::new(&name, error))?;
    match format {
        Format::Json => parse_json(&bytes, &name, options),
        Format::Csv => parse_csv(&bytes, &name, options),
    }
}

/// Checks the size and the encoding; drops a UTF-8 byte order mark.
pub(super) fn text<'a>(bytes: &'a [u8], options: &ReadOptions) -> Result<&'a str, FileErrorKind> {
    if bytes.len() as u64 > options.max_bytes {
        return Err(FileErrorKind::TooLarge { limit: options.max_bytes });
    }
    let wide = [&[0xFF, 0xFE][..], &[0xFE, 0xFF], &[0, 0, 0xFE, 0xFF]];
    if wide.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(FileErrorKind::WideText);
    }
    let bytes = bytes.strip_prefix(&[0xEF, 0xBB, 0xBF]).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        FileErrorKind::NotUtf8 {
            line: before.split(|&b| b == b'\n').count(),
            column: before.len() - line_start + 1,
        }
    })?;
    if text.trim().is_empty() {
        return Err(FileErrorKind::Empty);
    }
    Ok(text)
}
