//! Files appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::disk::free_bytes;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// Replace a file that exists. Without it such a file is an error.
    pub force: bool,
}

impl WriteOptions {
    /// Replaces a file that exists.
    pub fn force() -> Self {
        Self { force: true }
    }
}

/// Why a file was not written. The target is then as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The target exists.
    #[error("{path} exists already: give another name, or --force to replace it")]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target is a folder or has no file name.
    #[error("{path} is not a file name")]
    NotAFile {
        /// The target.
        path: PathBuf,
    },
    /// The folder of the target does not exist.
    #[error("the folder {folder} does not exist: create it first")]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// Not enough space.
    #[error("no room for {path}: it needs {needed} bytes{}", free.map_or_else(String::new,
        |free| format!(", and {free} are free")))]
    DiskFull {
        /// The target.
        path: PathBuf,
        /// Bytes of the file.
        needed: u64,
        /// Bytes that were free before writing, if the system said.
        free: Option<u64>,
    },
    /// The file is larger than this process may write.
    #[error("{path} needs {needed} bytes, more than the file size limit (ulimit -f) allows")]
    SizeLimit {
        /// The target.
        path: PathBuf,
        /// Bytes of the file.
        needed: u64,
    },
    /// What was to be written could not be read.
    #[error("{path} was not written: cannot read {what}: {source}")]
    Source {
        /// The target.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// More or fewer bytes came than were announced.
    #[error("{path} was not written: {expected} bytes were predicted, {found} came")]
    WrongSize {
        /// The target.
        path: PathBuf,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The system refused an operation.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What went wrong while the contents were produced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// The contents could not be read.
    #[error("cannot read {what}: {source}")]
    Source {
        /// What was being read.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The contents could not be written.
    #[error(transparent)]
    Sink(#[from] io::Error),
}

/// Writes a file of `size` bytes: into a temporary file in the folder of `path`, which is
/// synchronised, renamed, and the folder synchronised. If anything fails, the temporary
/// file is removed and the target is as it was before. A link at `path` is replaced, not
/// followed.
///
/// # Errors
/// Any [`WriteError`].
pub fn write_file(
    path: &Path,
    size: u64,
    options: WriteOptions,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), FillError>,
) -> Result<(), WriteError> {
    let file_name = path
        .file_name()
        .filter(|_| !path.is_dir())
        .ok_or_else(|| WriteError::NotAFile { path: path.to_owned() })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(WriteError::NoFolder { folder: folder.to_owned() });
    }
    // Looked at now to fail before the work, and once more by the rename itself.
    if !options.force && path.symlink_metadata().is_ok() {
        return Err(WriteError::Exists { path: path.to_owned() });
    }
    let free = free_bytes(folder);
    if free.is_some_and(|free| free < size) {
        return Err(WriteError::DiskFull { path: path.to_owned(), needed: size, free });
    }
    let failed = |action| move |source| io_error(path, size, free, action, source);

    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(file_name);
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder).map_err(failed("create"))?;

    let mut out =
        Counted { inner: BufWriter::with_capacity(1 << 20, temporary.as_file()), bytes: 0 };
    match fill(&mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => {}
        Err(FillError::Sink(source)) => return Err(failed("write")(source)),
        Err(FillError::Source { what, source }) => {
            return Err(WriteError::Source { path: path.to_owned(), what, source });
        }
    }
    let found = out.bytes;
    drop(out);
    if found != size {
        return Err(WriteError::WrongSize { path: path.to_owned(), expected: size, found });
    }
    temporary.as_file().sync_all().map_err(failed("write"))?;
    if options.force {
        temporary.persist(path).map_err(|e| failed("rename the new file to")(e.error))?;
    } else {
        temporary.persist_noclobber(path).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists { path: path.to_owned() },
            _ => failed("rename the new file to")(e.error),
        })?;
    }
    sync_folder(folder).map_err(failed("synchronise the folder of"))
}

/// Writes a small file that is in memory already.
///
/// # Errors
/// Any [`WriteError`].
pub fn write_bytes(path: &Path, bytes: &[u8], options: WriteOptions) -> Result<(), WriteError> {
    write_file(path, bytes.len() as u64, options, |out| Ok(out.write_all(bytes)?))
}

fn io_error(
    path: &Path,
    needed: u64,
    free: Option<u64>,
    action: &'static str,
    source: io::Error,
) -> WriteError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            WriteError::DiskFull { path, needed, free }
        }
        io::ErrorKind::FileTooLarge => WriteError::SizeLimit { path, needed },
        _ => WriteError::Io { action, path, source },
    }
}

/// Makes the rename last through a power cut.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Counts the bytes that pass.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
