//! Packed folders of others, whose matrices serve as options.

use std::io;
use std::path::{Path, PathBuf};

use rco_formats::compressed_tensors::{CONFIG_KEY, ModuleSchemes, PackedPart, Scheme};
use rco_formats::safetensors::HfFolder;
use rco_formats::source::ReadAt;
use rco_model::config::ModelConfig;
use rco_model::weights::{PackedMatrix, PackedWeights};
use rco_model::{ModelError, WeightKey};

use super::error::PackedError;
use super::menu::{GROUPS, VLLM_WIDTHS};
use super::settings::Runtime;
use super::source::Source;
use crate::hash::{sha256, sha256_folder};

/// Most folders: their number is part of a form.
const MOST: usize = 99;
/// Bytes that are compared at once.
const CHUNK: u64 = 1 << 20;

/// A folder of compressed-tensors that holds matrices of the model.
#[derive(Debug, Clone)]
pub struct ForeignFolder {
    path: PathBuf,
    weights: PackedWeights,
    /// Weights that are packed.
    keys: Vec<WeightKey>,
}

impl ForeignFolder {
    /// Opens folders and checks, as far as headers say, that each holds matrices of `source`
    /// in grids that the runtime loads.
    ///
    /// # Errors
    /// [`PackedError::Foreign`] says what does not fit.
    pub fn open_all(
        paths: &[PathBuf],
        source: &Source,
        runtime: Runtime,
    ) -> Result<Vec<Self>, PackedError> {
        if paths.len() > MOST {
            return Err(PackedError::Setting {
                setting: "--options",
                found: format!("{} folders", paths.len()),
                expected: format!("at most {MOST}"),
            });
        }
        paths.iter().map(|path| Self::open(path, source, runtime)).collect()
    }

    fn open(path: &Path, source: &Source, runtime: Runtime) -> Result<Self, PackedError> {
        let unfit = |problem: String| PackedError::Foreign { path: path.to_owned(), problem };
        if !path.is_dir() {
            let what = "it is no folder: a Hugging Face folder takes options from such folders";
            return Err(unfit(what.to_owned()));
        }
        let folder = HfFolder::open(path)?;
        let mut config = folder.config().clone();
        let Some(quantised) = config.as_object_mut().and_then(|object| object.remove(CONFIG_KEY))
        else {
            let what = "its config.json has no quantization_config: nothing is packed in it";
            return Err(unfit(what.to_owned()));
        };
        let model = |error: ModelError| unfit(error.to_string());
        let schemes = ModuleSchemes::parse(&quantised).map_err(|fault| unfit(fault.to_string()))?;
        if ModelConfig::from_hf(&config).map_err(model)? != **source.config() {
            let what = "its config.json describes another model than that of the source";
            return Err(unfit(what.to_owned()));
        }
        let weights = PackedWeights::new(folder, source.config(), &schemes).map_err(model)?;
        let all = source.config().weights().into_iter();
        let keys: Vec<_> =
            all.map(|(key, _)| key).filter(|k| weights.packed(*k).is_some()).collect();
        if keys.is_empty() {
            return Err(unfit("it holds no packed matrix".to_owned()));
        }
        let out = Self { path: path.to_owned(), weights, keys };
        for (key, matrix) in out.matrices() {
            out.check_header(key, matrix, source, runtime)?;
        }
        Ok(out)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A matrix that it holds packed.
    pub fn matrix(&self, key: WeightKey) -> Option<&PackedMatrix> {
        self.weights.packed(key)
    }

    fn matrices(&self) -> impl Iterator<Item = (WeightKey, &PackedMatrix)> {
        self.keys.iter().filter_map(|&key| Some((key, self.weights.packed(key)?)))
    }

    /// SHA-256 of all that options are read from: files of tensors and what `config.json` says
    /// of their schemes.
    ///
    /// # Errors
    /// A failed read.
    pub fn sha256(&self) -> Result<String, PackedError> {
        let folder = self.weights.folder();
        let config = folder.config().get(CONFIG_KEY).map(ToString::to_string).unwrap_or_default();
        Ok(sha256(format!("{} {config}", sha256_folder(folder)?).as_bytes()))
    }

    /// The error that the folder cannot serve.
    pub(super) fn unfit(&self, problem: String) -> PackedError {
        PackedError::Foreign { path: self.path.clone(), problem }
    }

    fn check_header(
        &self,
        key: WeightKey,
        matrix: &PackedMatrix,
        source: &Source,
        runtime: Runtime,
    ) -> Result<(), PackedError> {
        let (scheme, module) = (matrix.scheme(), matrix.module());
        if let Some(expected) = refused(runtime, scheme) {
            return Err(self.unfit(format!(
                "{module} is stored as {scheme}, --runtime {runtime} takes {expected}; give \
                 --runtime any if yours loads it"
            )));
        }
        if let Some((_, entry)) = source.folder().tensor(&source.name(key))
            && entry.dtype != matrix.dtype()
        {
            let (found, expected) = (matrix.dtype().name(), entry.dtype.name());
            return Err(self.unfit(format!(
                "the scales of {module} are {found}, the weights of the model {expected}: both \
                 have to be of one type"
            )));
        }
        let name = format!("{module}.{}", PackedPart::Shape.suffix());
        let found = self.weights.folder().read(&name)?;
        let expected: Vec<u8> =
            matrix.shape().iter().flat_map(|&d| (d as u64).to_le_bytes()).collect();
        if found != expected {
            let [rows, columns] = matrix.shape();
            let problem = format!("{name} does not say {rows} rows and {columns} columns");
            return Err(self.unfit(problem));
        }
        Ok(())
    }

    /// Checks that what is not packed is that of the source: methods that change norms
    /// together with matrices make matrices that are worth nothing alone.
    ///
    /// # Errors
    /// [`PackedError::Foreign`] names the tensor that differs; failed reads.
    pub(super) fn check_rest(&self, source: &Source) -> Result<(), PackedError> {
        for (_, theirs) in self.weights.folder().tensors() {
            let name = &theirs.name;
            let Some((_, ours)) = source.folder().tensor(name) else { continue };
            let differs = |how: String| {
                self.unfit(format!(
                    "{name} {how}: its matrices may have been changed together with that and \
                     cannot be taken alone"
                ))
            };
            if (ours.dtype, &ours.shape) != (theirs.dtype, &theirs.shape) {
                let (found, expected) = (theirs.dtype.name(), ours.dtype.name());
                return Err(differs(format!(
                    "is {found} {:?}, in the model {expected} {:?}",
                    theirs.shape, ours.shape
                )));
            }
            let (ours, theirs) = (source.folder().data(name)?, self.weights.folder().data(name)?);
            if !same(&ours, &theirs).map_err(crate::QuantError::io(&self.path, "reading"))? {
                return Err(differs("has other values than that of the model".to_owned()));
            }
        }
        Ok(())
    }
}

/// What a runtime takes instead of a scheme that it does not.
fn refused(runtime: Runtime, scheme: Scheme) -> Option<&'static str> {
    let grouped = GROUPS.contains(&(scheme.group() as u32)) && scheme.symmetric();
    match runtime {
        Runtime::Any => None,
        Runtime::Transformers => {
            (!grouped).then_some("symmetric grids in groups of 32, 64 or 128 columns")
        }
        Runtime::Vllm => (!grouped || !VLLM_WIDTHS.contains(&scheme.bits()))
            .then_some("symmetric grids of 4 or 8 bits in groups of 32, 64 or 128 columns"),
    }
}

fn same(a: &dyn ReadAt, b: &dyn ReadAt) -> io::Result<bool> {
    if a.size() != b.size() {
        return Ok(false);
    }
    let mut at = 0;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    while at < a.size() {
        let length = CHUNK.min(a.size() - at) as usize;
        left.resize(length, 0);
        right.resize(length, 0);
        a.read_exact_at(&mut left, at)?;
        b.read_exact_at(&mut right, at)?;
        if left != right {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}
