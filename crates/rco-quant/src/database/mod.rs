//! The option database: for every type a GGUF file with the tensors encoded so, and a
//! manifest with hashes and errors.
//!
//! Tensors are encoded once, by ggml. The search and the writer only ever read them. Files
//! are written one after the other, each atomically, so that a build that was killed goes
//! on with the first type that is missing.

mod encode;
mod manifest;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{GgufModel, GgufWriter, Metadata, TensorType, Text, Value};
use rco_formats::imatrix::Imatrix;

use self::encode::{Encoder, LazyTensor};
use self::manifest::{Manifest, TypeFile};
use crate::error::QuantError;
use crate::hash::sha256_file;
use crate::menu::{Choice, Menu};

/// How far a tensor in one type is from the source.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Distortion {
    /// Σ importance · (encoded − source)², with importance 1 where there is none.
    pub absolute: f64,
    /// The same over Σ importance · source².
    pub relative: f64,
}

/// Encoded tensors, ready to be read.
#[derive(Debug, Clone)]
pub struct OptionDatabase {
    source: Arc<GgufModel>,
    files: BTreeMap<TensorType, Arc<GgufModel>>,
    distortions: HashMap<(String, TensorType), Distortion>,
}

/// What the options are made from: a database serves only the same again.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// SHA-256 of the source model.
    pub source: &'a str,
    /// SHA-256 of the importance matrix, empty without one.
    pub importance: &'a str,
}

/// Told while options are made: weights encoded so far, of how many, and the type at work.
pub type Progress<'a> = dyn FnMut(u64, u64, TensorType) + 'a;

impl OptionDatabase {
    /// Opens the database in `folder`, making what is missing for `menu`.
    ///
    /// # Errors
    /// A database that was made from something else, a file that is not what the manifest
    /// says, values that are not finite (with tensor and row), failed reads and writes.
    pub fn build(
        source: &Arc<GgufModel>,
        menu: &Menu,
        importance: Option<&Imatrix>,
        origin: Origin<'_>,
        folder: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<Self, QuantError> {
        std::fs::create_dir_all(folder).map_err(QuantError::io(folder, "creating the folder"))?;
        let path = folder.join("manifest.json");
        let mut manifest = Manifest::open(&path, origin)?;
        let of_type = |ty| menu.choices.iter().filter(move |c| in_type(c, ty));
        let total =
            menu.encoded_types().iter().flat_map(|&ty| of_type(ty)).map(|c| c.weights).sum();
        let mut done = 0;
        let mut files = BTreeMap::new();
        let mut distortions = HashMap::new();
        for ty in menu.encoded_types() {
            let file = folder.join(format!("{ty}.gguf"));
            progress(done, total, ty);
            let wanted: Vec<&Choice> = of_type(ty).collect();
            let weights: u64 = wanted.iter().map(|c| c.weights).sum();
            let entry = match manifest.file(ty) {
                Some(entry)
                    if wanted.iter().all(|c| entry.tensors.contains_key(&c.tensor.name)) =>
                {
                    check(&file, entry)?;
                    entry.clone()
                }
                _ => {
                    let mut report = |encoded| progress(done + encoded, total, ty);
                    let entry = write(source, &wanted, ty, importance, &file, &mut report)?;
                    manifest.set(ty, entry.clone());
                    manifest.write(&path)?;
                    entry
                }
            };
            files.insert(ty, Arc::new(GgufModel::open(&file)?));
            for (name, distortion) in entry.tensors {
                distortions.insert((name, ty), distortion);
            }
            done += weights;
        }
        Ok(Self { source: Arc::clone(source), files, distortions })
    }

    /// The source.
    pub fn source(&self) -> &Arc<GgufModel> {
        &self.source
    }

    /// The file that holds a tensor in a type.
    pub fn file(&self, choice: &Choice, ty: TensorType) -> Option<&Arc<GgufModel>> {
        if ty == choice.tensor.ty { Some(&self.source) } else { self.files.get(&ty) }
    }

    /// The files of encoded tensors, by type.
    pub fn files(&self) -> impl Iterator<Item = (TensorType, &Arc<GgufModel>)> {
        self.files.iter().map(|(&ty, file)| (ty, file))
    }

    /// How far a tensor in a type is from the source; 0 in the type of the source.
    pub fn distortion(&self, choice: &Choice, ty: TensorType) -> Option<Distortion> {
        if ty == choice.tensor.ty {
            return Some(Distortion { absolute: 0.0, relative: 0.0 });
        }
        self.distortions.get(&(choice.tensor.name.clone(), ty)).copied()
    }

    /// `menu` without the types that are dominated: another type of no more bytes has a
    /// smaller distortion.
    #[must_use]
    pub fn without_dominated(&self, menu: &Menu) -> Menu {
        let choices = menu.choices.iter().map(|choice| {
            let mut types = Vec::new();
            let mut best = f64::INFINITY;
            let mut order: Vec<(u64, f64, TensorType)> = choice
                .types
                .iter()
                .filter_map(|&ty| {
                    let bytes = choice.in_type(ty).byte_length().ok()??;
                    Some((bytes, self.distortion(choice, ty)?.absolute, ty))
                })
                .collect();
            order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
            for (_, distortion, ty) in order {
                if distortion < best || ty == choice.tensor.ty {
                    best = best.min(distortion);
                    types.push(ty);
                }
            }
            Choice { types, ..choice.clone() }
        });
        Menu { choices: choices.collect() }
    }
}

fn in_type(choice: &Choice, ty: TensorType) -> bool {
    ty != choice.tensor.ty && choice.types.contains(&ty)
}

fn check(path: &Path, entry: &TypeFile) -> Result<(), QuantError> {
    let changed = |problem| QuantError::Changed { path: PathBuf::from(path), problem };
    let found = std::fs::metadata(path).map_err(QuantError::io(path, "reading"))?.len();
    if found != entry.bytes {
        return Err(changed(format!("{} bytes were written, it has {found}", entry.bytes)));
    }
    if sha256_file(path)? != entry.sha256 {
        return Err(changed("its content is not what was written (SHA-256)".to_owned()));
    }
    Ok(())
}

/// Encodes tensors and writes them into a file of their own.
fn write(
    source: &Arc<GgufModel>,
    choices: &[&Choice],
    ty: TensorType,
    importance: Option<&Imatrix>,
    path: &Path,
    report: &mut dyn FnMut(u64),
) -> Result<TypeFile, QuantError> {
    rco_ggml::prepare(ty);
    let mut metadata = Metadata::new();
    for key in ["general.architecture", "general.name"] {
        if let Some(value) = source.metadata().get(key) {
            metadata.set(key, value.clone())?;
        }
    }
    metadata.set("rco.options.type", Value::String(Text(ty.to_string().into_bytes())))?;
    let mut writer = GgufWriter::new(metadata);
    let encoder = Arc::new(Encoder::new(Arc::clone(source), ty, importance.cloned()));
    for choice in choices {
        let spec = choice.in_type(ty);
        let tensor = LazyTensor::new(Arc::clone(&encoder), &spec)?;
        writer.add(spec, Arc::new(tensor))?;
    }
    // A file that a killed run has left is not in the manifest: it is made again.
    let written = encoder.watch(report, || writer.write(path, WriteOptions::force()));
    let bytes = match (written, encoder.take_error()) {
        (_, Some(error)) => return Err(error),
        (written, None) => written?,
    };
    let tensors = encoder.take_distortions();
    Ok(TypeFile { bytes, sha256: sha256_file(path)?, tensors })
}
