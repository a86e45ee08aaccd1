//! A search with its checkpoint and its history in a folder, told to whoever watches.

use std::path::Path;

use rco_core::Problem;
use rco_core::search::{
    CheckpointSettings, Fanout, JsonlHistory, Objective, SearchOutcome, SearchSettings, search,
};

use crate::error::QuantError;
use crate::job::Reporter;

/// Searches, or goes on with the search that `folder` holds.
///
/// # Errors
/// A folder that cannot be made, and whatever the search meets.
pub(crate) fn search_in(
    folder: &Path,
    problem: &Problem,
    loss: &mut dyn Objective,
    settings: SearchSettings,
    reporter: &mut dyn Reporter,
) -> Result<SearchOutcome, QuantError> {
    std::fs::create_dir_all(folder).map_err(QuantError::io(folder, "creating the folder"))?;
    let checkpoint = Some(CheckpointSettings::new(folder));
    let settings = SearchSettings { checkpoint, ..settings };
    let mut history = JsonlHistory::new(folder.join("history.jsonl"));
    let mut watching = reporter.observer();
    let mut observers = Fanout(vec![&mut *watching, &mut history]);
    Ok(search(problem, loss, &settings, &mut observers)?)
}
