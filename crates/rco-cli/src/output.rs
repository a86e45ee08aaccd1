//! Everything that is written: standard output, errors, files.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::error::CliError;

/// Standard output, without colours where it is no terminal or `NO_COLOR` is set.
pub(crate) struct Out(Box<dyn Write>);

impl Out {
    pub(crate) fn stdout() -> Self {
        Self(Box::new(anstream::stdout()))
    }

    /// An output that keeps nothing.
    pub(crate) fn none() -> Self {
        Self(Box::new(io::sink()))
    }

    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), CliError> {
        Ok(writeln!(self.0, "{text}")?)
    }

    /// A heading after an empty line.
    pub(crate) fn heading(&mut self, text: &str) -> Result<(), CliError> {
        let bold = Style::new().bold();
        Ok(writeln!(self.0, "\n{bold}{text}{bold:#}")?)
    }

    /// A named value, in a column.
    pub(crate) fn field(
        &mut self,
        name: &str,
        value: impl std::fmt::Display,
    ) -> Result<(), CliError> {
        Ok(writeln!(self.0, "  {name:<12} {value}")?)
    }

    /// A JSON document.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut self.0, value).map_err(io::Error::from)?;
        Ok(writeln!(self.0)?)
    }
}

/// Writes an error and its causes to standard error.
pub(crate) fn report_error(error: &CliError) {
    let red = AnsiColor::Red.on_default().bold();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let next = source.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = source.source();
    }
    // There is nowhere left to report a failure to.
    let _ = writeln!(anstream::stderr(), "{red}error:{red:#} {text}");
}

/// Writes a note to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Refuses a file that exists (unless `force`) or that has no folder.
pub(crate) fn check_target(path: &Path, force: bool) -> Result<(), CliError> {
    if !force && fs::symlink_metadata(path).is_ok() {
        return Err(CliError::Exists { path: path.to_owned() });
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(CliError::NoFolder { path: path.to_owned(), folder: folder.to_owned() });
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a JSON file, see [`write()`].
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CliError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .map_err(CliError::io(path, "encoding"))?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Writes a file so that it is there whole or not at all: a temporary file beside it
/// is synchronised and renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(CliError::io(path, "writing"))?;
    if cfg!(unix) {
        File::open(folder_of(path))
            .and_then(|folder| folder.sync_all())
            .map_err(CliError::io(path, "synchronising the folder"))?;
    }
    Ok(())
}
