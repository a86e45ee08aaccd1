//! The original's states on disk: a record for each batch, each with its hash, so that a
//! command that was killed goes on with the next.
//!
//! States after the final norm times the output matrix are the logits. So a record holds
//! the whole distribution of every token, to the bit, in `4 · hidden` bytes a token: less
//! than the largest 512 probabilities and their tokens would take for models up to a width
//! of 768, and exact for all.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::QuantError;
use crate::hash::sha256;

/// A folder with `states.bin` and its index.
#[derive(Debug)]
pub struct StateCache {
    index: File,
    data: File,
    path: PathBuf,
    /// Bytes and hash of each record.
    records: Vec<(u64, String)>,
    /// Where the next record begins.
    end: u64,
}

impl StateCache {
    /// Opens the states of `origin` (which names model and tokens) in a folder. What is
    /// there of another origin is begun anew; a record that is cut off is dropped.
    ///
    /// # Errors
    /// Failed reads and writes.
    pub fn open(folder: &Path, origin: &str) -> Result<Self, QuantError> {
        std::fs::create_dir_all(folder).map_err(QuantError::io(folder, "creating the folder"))?;
        let (index_path, path) = (folder.join("states.txt"), folder.join("states.bin"));
        let (records, length) = read_index(&index_path, origin)?;
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.create(true).read(true).write(true).truncate(false);
            options.open(path).map_err(QuantError::io(path, "opening"))
        };
        let (mut index, data) = (open(&index_path)?, open(&path)?);
        let mut end = records.iter().map(|(bytes, _)| bytes).sum();
        let mut records = records;
        let found = data.metadata().map_err(QuantError::io(&path, "reading"))?.len();
        let complete = found >= end;
        if !complete {
            // The index has survived what the data have not.
            (records, end) = (Vec::new(), 0);
        }
        let keep = if complete { length } else { 0 };
        index.set_len(keep).map_err(QuantError::io(&index_path, "cutting"))?;
        data.set_len(end).map_err(QuantError::io(&path, "cutting"))?;
        index.seek(SeekFrom::End(0)).map_err(QuantError::io(&index_path, "seeking"))?;
        if keep == 0 {
            writeln!(index, "{origin}").map_err(QuantError::io(&index_path, "writing"))?;
        }
        Ok(Self { index, data, path, records, end })
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`QuantError::Changed`] if it is not what was written.
    pub fn read(&mut self, n: usize) -> Result<Vec<f32>, QuantError> {
        let start: u64 = self.records[..n].iter().map(|(bytes, _)| bytes).sum();
        let (bytes, hash) = &self.records[n];
        let mut buffer = vec![0; *bytes as usize];
        self.data
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.data.read_exact(&mut buffer))
            .map_err(QuantError::io(&self.path, "reading"))?;
        if sha256(&buffer) != *hash {
            let problem = format!("the states of batch {n} are not what was written (SHA-256)");
            return Err(QuantError::Changed { path: self.path.clone(), problem });
        }
        Ok(buffer.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }

    /// Adds a record, durably: first the data, then the line of the index.
    ///
    /// # Errors
    /// Failed writes.
    pub fn push(&mut self, values: &[f32]) -> Result<(), QuantError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let hash = sha256(&bytes);
        self.data
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.data.write_all(&bytes))
            .and_then(|()| self.data.sync_data())
            .and_then(|()| writeln!(self.index, "{} {hash}", bytes.len()))
            .and_then(|()| self.index.sync_data())
            .map_err(QuantError::io(&self.path, "writing"))?;
        self.end += bytes.len() as u64;
        self.records.push((bytes.len() as u64, hash));
        Ok(())
    }
}

/// The records of an index of `origin`, and its length up to the last whole line.
fn read_index(path: &Path, origin: &str) -> Result<(Vec<(u64, String)>, u64), QuantError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(source) => return Err(QuantError::io(path, "opening")(source)),
    };
    let mut reader = BufReader::new(file);
    let (mut records, mut length, mut line) = (Vec::new(), 0, String::new());
    loop {
        line.clear();
        let read = reader.read_line(&mut line).map_err(QuantError::io(path, "reading"))?;
        let Some(text) = line.strip_suffix('\n') else { break };
        if length == 0 {
            if text != origin {
                return Ok((Vec::new(), 0));
            }
        } else {
            let record =
                text.split_once(' ').and_then(|(b, h)| Some((b.parse().ok()?, h.to_owned())));
            match record {
                Some(record) => records.push(record),
                None => break,
            }
        }
        length += read as u64;
    }
    Ok((records, length))
}

#[cfg(test)]
mod tests {
    use super::StateCache;
    use crate::error::QuantError;

    #[test]
    fn states_survive_to_the_bit_and_a_torn_record_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let records = [vec![0.1_f32, -3.0, f32::MIN_POSITIVE], vec![7.5]];
        let mut cache = StateCache::open(folder.path(), "model tokens").unwrap();
        for record in &records {
            cache.push(record).unwrap();
        }
        drop(cache);
        // Killed between the data and the index.
        let data = folder.path().join("states.bin");
        let mut bytes = std::fs::read(&data).unwrap();
        bytes.extend_from_slice(&[1, 2, 3]);
        std::fs::write(&data, &bytes).unwrap();
        let mut cache = StateCache::open(folder.path(), "model tokens").unwrap();
        assert_eq!(cache.len(), 2);
        cache.push(&[9.0]).unwrap();
        drop(cache);
        let mut cache = StateCache::open(folder.path(), "model tokens").unwrap();
        assert_eq!(cache.read(0).unwrap(), records[0]);
        assert_eq!(cache.read(1).unwrap(), records[1]);
        assert_eq!(cache.read(2).unwrap(), [9.0]);
        assert!(StateCache::open(folder.path(), "another").unwrap().is_empty());
    }

    #[test]
    fn states_that_were_changed_or_cut_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = StateCache::open(folder.path(), "o").unwrap();
        cache.push(&[1.0, 2.0]).unwrap();
        drop(cache);
        let data = folder.path().join("states.bin");
        let mut bytes = std::fs::read(&data).unwrap();
        bytes[5] ^= 1;
        std::fs::write(&data, &bytes).unwrap();
        let mut cache = StateCache::open(folder.path(), "o").unwrap();
        assert!(matches!(cache.read(0), Err(QuantError::Changed { .. })));
        std::fs::write(&data, &bytes[..5]).unwrap();
        assert!(StateCache::open(folder.path(), "o").unwrap().is_empty());
    }
}
