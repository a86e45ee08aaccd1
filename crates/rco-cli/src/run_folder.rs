//! The folder of a resumable run: its description, lock, checkpoint, history and plan.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::CliError;
use crate::output;

/// Version of the form of `run.json`.
const VERSION: u32 = 1;

/// What a run computes. A folder goes on only with the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    format: String,
    version: u32,
    rco: String,
    /// Name and SHA-256 of the problem file.
    problem: ProblemFile,
    /// Limits that the run works with, those of the command line included.
    budgets: Value,
    /// All settings of the search but those that do not change its outcome.
    settings: Value,
    /// The command that started the run.
    command: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ProblemFile {
    file: String,
    sha256: String,
}

impl Description {
    pub(crate) fn new(
        problem: &Path,
        sha256: &str,
        budgets: Value,
        settings: Value,
        command: Vec<String>,
    ) -> Self {
        Self {
            format: "rco-run".to_owned(),
            version: VERSION,
            rco: env!("CARGO_PKG_VERSION").to_owned(),
            problem: ProblemFile { file: problem.display().to_string(), sha256: sha256.to_owned() },
            budgets,
            settings,
            command,
        }
    }

    /// The first thing that makes `now` another run than `self`: what, before, now.
    fn difference(&self, now: &Self) -> Option<(String, String, String)> {
        let text = |value: &Value| value.to_string();
        if self.rco != now.rco {
            return Some(("the version of rco".into(), self.rco.clone(), now.rco.clone()));
        }
        if self.budgets != now.budgets {
            return Some(("the budget".into(), text(&self.budgets), text(&now.budgets)));
        }
        if let Some(difference) = differing_setting("", &self.settings, &now.settings) {
            return Some(difference);
        }
        if self.problem.sha256 != now.problem.sha256 {
            let what = format!("the content (SHA-256) of the problem file {}", now.problem.file);
            return Some((what, self.problem.sha256.clone(), now.problem.sha256.clone()));
        }
        None
    }
}

fn differing_setting(path: &str, before: &Value, now: &Value) -> Option<(String, String, String)> {
    if before == now {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (before, now) {
        let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
        return names.into_iter().find_map(|name| {
            let (x, y) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            differing_setting(&path, x, y)
        });
    }
    Some((format!("the setting `{path}`"), before.to_string(), now.to_string()))
}

/// An open run folder. The lock on it ends with the process, however it ends.
#[derive(Debug)]
pub(crate) struct RunFolder {
    dir: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Opens or creates the folder, locks it, and writes or compares its description.
    pub(crate) fn open(dir: &Path, description: &Description) -> Result<Self, CliError> {
        fs::create_dir_all(dir).map_err(CliError::io(dir, "creating the folder"))?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(CliError::io(&lock_path, "creating"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CliError::RunInUse { dir: dir.to_owned() });
            }
            // Some file systems have no locks; a run works without.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(CliError::io(&lock_path, "locking")(error));
            }
        }
        let path = dir.join("run.json");
        match fs::read(&path) {
            Ok(bytes) => compare(dir, &path, &bytes, description)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                output::write_json(&path, description)?;
            }
            Err(error) => return Err(CliError::io(&path, "reading")(error)),
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Ends the run: the lock is gone, and so is the folder if it is not kept.
    pub(crate) fn close(self, is_kept: bool) -> Result<(), CliError> {
        let dir = self.dir.clone();
        drop(self);
        if is_kept {
            return Ok(());
        }
        std::fs::remove_dir_all(&dir).map_err(CliError::io(&dir, "deleting the run folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn plan(&self) -> PathBuf {
        self.dir.join("plan.json")
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.dir.join("history.jsonl")
    }
}

fn compare(dir: &Path, path: &Path, bytes: &[u8], now: &Description) -> Result<(), CliError> {
    let damaged = |reason: String| CliError::RunDamaged { path: path.to_owned(), reason };
    let before: Description =
        serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if before.format != now.format || before.version != now.version {
        let found = format!("{} {}", before.format, before.version);
        return Err(damaged(format!("expected rco-run {VERSION}, found {found}")));
    }
    match before.difference(now) {
        None => Ok(()),
        Some((what, before, now)) => {
            Err(CliError::OtherRun { dir: dir.to_owned(), what, before, now })
        }
    }
}
