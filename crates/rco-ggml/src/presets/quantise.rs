//! llama.cpp's quantiser, dry or writing.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use rco_formats::gguf::{Gguf, GgufModel, TensorInfo, TensorType, TypeClass};
use rco_formats::imatrix::Imatrix;

use super::ffi::{Importance, Job};
use super::{Preset, account};
use crate::source::{Source, checked_path};
use crate::{GgmlError, backend, c_int, decode, encode, importance, log};

/// Most threads that ggml takes.
pub(crate) const MOST_THREADS: usize = 512;
/// Weights that are checked at once, about.
const PIECE: usize = 4 << 20;

/// The type that `llama-quantize` would give each tensor of `source` by `preset`, in the
/// order of the file. With `imatrix` it takes the choices that it makes when it has an
/// importance matrix. Nothing is quantised or written, so recipes that need an importance
/// matrix are told without one too.
///
/// # Errors
/// A source or importance matrix that cannot be used, or a refusal of llama.cpp.
pub fn recipe(
    source: &Path,
    preset: Preset,
    imatrix: Option<&Imatrix>,
) -> Result<Vec<(String, TensorType)>, GgmlError> {
    let file = Source::open(source)?;
    let importance = imatrix.map(|imatrix| importances(&file.model, imatrix)).transpose()?;
    let log = run(&file, "", preset, importance.as_deref(), 1)?;
    let problem = |problem: String| GgmlError::Account { path: source.to_owned(), problem };
    let types = account::read(&log.text).map_err(problem)?;
    let found = types.len();
    if found != file.model.len() {
        return Err(problem(format!("{found} of {} tensors are in it", file.model.len())));
    }
    file.model
        .tensors()
        .map(|(_, tensor)| {
            let spec = &tensor.spec;
            let ty = types.get(spec.name.as_str());
            let ty = ty.ok_or_else(|| problem(format!("'{}' is not in it", spec.name)))?;
            Ok((spec.name.clone(), ty.unwrap_or(spec.ty)))
        })
        .collect()
}

/// Quantises `source` by `preset` into one file `out`, with llama.cpp's own quantiser.
/// `out` is replaced if it exists, and appears complete or not at all. Tensors that are
/// quantised already are decoded first. `threads` is at least 1.
///
/// Importance reaches the encoders as in [`crate::encode`].
///
/// # Errors
/// A source or importance matrix that cannot be used, weights that are not finite or too
/// large, a refusal of llama.cpp (above all: a missing importance matrix), a failed write.
pub fn quantise_file(
    source: &Path,
    out: &Path,
    preset: Preset,
    imatrix: Option<&Imatrix>,
    threads: usize,
) -> Result<(), GgmlError> {
    if !(1..=MOST_THREADS).contains(&threads) {
        let found = threads.to_string();
        return Err(GgmlError::Setting { what: "threads", found, expected: "1 to 512" });
    }
    let file = Source::open(source)?;
    let importance = imatrix.map(|imatrix| importances(&file.model, imatrix)).transpose()?;
    check_weights(&file.model)?;

    let failed = |action| move |source| GgmlError::Io { action, path: out.to_owned(), source };
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".rco-").suffix(".gguf.tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder).map_err(failed("create"))?;
    let path = checked_path(temporary.path())?.to_owned();
    run(&file, &path, preset, importance.as_deref(), c_int(threads))?;
    GgufModel::open(&path)?;
    temporary.as_file().sync_all().map_err(failed("write"))?;
    temporary.persist(out).map_err(|e| failed("rename the new file to")(e.error))?;
    Ok(())
}

/// Runs llama.cpp's quantiser, dry if `out` is empty.
fn run(
    source: &Source,
    out: &str,
    preset: Preset,
    importance: Option<&[Importance]>,
    threads: i32,
) -> Result<log::Log, GgmlError> {
    backend::backend()?;
    let job = Job {
        source: c_string(&source.path)?,
        out: c_string(out)?,
        preset,
        importance,
        threads,
        dry_run: out.is_empty(),
    };
    let (done, log) = log::watched(|| job.run());
    if done {
        return Ok(log);
    }
    let action = format!("quantise {} to {preset}", source.path);
    Err(GgmlError::Refused { action, log: log.faults() })
}

fn c_string(text: &str) -> Result<CString, GgmlError> {
    let path = || PathBuf::from(text);
    CString::new(text).map_err(|_| GgmlError::Path { path: path(), problem: "has a zero byte" })
}

/// The importance of every matrix of the model that has one. An entry for the embeddings
/// that does not fit is left out, as llama.cpp does it.
fn importances(model: &GgufModel, imatrix: &Imatrix) -> Result<Vec<Importance>, GgmlError> {
    let mut all = Vec::new();
    for (_, tensor) in model.tensors() {
        let spec = &tensor.spec;
        if spec.shape.len() < 2 {
            continue;
        }
        let matrices = spec.shape.get(2).copied().unwrap_or(1);
        let weights = match imatrix.importance(&spec.name, spec.row_length(), matrices) {
            Ok(weights) => weights,
            Err(_) if spec.name.ends_with("token_embd.weight") => None,
            Err(fault) => return Err(fault.into()),
        };
        let Some(weights) = weights else { continue };
        let safe: Result<Vec<Vec<f32>>, GgmlError> =
            weights.chunks(spec.row_length() as usize).map(importance::safe).collect();
        let weights = safe.map_err(|fault| in_tensor(&spec.name, fault))?.concat();
        all.push(Importance { name: c_string(&spec.name)?, weights });
    }
    Ok(all)
}

fn in_tensor(name: &str, fault: GgmlError) -> GgmlError {
    GgmlError::Tensor { name: name.to_owned(), fault: Box::new(fault) }
}

/// Checks that no weight of a matrix is too large for the encoders, or not finite.
fn check_weights(model: &GgufModel) -> Result<(), GgmlError> {
    for (file, tensor) in model.tensors() {
        let is_integer =
            tensor.spec.ty.layout().is_none_or(|layout| layout.class == TypeClass::Integer);
        if tensor.spec.shape.len() >= 2 && !is_integer {
            check_tensor(file, tensor)?;
        }
    }
    Ok(())
}

fn check_tensor(file: &Gguf, tensor: &TensorInfo) -> Result<(), GgmlError> {
    let spec = &tensor.spec;
    let located = |fault| in_tensor(&spec.name, fault);
    let Some(layout) = spec.ty.layout() else { return Ok(()) };
    let row_length = spec.row_length();
    let row_bytes = row_length / layout.block * layout.bytes;
    let rows = (PIECE as u64 / row_length).max(1);
    let mut start = 0;
    while start < tensor.length {
        let length = (rows * row_bytes).min(tensor.length - start);
        let mut bytes = vec![0; length as usize];
        file.read_at(tensor, start, &mut bytes)?;
        let values = decode::decode_to(spec.ty, &bytes, row_length as usize).map_err(located)?;
        // The limits of Q8_0 are those of all blocks.
        let first_row = (start / row_bytes) as usize;
        encode::check_values(TensorType::Q8_0, &values, row_length as usize)
            .map_err(|fault| located(fault.below(first_row)))?;
        start += length;
    }
    Ok(())
}
