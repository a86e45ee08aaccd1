//! Makes the report of a file or folder.

use std::path::Path;

use super::report::{Report, TensorReport};
use crate::gguf::{GgufError, GgufFault, GgufModel};
use crate::safetensors::{HfFolder, Safetensors, SafetensorsError, SafetensorsFault, TensorEntry};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no such file or folder.
    #[error("{path}: no such file or folder")]
    NotFound {
        /// The path given.
        path: String,
    },
    /// A fault of a GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A fault of a safetensors file or a folder.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
}

impl InspectError {
    /// Whether the system refused to read, as against a file that is wrong.
    pub fn is_io(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Gguf(error) => matches!(error.fault, GgufFault::Io { .. }),
            Self::Safetensors(error) => matches!(error.fault, SafetensorsFault::Io { .. }),
        }
    }
}

/// Inspects a GGUF file (or any part of a split one), a Hugging Face folder, or a single
/// safetensors file. Only headers are read.
///
/// # Errors
/// [`InspectError`] with the file and what is wrong with it.
pub fn inspect(path: impl AsRef<Path>) -> Result<Report, InspectError> {
    let path = path.as_ref();
    if path.is_dir() {
        Ok(of_folder(&HfFolder::open(path)?))
    } else if !path.exists() {
        Err(InspectError::NotFound { path: path.display().to_string() })
    } else if path.extension().is_some_and(|e| e == "safetensors") {
        let file = Safetensors::open(path)?;
        let tensors = file.tensors().iter().map(of_entry).collect();
        Ok(Report::new(file.name().to_owned(), "safetensors", 1, file.file_size(), tensors))
    } else {
        Ok(of_gguf(path, &GgufModel::open(path)?))
    }
}

fn of_gguf(path: &Path, model: &GgufModel) -> Report {
    let tensors = model
        .tensors()
        .map(|(_, t)| {
            let spec = &t.spec;
            // The header check has counted the elements before.
            let parameters = spec.elements().unwrap_or(0);
            TensorReport::new(
                &spec.name,
                spec.shape.clone(),
                spec.row_length(),
                spec.ty.to_string(),
                parameters,
                t.length,
            )
        })
        .collect();
    let path = path.display().to_string();
    let mut report = Report::new(path, "gguf", model.parts().len(), model.file_size(), tensors);
    report.architecture = model.metadata().architecture().map(str::to_owned);
    report.name = model.metadata().str("general.name").map(str::to_owned);
    report
}

fn of_folder(folder: &HfFolder) -> Report {
    let tensors = folder.tensors().map(|(_, t)| of_entry(t)).collect();
    let path = folder.path().display().to_string();
    let mut report =
        Report::new(path, "safetensors", folder.shards().len(), folder.file_size(), tensors);
    report.architecture = folder.architecture().or_else(|| folder.model_type()).map(str::to_owned);
    report.name = folder.path().file_name().map(|name| name.to_string_lossy().into_owned());
    report
}

fn of_entry(tensor: &TensorEntry) -> TensorReport {
    TensorReport::new(
        &tensor.name,
        tensor.shape.clone(),
        tensor.shape.last().copied().unwrap_or(1),
        tensor.dtype.to_string(),
        tensor.elements(),
        tensor.length,
    )
}
