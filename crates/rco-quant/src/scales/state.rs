//! A tuning on disk: one file that is replaced as a whole, so that a tuning that was killed goes
//! on from there to the bit.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::safetensors::{Dtype, Safetensors, SafetensorsError, SafetensorsWriter};
use serde::{Deserialize, Serialize};

use super::matrix::MatrixScales;
use crate::error::QuantError;

/// Names of what is kept for each matrix.
const PARTS: [&str; 3] = ["factors", "first", "second"];
/// The entry of the header that holds [`Progress`].
const PROGRESS: &str = "rco_tuning";

/// How far a tuning has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    /// What is tuned on what.
    pub(super) origin: String,
    /// Steps so far.
    pub(super) steps: u64,
    /// Loss of each on its window, before it.
    pub(super) losses: Vec<f64>,
    /// Loss on the held-out windows before the first step.
    pub(super) before: Option<f64>,
    /// The same after the last.
    pub(super) after: Option<f64>,
    /// Gradients that each matrix has had.
    pub(super) updates: Vec<u32>,
}

/// Writes how far `matrices` have come.
pub(super) fn save(
    path: &Path,
    progress: &mut Progress,
    matrices: &[MatrixScales],
) -> Result<(), QuantError> {
    progress.updates = matrices.iter().map(|matrix| matrix.updates).collect();
    let json = serde_json::to_string(progress)
        .map_err(|source| QuantError::Json { path: path.to_owned(), source })?;
    let mut writer = SafetensorsWriter::new(Some(vec![(PROGRESS.to_owned(), json)]));
    let fault = |fault| SafetensorsError::new(path.display().to_string(), fault);
    for matrix in matrices {
        let values = [&matrix.factors, &matrix.first, &matrix.second];
        for (part, values) in PARTS.iter().zip(values) {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let name = format!("{}.{part}", matrix.matrix.name());
            let shape = vec![values.len() as u64];
            writer.add(name, Dtype::F32, shape, Arc::new(bytes)).map_err(fault)?;
        }
    }
    let failed = |error| QuantError::io(path, "writing")(io::Error::other(error));
    writer.write(path, WriteOptions::force()).map(|_| ()).map_err(failed)
}

/// Goes on from the file, if it is of `origin`; `None` if there is none such.
pub(super) fn load(
    path: &Path,
    origin: &str,
    matrices: &mut [MatrixScales],
) -> Result<Option<Progress>, QuantError> {
    if !path.is_file() {
        return Ok(None);
    }
    let file = Safetensors::open(path)?;
    let entries = file.header().metadata.iter().flatten();
    let json = entries.clone().find(|(name, _)| name == PROGRESS).map(|(_, json)| json);
    let Some(progress) = json.and_then(|json| serde_json::from_str::<Progress>(json).ok()) else {
        return Ok(None);
    };
    if progress.origin != origin {
        return Ok(None);
    }
    let broken = |problem: String| QuantError::Changed { path: path.to_owned(), problem };
    if progress.updates.len() != matrices.len() {
        let (found, expected) = (progress.updates.len(), matrices.len());
        return Err(broken(format!("it has {found} matrices, and there are {expected}")));
    }
    for (matrix, updates) in matrices.iter_mut().zip(&progress.updates) {
        matrix.updates = *updates;
        let module = matrix.matrix.name();
        let values = [&mut matrix.factors, &mut matrix.first, &mut matrix.second];
        for (part, values) in PARTS.iter().zip(values) {
            let name = format!("{module}.{part}");
            let expected = 4 * values.len() as u64;
            let found = file.tensor(&name).filter(|t| t.dtype == Dtype::F32).map(|t| t.length);
            if found != Some(expected) {
                return Err(broken(format!("{name} does not have {} floats", values.len())));
            }
            let bytes = file.read(&name)?;
            for (value, &bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(bytes);
            }
        }
    }
    Ok(Some(progress))
}

#[cfg(test)]
mod tests {
    use super::super::matrix::tests::matrix;
    use super::*;

    fn some() -> Vec<MatrixScales> {
        let mut matrices = vec![matrix("a", [1.0; 4]), matrix("b", [2.0; 4])];
        matrices[1].update(&[1.0, -1.0, 0.5, 0.25], 0.01);
        matrices
    }

    /// Factors, moments and updates of matrices, one after the other.
    fn kept(matrices: &[MatrixScales]) -> Vec<f32> {
        let of =
            |m: &MatrixScales| [&m.factors[..], &m.first, &m.second, &[m.updates as f32]].concat();
        matrices.iter().flat_map(of).collect()
    }

    #[test]
    fn what_was_saved_comes_back_to_the_bit_and_another_tuning_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scales.safetensors");
        let mut fresh = vec![matrix("a", [1.0; 4]), matrix("b", [2.0; 4])];
        assert!(load(&path, "o", &mut fresh).unwrap().is_none());
        let matrices = some();
        let mut progress = Progress {
            origin: "o".to_owned(),
            steps: 2,
            losses: vec![0.1 + 0.2, 1.0 / 3.0],
            before: Some(std::f64::consts::PI),
            ..Progress::default()
        };
        save(&path, &mut progress, &matrices).unwrap();
        assert!(load(&path, "another", &mut fresh).unwrap().is_none());
        assert_eq!(fresh[1].updates, 0);
        assert_eq!(load(&path, "o", &mut fresh).unwrap().unwrap(), progress);
        assert_eq!(kept(&fresh), kept(&matrices));
    }

    #[test]
    fn a_file_that_lacks_something_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scales.safetensors");
        let mut progress = Progress { origin: "o".to_owned(), ..Progress::default() };
        save(&path, &mut progress, &some()).unwrap();
        // Of other matrices, and of more of them.
        for mut others in
            [vec![matrix("a", [1.0; 4]), matrix("c", [1.0; 4])], vec![matrix("a", [1.0; 4])]]
        {
            let error = load(&path, "o", &mut others).unwrap_err().to_string();
            assert!(error.contains("scales.safetensors") && error.contains("delete "), "{error}");
        }
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        assert!(load(&path, "o", &mut some()).is_err());
    }
}
