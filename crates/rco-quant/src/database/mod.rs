//! The option database: for every type a GGUF file with the tensors encoded so, and a
//! manifest with hashes and errors.
//!
//! Tensors are encoded once, by ggml; those of options files stay where they are. The search
//! and the writer only ever read them. Files are written one after the other, each atomically,
//! so that a build that was killed goes on with the first type that is missing.

mod encode;
mod foreign;
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
use crate::foreign::Foreign;
use crate::hash::sha256_file;
use crate::menu::{Choice, Form, Menu};
use crate::prune::{ExpertMap, tensors_with};

/// How far a tensor in one form is from the source.
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
    foreign: Vec<Arc<GgufModel>>,
    distortions: HashMap<(String, Form), Distortion>,
}

/// What the options are made from: a database serves only the same again.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// SHA-256 of the source model.
    pub source: &'a str,
    /// SHA-256 of the importance matrix, empty without one.
    pub importance: &'a str,
}

/// Told while options are made: weights encoded or compared so far, of how many, and the type
/// or options file at work.
pub type Progress<'a> = dyn FnMut(u64, u64, &str) + 'a;

impl OptionDatabase {
    /// Opens the database in `folder`, making what is missing for `menu`, whose options files
    /// are `foreign` with their SHA-256.
    ///
    /// # Errors
    /// Options files that do not fit, a database that was made from something else, a file that is not what the manifest
    /// says, values that are not finite (with tensor and row), failed reads and writes.
    pub fn build(
        source: &Arc<GgufModel>,
        menu: &Menu,
        importance: Option<&Imatrix>,
        foreign: &[(Foreign, String)],
        origin: Origin<'_>,
        folder: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<Self, QuantError> {
        std::fs::create_dir_all(folder).map_err(QuantError::io(folder, "creating the folder"))?;
        let path = folder.join("manifest.json");
        let mut manifest = Manifest::open(&path, origin)?;
        let of_type = |ty| menu.choices.iter().filter(move |c| c.is_encoded_as(ty));
        let total = menu.work();
        let mut done = 0;
        let mut files = BTreeMap::new();
        let mut distortions = HashMap::new();
        for ty in menu.encoded_types() {
            let file = folder.join(format!("{ty}.gguf"));
            progress(done, total, &ty.to_string());
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
                    let mut report = |n| progress(done + n, total, &ty.to_string());
                    let entry = write(source, &wanted, ty, importance, &file, &mut report)?;
                    manifest.set(ty, entry.clone());
                    manifest.write(&path)?;
                    entry
                }
            };
            files.insert(ty, Arc::new(GgufModel::open(&file)?));
            for (name, distortion) in entry.tensors {
                distortions.insert((name, Form::own(ty)), distortion);
            }
            done += weights;
        }
        for (n, (theirs, sha256)) in foreign.iter().enumerate() {
            progress(done, total, &theirs.name);
            let form_of = |c: &Choice| c.forms.iter().copied().find(|form| form.file == Some(n));
            let wanted: Vec<&Choice> =
                menu.choices.iter().filter(|c| form_of(c).is_some()).collect();
            let mut known = manifest.foreign(sha256);
            let mut report = |n| progress(done + n, total, &theirs.name);
            if foreign::measure(source, theirs, &wanted, importance, &mut known, &mut report)? {
                manifest.set_foreign(sha256, known.clone());
                manifest.write(&path)?;
            }
            for choice in wanted {
                let name = &choice.tensor.name;
                if let (Some(form), Some(&found)) = (form_of(choice), known.get(name)) {
                    distortions.insert((name.clone(), form), found);
                }
                done += choice.weights;
            }
        }
        let foreign = foreign.iter().map(|(theirs, _)| Arc::clone(&theirs.model)).collect();
        Ok(Self { source: Arc::clone(source), files, foreign, distortions })
    }

    /// The source.
    pub fn source(&self) -> &Arc<GgufModel> {
        &self.source
    }

    /// The options files.
    pub fn foreign(&self) -> &[Arc<GgufModel>] {
        &self.foreign
    }

    /// The file that holds a tensor in a form.
    pub fn file(&self, choice: &Choice, form: Form) -> Option<&Arc<GgufModel>> {
        match form.file {
            _ if form == choice.source() => Some(&self.source),
            None => self.files.get(&form.ty),
            Some(n) => self.foreign.get(n),
        }
    }

    /// How far a tensor in a form is from the source; 0 in that of the source.
    pub fn distortion(&self, choice: &Choice, form: Form) -> Option<Distortion> {
        if form == choice.source() {
            return Some(Distortion { absolute: 0.0, relative: 0.0 });
        }
        self.distortions.get(&(choice.tensor.name.clone(), form)).copied()
    }

    /// Absolute distortions of all options of a menu, one after the other.
    pub fn distortions(&self, menu: &Menu) -> Vec<f64> {
        self.each_distortion(menu, |d| d.absolute)
    }

    /// Distortions of all options of a menu relative to their tensors, one after the other.
    pub fn relative_distortions(&self, menu: &Menu) -> Vec<f64> {
        self.each_distortion(menu, |d| d.relative)
    }

    fn each_distortion(&self, menu: &Menu, value: impl Fn(Distortion) -> f64) -> Vec<f64> {
        let forms = menu.choices.iter().flat_map(|c| c.forms.iter().map(move |&form| (c, form)));
        forms.map(|(choice, form)| self.distortion(choice, form).map_or(0.0, &value)).collect()
    }

    /// `menu` without the forms that are dominated: another form of no more bytes has a
    /// smaller distortion. Tensors that are tied (by name) are judged together.
    #[must_use]
    pub fn without_dominated(&self, menu: &Menu, ties: &[Vec<String>]) -> Menu {
        let choices = menu.choices.iter().map(|choice| {
            let tied = |c: &&Choice| {
                let (a, b) = (&c.tensor.name, &choice.tensor.name);
                a == b || ties.iter().any(|tie| tie.contains(a) && tie.contains(b))
            };
            let together: Vec<&Choice> = menu.choices.iter().filter(tied).collect();
            let judge = |form: Form| {
                let (mut bytes, mut distortion) = (0_u64, 0.0);
                for c in &together {
                    bytes = bytes.checked_add(c.in_type(form.ty).byte_length().ok()??)?;
                    distortion += self.distortion(c, form)?.absolute;
                }
                Some((bytes, distortion, form))
            };
            let mut order: Vec<(u64, f64, Form)> =
                choice.forms.iter().filter_map(|&form| judge(form)).collect();
            let key = |form: &Form| (form.ty, form.file);
            order.sort_by(|a, b| {
                a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(key(&a.2).cmp(&key(&b.2)))
            });
            let mut forms = Vec::new();
            let mut best = f64::INFINITY;
            for (_, distortion, form) in order {
                if distortion < best || form == choice.source() {
                    best = best.min(distortion);
                    forms.push(form);
                }
            }
            Choice { forms, ..choice.clone() }
        });
        Menu { choices: choices.collect(), ..menu.clone() }
    }

    /// The same tensors of a version of the model with fewer experts. Nothing is encoded or
    /// copied: what remains is read where it lies.
    ///
    /// # Errors
    /// Tensors of experts that have no place for each of them.
    pub fn of_version(
        &self,
        source: Arc<GgufModel>,
        map: &ExpertMap,
        kept: &[Vec<usize>],
    ) -> Result<Self, QuantError> {
        let cut = |file: &Arc<GgufModel>| -> Result<Arc<GgufModel>, QuantError> {
            Ok(Arc::new(tensors_with(file, map, kept)?))
        };
        let files = self.files.iter().map(|(&ty, file)| Ok((ty, cut(file)?)));
        let files = files.collect::<Result<_, QuantError>>()?;
        let foreign = self.foreign.iter().map(cut).collect::<Result<_, _>>()?;
        Ok(Self { source, files, foreign, distortions: self.distortions.clone() })
    }
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
