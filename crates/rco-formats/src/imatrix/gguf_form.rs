//! The GGUF form: tensors `NAME.in_sum2` (columns × matrices) and `NAME.counts`
//! (1 × matrices), both F32, and the keys `imatrix.datasets`, `imatrix.chunk_count` and
//! `imatrix.chunk_size` (llama.cpp, `common/imatrix-loader.cpp`).

use std::path::Path;
use std::sync::Arc;

use super::entry::ImatrixEntry;
use super::error::{ImatrixError, ImatrixFault};
use super::file::{Imatrix, ImatrixForm};
use crate::atomic::WriteOptions;
use crate::gguf::{Array, Gguf, GgufError, GgufWriter, Metadata, Text};
use crate::gguf::{TensorInfo, TensorSpec, TensorType};
use crate::source::ReadAt;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const KEY_TYPE: &str = "general.type";
const KEY_DATASETS: &str = "imatrix.datasets";
const KEY_CHUNK_COUNT: &str = "imatrix.chunk_count";
const KEY_CHUNK_SIZE: &str = "imatrix.chunk_size";

pub(crate) fn read(name: &str, source: Arc<dyn ReadAt>) -> Result<Imatrix, ImatrixFault> {
    let file = Gguf::from_source(name, source).map_err(fault)?;
    let metadata = file.metadata();
    let found = metadata.str(KEY_TYPE);
    if found != Some("imatrix") {
        let found = found.map_or("missing".to_owned(), |text| format!("'{text}'"));
        return Err(ImatrixFault::NotImatrix { found });
    }

    let mut entries = Vec::new();
    let mut ignored = Vec::new();
    for tensor in file.tensors() {
        let tensor_name = &tensor.spec.name;
        if let Some(name) = tensor_name.strip_suffix(SUMS) {
            entries.push(read_entry(&file, name, tensor)?);
        } else if let Some(name) = tensor_name.strip_suffix(COUNTS) {
            let missing = format!("{name}{SUMS}");
            if file.tensor(&missing).is_none() {
                return Err(ImatrixFault::HalfEntry { name: name.to_owned(), missing });
            }
        } else {
            ignored.push(tensor_name.clone());
        }
    }
    let mut imatrix = Imatrix::new(entries)?;
    imatrix.ignored = ignored;
    if let Some(Array::String(texts)) = metadata.array(KEY_DATASETS) {
        imatrix.datasets = texts.iter().map(Text::to_string).collect();
    }
    let u32 = |key| metadata.u64(key).and_then(|n| u32::try_from(n).ok());
    imatrix.chunk_count = u32(KEY_CHUNK_COUNT);
    imatrix.chunk_size = u32(KEY_CHUNK_SIZE);
    imatrix.form = ImatrixForm::Gguf;
    Ok(imatrix)
}

fn read_entry(file: &Gguf, name: &str, sums: &TensorInfo) -> Result<ImatrixEntry, ImatrixFault> {
    let partner = format!("{name}{COUNTS}");
    let Some(counts) = file.tensor(&partner) else {
        return Err(ImatrixFault::HalfEntry { name: name.to_owned(), missing: partner });
    };
    let bad = |problem: String| ImatrixFault::BadEntry { name: name.to_owned(), problem };
    for tensor in [sums, counts] {
        if tensor.spec.ty != TensorType::F32 {
            return Err(bad(format!("is of type {}, not F32", tensor.spec.ty)));
        }
    }
    let matrices: u64 = sums.spec.shape.iter().skip(1).product();
    if counts.spec.elements()? != matrices {
        let (a, b) = (&sums.spec.shape, &counts.spec.shape);
        return Err(bad(format!("has sums of shape {a:?} but counts of shape {b:?}")));
    }
    ImatrixEntry::new(name, read_f32(file, sums)?, read_f32(file, counts)?)
}

fn read_f32(file: &Gguf, tensor: &TensorInfo) -> Result<Vec<f32>, ImatrixFault> {
    let bytes = file.read(&tensor.spec.name).map_err(fault)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

fn fault(error: GgufError) -> ImatrixFault {
    error.fault.into()
}

impl Imatrix {
    /// The file in the GGUF form, entries by name as llama.cpp orders them.
    ///
    /// # Errors
    /// Names that GGUF does not take.
    pub fn to_gguf(&self) -> Result<GgufWriter, ImatrixFault> {
        let mut metadata = Metadata::new();
        metadata.set(KEY_TYPE, "imatrix")?;
        let datasets = self.datasets.iter().map(|text| text.as_str().into()).collect();
        metadata.set(KEY_DATASETS, Array::String(datasets))?;
        metadata.set(KEY_CHUNK_COUNT, self.chunk_count.unwrap_or(0))?;
        metadata.set(KEY_CHUNK_SIZE, self.chunk_size.unwrap_or(0))?;

        let mut writer = GgufWriter::new(metadata);
        let mut entries: Vec<&ImatrixEntry> = self.entries().iter().collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let (columns, matrices) = (entry.columns() as u64, entry.counts.len() as u64);
            add_f32(&mut writer, format!("{}{SUMS}", entry.name), columns, matrices, &entry.sums)?;
            add_f32(&mut writer, format!("{}{COUNTS}", entry.name), 1, matrices, &entry.counts)?;
        }
        Ok(writer)
    }

    /// Writes the file in the GGUF form: whole, or not at all. Gives its size.
    ///
    /// # Errors
    /// Anything that keeps the file from being written.
    pub fn write(
        &self,
        path: impl AsRef<Path>,
        options: WriteOptions,
    ) -> Result<u64, ImatrixError> {
        let path = path.as_ref();
        self.to_gguf()
            .and_then(|writer| writer.write(path, options).map_err(fault))
            .map_err(|fault| ImatrixError::new(path.display().to_string(), fault))
    }
}

/// Adds a matrix of numbers; a last dimension of 1 is left out, as ggml does it.
fn add_f32(
    writer: &mut GgufWriter,
    name: String,
    columns: u64,
    matrices: u64,
    values: &[f32],
) -> Result<(), ImatrixFault> {
    let shape = if matrices == 1 { vec![columns] } else { vec![columns, matrices] };
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Ok(writer.add(TensorSpec::new(name, shape, TensorType::F32), Arc::new(bytes))?)
}
