//! The history of a run as JSON lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::checkpoint::sync_folder;
use super::observer::{CheckpointEvent, Control, Observer, StartEvent, StepEvent};
use super::outcome::SearchOutcome;

/// Writes each step as one line of a file.
///
/// A run that resumes drops the lines past the checkpoint it starts from, so
/// that every step has one line, whenever the run was killed.
#[derive(Debug)]
pub struct JsonlHistory {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

#[derive(Deserialize)]
struct Numbered {
    step: u64,
}

impl JsonlHistory {
    /// A history in the file `path`, which is opened when the run starts. A fresh
    /// run replaces what is there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None }
    }

    /// Keeps the lines of steps up to `last`.
    fn truncate(&self, last: u64) -> io::Result<()> {
        let text = match fs::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let kept: String = text
            .split_inclusive('\n')
            .take_while(|line| {
                line.ends_with('\n')
                    && serde_json::from_str::<Numbered>(line).is_ok_and(|n| n.step <= last)
            })
            .collect();
        if kept.len() == text.len() {
            return Ok(());
        }
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(kept.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
            file.get_ref().sync_data()?;
        }
        Ok(())
    }
}

impl Observer for JsonlHistory {
    fn on_start(&mut self, event: &StartEvent) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        match event.resumed_at {
            Some(last) => {
                self.truncate(last)?;
                options.append(true).create(true);
            }
            None => {
                options.write(true).create(true).truncate(true);
            }
        }
        self.file = Some(BufWriter::new(options.open(&self.path)?));
        Ok(())
    }

    fn on_step(&mut self, event: &StepEvent) -> io::Result<Control> {
        if let Some(file) = &mut self.file {
            serde_json::to_writer(&mut *file, event)?;
            file.write_all(b"\n")?;
        }
        Ok(Control::Continue)
    }

    fn on_checkpoint(&mut self, _event: &CheckpointEvent) -> io::Result<()> {
        self.flush()
    }

    fn on_finish(&mut self, _outcome: &SearchOutcome) -> io::Result<()> {
        self.flush()
    }
}
