//! What is done of a long work: a line of JSON for each part, so that a job that was killed
//! goes on with the next.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::QuantError;

/// A file of records that only grows.
#[derive(Debug)]
pub(crate) struct Journal<T> {
    path: PathBuf,
    file: File,
    records: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens the records of `origin`. What is there of another origin is begun anew; a last
    /// line that is cut off is dropped.
    pub(crate) fn open(path: &Path, origin: &str) -> Result<Self, QuantError> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(QuantError::io(path, "opening"))?;
        let mut records = Vec::new();
        let mut length = 0;
        let mut reader = BufReader::new(&mut file);
        let mut line = String::new();
        loop {
            line.clear();
            let read = reader.read_line(&mut line).map_err(QuantError::io(path, "reading"))?;
            if read == 0 || !line.ends_with('\n') {
                break;
            }
            if length == 0 {
                if line.trim_end() != origin {
                    break;
                }
            } else {
                match serde_json::from_str(&line) {
                    Ok(record) => records.push(record),
                    Err(_) => break,
                }
            }
            length += read as u64;
        }
        drop(reader);
        file.set_len(length).map_err(QuantError::io(path, "cutting"))?;
        file.seek(SeekFrom::End(0)).map_err(QuantError::io(path, "seeking"))?;
        if length == 0 {
            writeln!(file, "{origin}").map_err(QuantError::io(path, "writing"))?;
        }
        Ok(Self { path: path.to_owned(), file, records })
    }

    /// The records so far.
    pub(crate) fn records(&self) -> &[T] {
        &self.records
    }

    /// Adds a record, durably.
    pub(crate) fn push(&mut self, record: T) -> Result<(), QuantError> {
        let json = serde_json::to_string(&record)
            .map_err(|source| QuantError::Json { path: self.path.clone(), source })?;
        let written: io::Result<()> =
            writeln!(self.file, "{json}").and_then(|()| self.file.sync_data());
        written.map_err(QuantError::io(&self.path, "writing"))?;
        self.records.push(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Journal;

    #[test]
    fn records_survive_and_a_torn_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, "a").unwrap();
        for n in [1_u32, 2] {
            journal.push(n).unwrap();
        }
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"3");
        std::fs::write(&path, bytes).unwrap();
        let mut journal = Journal::<u32>::open(&path, "a").unwrap();
        assert_eq!(journal.records(), [1, 2]);
        journal.push(9).unwrap();
        drop(journal);
        assert_eq!(Journal::<u32>::open(&path, "a").unwrap().records(), [1, 2, 9]);
        assert!(Journal::<u32>::open(&path, "b").unwrap().records().is_empty());
    }
}
