//! Samples of the Fisher matrix on disk: a line of JSON each, so that a job that was killed
//! goes on with the next.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::error::QuantError;

/// A file of samples that only grows.
#[derive(Debug)]
pub(crate) struct SampleFile {
    path: PathBuf,
    file: File,
    samples: Vec<Vec<f64>>,
}

impl SampleFile {
    /// Opens the samples of `origin`, each of `count` values. What is left of another origin
    /// is taken over by nothing: the file is begun anew. A last line that is cut off is
    /// dropped.
    pub(crate) fn open(path: &Path, origin: &str, count: usize) -> Result<Self, QuantError> {
        let mut samples = Vec::new();
        let mut length = 0;
        let mut fresh = true;
        match File::open(path) {
            Ok(file) => {
                let mut reader = BufReader::new(file);
                let mut line = String::new();
                let mut first = true;
                loop {
                    line.clear();
                    let read =
                        reader.read_line(&mut line).map_err(QuantError::io(path, "reading"))?;
                    if read == 0 || !line.ends_with('\n') {
                        break;
                    }
                    if first {
                        first = false;
                        if line.trim_end() != origin {
                            break;
                        }
                        fresh = false;
                    } else {
                        match serde_json::from_str::<Vec<f64>>(&line) {
                            Ok(z) if z.len() == count => samples.push(z),
                            _ => break,
                        }
                    }
                    length += read as u64;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(QuantError::io(path, "opening")(source)),
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(QuantError::io(path, "opening"))?;
        file.set_len(if fresh { 0 } else { length }).map_err(QuantError::io(path, "cutting"))?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(QuantError::io(path, "seeking"))?;
        if fresh {
            writeln!(file, "{origin}").map_err(QuantError::io(path, "writing"))?;
        }
        Ok(Self { path: path.to_owned(), file, samples })
    }

    /// The samples so far.
    pub(crate) fn samples(&self) -> &[Vec<f64>] {
        &self.samples
    }

    /// Adds a sample, durably.
    pub(crate) fn push(&mut self, sample: Vec<f64>) -> Result<(), QuantError> {
        let json = serde_json::to_string(&sample)
            .map_err(|source| QuantError::Json { path: self.path.clone(), source })?;
        writeln!(self.file, "{json}")
            .and_then(|()| self.file.sync_data())
            .map_err(QuantError::io(&self.path, "writing"))?;
        self.samples.push(sample);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::SampleFile;

    #[test]
    fn samples_survive_and_a_torn_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fisher.jsonl");
        let samples = [vec![0.1, -2.5e-300], vec![1.0 / 3.0, 4.0]];
        let mut file = SampleFile::open(&path, "a", 2).unwrap();
        for sample in &samples {
            file.push(sample.clone()).unwrap();
        }
        drop(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"[0.5, 0.");
        std::fs::write(&path, bytes).unwrap();
        let mut file = SampleFile::open(&path, "a", 2).unwrap();
        assert_eq!(file.samples(), &samples);
        file.push(vec![7.0, 8.0]).unwrap();
        drop(file);
        assert_eq!(SampleFile::open(&path, "a", 2).unwrap().samples().len(), 3);
        assert!(SampleFile::open(&path, "another", 2).unwrap().samples().is_empty());
    }
}
