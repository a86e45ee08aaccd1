//! The saved state of a run: written atomically, checked when read.
//!
//! `checkpoint.json` is one JSON object whose first three entries (`format`,
//! `version`, `sha256`) have a fixed form and whose `body` is covered by the hash
//! byte for byte. A write goes to a temporary file in the same folder, which is
//! synchronised, renamed over the old checkpoint, and made durable by
//! synchronising the folder: a process that is killed leaves either the old or
//! the new checkpoint.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::SearchError;
use super::fingerprint::Fingerprint;
use super::oracle::OracleState;
use super::outcome::StopReason;
use super::patience::Patience;

/// Name of the checkpoint in the folder of a run.
pub const CHECKPOINT_FILE: &str = "checkpoint.json";
const TEMPORARY_FILE: &str = "checkpoint.json.tmp";
/// Raised when the form of the body changes.
const VERSION: u32 = 2;

/// Everything that the rest of a run depends on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub(crate) fingerprint: Fingerprint,
    /// Stage at work, counted from 0.
    pub(crate) stage: usize,
    /// Steps done in it.
    pub(crate) stage_steps: u64,
    /// Evaluations that the stage may take; `None` without a limit.
    pub(crate) allowance: Option<u64>,
    /// Steps done in all stages.
    pub(crate) steps: u64,
    /// Whether the stage at work only finishes.
    pub(crate) winding_up: bool,
    /// Set once a limit or an observer has ended the search.
    pub(crate) stopped: Option<StopReason>,
    pub(crate) patience: Patience,
    pub(crate) seconds: f64,
    pub(crate) oracle: OracleState,
    /// State of the method of the stage at work; `Null` before its first step.
    pub(crate) method: Value,
}

fn head(digest: &str) -> String {
    format!(
        "{{\"format\":\"rco-checkpoint\",\"version\":{VERSION},\"sha256\":\"{digest}\",\"body\":"
    )
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Two hexadecimal digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].map(|n| char::from_digit(n.into(), 16).unwrap_or('0')));
        text
    })
}

/// Writes the checkpoint of `dir`, creating the folder if need be.
pub(crate) fn write(dir: &Path, state: &RunState) -> Result<(), SearchError> {
    let path = dir.join(CHECKPOINT_FILE);
    let failed = |action: &'static str| {
        let path = path.clone();
        move |source: io::Error| SearchError::CheckpointIo { path, action, source }
    };
    let body = serde_json::to_vec(state).map_err(io::Error::other).map_err(failed("encoding"))?;
    fs::create_dir_all(dir).map_err(failed("creating the folder"))?;
    let temporary = dir.join(TEMPORARY_FILE);
    let mut file = File::create(&temporary).map_err(failed("creating"))?;
    file.write_all(head(&digest(&body)).as_bytes())
        .and_then(|()| file.write_all(&body))
        .and_then(|()| file.write_all(b"}\n"))
        .and_then(|()| file.sync_all())
        .map_err(failed("writing"))?;
    drop(file);
    fs::rename(&temporary, &path).map_err(failed("renaming"))?;
    sync_folder(dir).map_err(failed("synchronising the folder"))
}

/// Makes a rename in `dir` durable, where the system can synchronise folders.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// The part of a body that says whose it is.
#[derive(Deserialize)]
struct Owner {
    fingerprint: Fingerprint,
}

/// Reads the checkpoint of `dir`; `None` if there is none. One that does not
/// carry `expected` as its fingerprint is refused.
pub(crate) fn read(dir: &Path, expected: &Fingerprint) -> Result<Option<RunState>, SearchError> {
    let path = dir.join(CHECKPOINT_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SearchError::CheckpointIo { path, action: "reading", source }),
    };
    let body = body(&bytes).map_err(|reason| damaged(&path, reason))?;
    // The fingerprint is compared first: the state of another run may have any form.
    let owner: Owner = decode(&path, body)?;
    if let Some(difference) = owner.fingerprint.difference(expected) {
        return Err(SearchError::CheckpointForeign {
            path,
            what: difference.what,
            checkpoint: difference.left,
            current: difference.right,
        });
    }
    decode(&path, body).map(Some)
}

fn decode<'a, T: Deserialize<'a>>(path: &Path, body: &'a [u8]) -> Result<T, SearchError> {
    serde_json::from_slice(body).map_err(|error| damaged(path, error.to_string()))
}

pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> SearchError {
    SearchError::CheckpointDamaged { path: PathBuf::from(path), reason: reason.into() }
}

/// Cuts the body out of a checkpoint whose head and hash are right.
fn body(bytes: &[u8]) -> Result<&[u8], String> {
    let model = head(&"0".repeat(64));
    let (start, end) = (model.len(), bytes.len().saturating_sub(2));
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let Some(rest) = bytes.strip_prefix(b"{\"format\":\"rco-checkpoint\",\"version\":") else {
        return Err("it does not begin like a checkpoint".into());
    };
    let version: String =
        rest.iter().take(10).take_while(|b| b.is_ascii_digit()).map(|&b| b as char).collect();
    if version != VERSION.to_string() {
        return Err(format!("it has version `{version}`, this program reads {VERSION}"));
    }
    if end < start || !bytes.ends_with(b"}\n") {
        return Err("it is cut off".into());
    }
    let body = &bytes[start..end];
    if &bytes[..start] != head(&digest(body)).as_bytes() {
        return Err("its content does not match its hash".into());
    }
    Ok(body)
}
