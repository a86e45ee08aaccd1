//! Folders appear whole or not at all.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rco_formats::atomic::WriteError;

/// A folder was not put in its place, which is then as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The target exists.
    #[error("{path} exists: choose another name, or replace it with --force")]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target is something else than a model.
    #[error("{path} holds no config.json: only a folder of a model is replaced with --force")]
    NoModel {
        /// The target.
        path: PathBuf,
    },
    /// The system refused an operation.
    #[error("{path}: {action} failed: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A file in it could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl PlaceError {
    /// An error of the operating system at a path.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}

/// Refuses a target that exists, unless it is a model folder that is to be replaced.
///
/// # Errors
/// [`PlaceError::Exists`], [`PlaceError::NoModel`].
pub fn check_target(path: &Path, force: bool) -> Result<(), PlaceError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    if !force {
        return Err(PlaceError::Exists { path: path.to_owned() });
    }
    if !path.join("config.json").is_file() {
        return Err(PlaceError::NoModel { path: path.to_owned() });
    }
    Ok(())
}

/// Lets `fill` write into a folder beside `path`, which then takes its name; what was there
/// before goes away last.
///
/// # Errors
/// As [`check_target`], and whatever `fill` meets.
pub fn place_folder<T, E: From<PlaceError>>(
    path: &Path,
    force: bool,
    fill: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    check_target(path, force)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = parent.join(&name);
    // Left by a process of the same number that was killed.
    let _ = std::fs::remove_dir_all(&temporary);
    std::fs::create_dir(&temporary).map_err(PlaceError::io(&temporary, "creating"))?;
    let filled = fill(&temporary).and_then(|filled| {
        let mut aside = name.clone();
        aside.push(".old");
        swap(&temporary, path, &parent.join(aside))?;
        Ok(filled)
    });
    if filled.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    filled
}

fn swap(new: &Path, target: &Path, aside: &Path) -> Result<(), PlaceError> {
    let replaces = target.symlink_metadata().is_ok();
    if replaces {
        let _ = std::fs::remove_dir_all(aside);
        std::fs::rename(target, aside).map_err(PlaceError::io(target, "renaming"))?;
    }
    if let Err(source) = std::fs::rename(new, target) {
        if replaces {
            let _ = std::fs::rename(aside, target);
        }
        return Err(PlaceError::io(target, "renaming")(source));
    }
    if replaces {
        std::fs::remove_dir_all(aside).map_err(PlaceError::io(aside, "deleting"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        let write = |text: &'static str| {
            move |dir: &Path| -> Result<(), PlaceError> {
                std::fs::write(dir.join("config.json"), text)
                    .map_err(PlaceError::io(dir, "writing"))
            }
        };
        place_folder(&target, false, write("one")).unwrap();
        assert!(matches!(
            place_folder(&target, false, write("two")),
            Err(PlaceError::Exists { .. })
        ));
        let failing = |dir: &Path| -> Result<(), PlaceError> {
            std::fs::write(dir.join("half"), "x").map_err(PlaceError::io(dir, "writing"))?;
            Err(PlaceError::NoModel { path: dir.to_owned() })
        };
        assert!(place_folder(&target, true, failing).is_err());
        assert_eq!(std::fs::read_to_string(target.join("config.json")).unwrap(), "one");
        place_folder(&target, true, write("two")).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("config.json")).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::remove_file(target.join("config.json")).unwrap();
        assert!(matches!(check_target(&target, true), Err(PlaceError::NoModel { .. })));
    }
}
