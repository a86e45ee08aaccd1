//! Positioned reads from a file or from memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::FillError;

/// Bytes that can be read at any position by several threads at once.
///
/// Files are read by position instead of being mapped: a file that another process
/// truncates then gives an error where a mapping would end this process.
pub trait ReadAt: Send + Sync + fmt::Debug {
    /// Number of bytes, fixed when the source was opened.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the bytes do not exist (any more), else what the system says.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A regular file, opened for reading.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size: u64,
}

impl FileSource {
    /// Opens a regular file. Folders, pipes and devices are refused before they are
    /// opened, because opening a pipe may wait for ever.
    ///
    /// # Errors
    /// What the system says, or `InvalidInput` if `path` is not a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl ReadAt for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    #[cfg(unix)]
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        while !buf.is_empty() {
            match self.file.seek_read(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// A range of another source.
#[derive(Debug, Clone)]
pub struct Slice {
    source: Arc<dyn ReadAt>,
    start: u64,
    length: u64,
}

impl Slice {
    /// The bytes `start..start + length` of `source`; `None` if it has not that many.
    pub fn new(source: Arc<dyn ReadAt>, start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        (end <= source.size()).then_some(Self { source, start, length })
    }
}

impl ReadAt for Slice {
    fn size(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match offset.checked_add(buf.len() as u64) {
            Some(end) if end <= self.length => self.source.read_exact_at(buf, self.start + offset),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Bytes copied at a time.
const COPY_CHUNK: u64 = 1 << 20;

/// Writes all bytes of `source`, holding at most 1 MiB of them.
pub(crate) fn copy(
    source: &dyn ReadAt,
    what: &str,
    out: &mut dyn io::Write,
) -> Result<(), FillError> {
    let size = source.size();
    let mut buffer = vec![0; size.min(COPY_CHUNK) as usize];
    let mut offset = 0;
    while offset < size {
        let part = &mut buffer[..(size - offset).min(COPY_CHUNK) as usize];
        source
            .read_exact_at(part, offset)
            .map_err(|source| FillError::Source { what: what.to_owned(), source })?;
        out.write_all(part)?;
        offset += part.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_file_read_the_same_ranges() {
        let bytes: Vec<u8> = (0..=255).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, &bytes).unwrap();
        let file = FileSource::open(&path).unwrap();
        assert_eq!(file.size(), bytes.size());
        for (offset, length) in [(0, 256), (17, 5), (255, 1), (256, 0)] {
            let (mut a, mut b) = (vec![0; length], vec![0; length]);
            file.read_exact_at(&mut a, offset).unwrap();
            bytes.read_exact_at(&mut b, offset).unwrap();
            assert_eq!(a, b);
        }
    }

    #[test]
    fn a_read_past_the_end_is_an_error() {
        let bytes = vec![0_u8; 8];
        for offset in [1, 8, 9, u64::MAX] {
            let error = bytes.read_exact_at(&mut [0; 8], offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_slice_ends_where_it_says() {
        let bytes: Arc<dyn ReadAt> = Arc::new((0..100_u8).collect::<Vec<u8>>());
        let slice = Slice::new(Arc::clone(&bytes), 10, 5).unwrap();
        let mut buf = [0; 5];
        slice.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(buf, [10, 11, 12, 13, 14]);
        assert!(slice.read_exact_at(&mut buf, 1).is_err());
        assert!(slice.read_exact_at(&mut buf, u64::MAX).is_err());
        assert!(Slice::new(Arc::clone(&bytes), 99, 2).is_none());
        assert!(Slice::new(bytes, u64::MAX, 2).is_none());
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = FileSource::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
