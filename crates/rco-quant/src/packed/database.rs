//! The option database: for every matrix a safetensors file with its forms, and a journal of
//! what is done, with hashes and errors.
//!
//! The original model takes the calibration text through its blocks one after the other. In
//! each block the second moments of the inputs of its matrices are added up, each matrix is
//! rounded in all forms and written; then the block is forgotten. A build that was killed
//! goes on with the first matrix that is missing.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::compressed_tensors::PackedPart;
use rco_formats::safetensors::{Safetensors, SafetensorsWriter};
use rco_formats::source::{ReadAt, Slice};
use rco_model::engine::Walk;
use rco_model::weights::{FloatType, PackedMatrix};
use rco_model::{InputVisitor, LayerInput, Model, ModelError};
use serde::{Deserialize, Serialize};

use super::error::PackedError;
use super::foreign::ForeignFolder;
use super::journal::Journal;
use super::menu::{Form, Linear, Menu, Method};
use super::moments::Moments;
use super::settings::{PackSettings, Runtime};
use super::source::Source;
use crate::grid::{Factor, Fit, Hessian, Quantised, gptq, moment_error, round_to_nearest};
use crate::hash::{sha256, sha256_file};
use crate::job::Reporter;

/// Files that are kept open; beyond, each read opens its file.
const OPEN: usize = 512;
/// An expert that saw fewer tokens than this share of its columns is rounded to the nearest:
/// moments of so few inputs say little of others.
const ENOUGH: f64 = 0.25;

/// What is known of a matrix whose forms are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The module.
    pub module: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Tokens whose inputs were seen.
    pub inputs: u64,
    /// Whether they were too few, and all forms are rounded to the nearest.
    pub too_few: bool,
    /// `tr (W − Ŵ) H (W − Ŵ)ᵀ / tokens` of each form; with too few tokens only of the
    /// diagonal.
    pub errors: BTreeMap<String, f64>,
}

/// Matrices in all of their forms, ready to be read.
#[derive(Debug, Clone)]
pub struct OptionDatabase {
    records: HashMap<String, Record>,
    matrices: HashMap<(String, Form), PackedMatrix>,
}

/// What a database is built from.
pub(super) struct Build<'a> {
    pub(super) source: &'a Source,
    pub(super) menu: &'a Menu,
    pub(super) settings: &'a PackSettings,
    /// Folders of options.
    pub(super) foreign: &'a [ForeignFolder],
    /// The original model.
    pub(super) model: &'a Model,
    /// Calibration text.
    pub(super) batches: &'a [rco_model::Batch],
    /// What all of that is, in hashes.
    pub(super) origin: &'a str,
}

impl OptionDatabase {
    /// Opens the database in `folder`, after building what is missing.
    ///
    /// # Errors
    /// [`PackedError::Grid`] names the matrix that cannot be rounded; failed reads and writes.
    pub(super) fn build(
        build: &Build<'_>,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Self, PackedError> {
        std::fs::create_dir_all(folder)
            .map_err(crate::QuantError::io(folder, "creating the folder"))?;
        let origin = sha256(format!("{} {}", build.origin, build.describe()).as_bytes());
        let mut journal = Journal::<Record>::open(&folder.join("options.jsonl"), &origin)?;
        let mut records = HashMap::new();
        for record in journal.records() {
            let path = file_of(folder, &record.module);
            // What does not have its hash is made again.
            if path.is_file() && sha256_file(&path)? == record.sha256 {
                records.insert(record.module.clone(), record.clone());
            }
        }
        let decided = |linear: &&Linear| linear.forms.iter().any(|f| f.scheme().is_some());
        let todo: Vec<&Linear> = build
            .menu
            .linears
            .iter()
            .filter(decided)
            .filter(|l| !records.contains_key(&l.module))
            .collect();
        let total = build.menu.linears.iter().filter(decided).count() as u64;
        reporter.stage("options", Some(total));
        let last = todo.iter().filter_map(|linear| linear.key.layer).max();
        if let Some(last) = last {
            let mut walk = Walk::new(build.model, build.batches)?;
            while walk.layer() <= last {
                let layer = walk.layer();
                let mut left: Vec<&Linear> =
                    todo.iter().filter(|linear| linear.key.layer == Some(layer)).copied().collect();
                let mut moments = Moments::of(left.iter().map(|linear| linear.key));
                if left.is_empty() {
                    walk.step(&mut Nothing)?;
                    continue;
                }
                walk.step(&mut moments)?;
                // Matrices that share their input one after the other: one factor serves all.
                left.sort_by_key(|linear| (moments.position(linear.key), linear.key));
                let mut factor: Option<(usize, Factor)> = None;
                for linear in left {
                    reporter.advance(records.len() as u64, &linear.module);
                    let at = moments.position(linear.key);
                    let enough = at.is_some_and(|at| is_enough(linear, moments.get(at)));
                    if let Some((before, _)) = factor
                        && Some(before) != at
                    {
                        factor = None;
                        moments.forget(before);
                    }
                    if let Some(at) = at.filter(|_| enough && factor.is_none()) {
                        let made = Factor::new(moments.get(at), &build.settings.factor);
                        factor = Some((at, made.map_err(PackedError::grid(&linear.module))?));
                    }
                    let seen = Seen {
                        hessian: at.map(|at| moments.get(at)),
                        factor: factor.as_ref().map(|(_, factor)| factor),
                    };
                    let record = build.write(linear, &seen, folder)?;
                    journal.push(record.clone())?;
                    records.insert(record.module.clone(), record);
                }
            }
        }
        let mut matrices = HashMap::new();
        let keep_open = total as usize <= OPEN;
        for linear in build.menu.linears.iter().filter(decided) {
            let path = file_of(folder, &linear.module);
            open(linear, &path, build.foreign, keep_open, &mut matrices)?;
        }
        Ok(Self { records, matrices })
    }

    /// A matrix in a form that is no source.
    pub fn matrix(&self, linear: &Linear, form: Form) -> Option<&PackedMatrix> {
        self.matrices.get(&(linear.module.clone(), form))
    }

    /// What is known of a matrix.
    pub fn record(&self, linear: &Linear) -> Option<&Record> {
        self.records.get(&linear.module)
    }

    /// Errors of all forms in the flat order of the menu; 0 for the source.
    pub fn errors(&self, menu: &Menu) -> Vec<f64> {
        let of = |linear: &Linear, form: &Form| {
            let record = self.records.get(&linear.module)?;
            record.errors.get(&form.to_string()).copied()
        };
        let forms = menu.linears.iter().flat_map(|l| l.forms.iter().map(move |f| (l, f)));
        forms.map(|(linear, form)| of(linear, form).unwrap_or(0.0).max(0.0)).collect()
    }

    /// Modules whose experts saw too few tokens.
    pub fn too_few(&self, menu: &Menu) -> Vec<String> {
        let few = |l: &&Linear| self.record(l).is_some_and(|record| record.too_few);
        menu.linears.iter().filter(few).map(|l| l.module.clone()).collect()
    }
}

/// What was seen of the inputs of a matrix.
struct Seen<'a> {
    hessian: Option<&'a Hessian>,
    /// `None` if too few inputs were seen.
    factor: Option<&'a Factor>,
}

/// Matrices that every token goes through have seen enough whatever that is.
fn is_enough(linear: &Linear, hessian: &Hessian) -> bool {
    linear.key.expert.is_none() || hessian.inputs() as f64 >= ENOUGH * hessian.columns() as f64
}

impl Build<'_> {
    /// All that the forms depend on beside source and text.
    fn describe(&self) -> String {
        let PackSettings { factor, .. } = self.settings;
        let mut text = format!("{factor:?} signed {}", self.signed());
        for linear in &self.menu.linears {
            let forms: Vec<String> = linear.forms.iter().map(ToString::to_string).collect();
            let _ = write!(text, " {}:{}", linear.module, forms.join(","));
        }
        text
    }

    /// Whether scales may be negative: kernels of vLLM are not known to take that.
    fn signed(&self) -> bool {
        self.settings.runtime != Runtime::Vllm
    }

    /// Rounds a matrix in all of its forms and writes them.
    fn write(
        &self,
        linear: &Linear,
        seen: &Seen<'_>,
        folder: &Path,
    ) -> Result<Record, PackedError> {
        let weights = self.source.on_disk().load(linear.key)?.values;
        let path = file_of(folder, &linear.module);
        let fault = PackedError::safetensors(&path);
        let mut writer = SafetensorsWriter::new(None);
        let mut errors = BTreeMap::new();
        for &form in &linear.forms {
            let Form::Grid(scheme, method) = form else { continue };
            if let Some((folder, matrix)) = foreign_matrix(self.foreign, linear, form) {
                let error = foreign_error(folder, matrix, &weights, seen)?;
                errors.insert(form.to_string(), error);
                continue;
            }
            let float = FloatType::of(linear.dtype).unwrap_or(FloatType::F32);
            let fit = Fit { scheme, float, signed: self.signed() };
            let (quantised, error) = quantise(linear, &weights, seen, method, &fit)
                .map_err(PackedError::grid(&linear.module))?;
            errors.insert(form.to_string(), error);
            let tensors = scheme.tensors(linear.rows, linear.columns, linear.dtype);
            for (part, dtype, shape) in tensors.unwrap_or_default() {
                let data = quantised.part(&fit, part, linear.dtype);
                let name = format!("{form}.{}", part.suffix());
                writer.add(name, dtype, shape, Arc::new(data)).map_err(&fault)?;
            }
        }
        let bytes = writer.write(&path, WriteOptions::force())?;
        Ok(Record {
            module: linear.module.clone(),
            bytes,
            sha256: sha256_file(&path)?,
            inputs: seen.hessian.map_or(0, Hessian::inputs),
            too_few: seen.factor.is_none(),
            errors,
        })
    }
}

/// A matrix in one form, and its error.
fn quantise(
    linear: &Linear,
    weights: &[f32],
    seen: &Seen<'_>,
    method: Method,
    fit: &Fit,
) -> Result<(Quantised, f64), crate::grid::GridError> {
    let (rows, columns) = (linear.rows, linear.columns);
    match (method, seen.factor, seen.hessian) {
        (Method::Gptq, Some(factor), Some(hessian)) => {
            let found = gptq(weights, rows, columns, factor, fit)?;
            let error = found.error.unwrap_or(0.0) / hessian.inputs().max(1) as f64;
            Ok((found, error))
        }
        (Method::Nearest, Some(factor), Some(hessian)) => {
            let found = round_to_nearest(weights, rows, columns, factor.importance(), fit)?;
            let error = moment_error(weights, &found.values(fit), hessian)?;
            Ok((found, error / hessian.inputs().max(1) as f64))
        }
        (_, _, hessian) => {
            if let Some(hessian) = hessian {
                hessian.check()?;
            }
            let importance = importance(hessian, columns);
            let found = round_to_nearest(weights, rows, columns, &importance, fit)?;
            let error = diagonal_error(weights, &found.values(fit), &importance);
            Ok((found, error))
        }
    }
}

/// How much each column counts, by the inputs that it has seen; without any all are alike.
fn importance(hessian: Option<&Hessian>, columns: usize) -> Vec<f32> {
    match hessian.filter(|h| h.inputs() > 0) {
        Some(h) => h.diagonal().iter().map(|d| (d / h.inputs() as f64) as f32).collect(),
        None => vec![1.0; columns],
    }
}

/// The error under the importance of the columns alone.
fn diagonal_error(weights: &[f32], values: &[f32], importance: &[f32]) -> f64 {
    let columns = importance.len();
    let pairs = weights.chunks(columns).zip(values.chunks(columns));
    pairs
        .flat_map(|(w, v)| w.iter().zip(v).zip(importance))
        .map(|((w, v), h)| f64::from(*h) * f64::from(w - v).powi(2))
        .sum()
}

/// The folder of options that a form is found in, and the matrix there.
fn foreign_matrix<'a>(
    foreign: &'a [ForeignFolder],
    linear: &Linear,
    form: Form,
) -> Option<(&'a ForeignFolder, &'a PackedMatrix)> {
    let folder = foreign.get(form.foreign()?)?;
    Some((folder, folder.matrix(linear.key)?))
}

/// The error of a matrix of a folder of options, as those of our own are counted.
fn foreign_error(
    folder: &ForeignFolder,
    matrix: &PackedMatrix,
    weights: &[f32],
    seen: &Seen<'_>,
) -> Result<f64, PackedError> {
    let [_, columns] = matrix.shape();
    let mut values = vec![0.0; weights.len()];
    matrix.read_rows(0, &mut values)?;
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let (row, column, value) = (at / columns, at % columns, values[at]);
        let module = matrix.module();
        let problem = format!("{module} is {value} in row {row}, column {column}");
        return Err(folder.unfit(problem));
    }
    match (seen.factor, seen.hessian) {
        (Some(_), Some(hessian)) => {
            let error = moment_error(weights, &values, hessian);
            let error = error.map_err(PackedError::grid(matrix.module()))?;
            Ok(error / hessian.inputs().max(1) as f64)
        }
        (_, hessian) => Ok(diagonal_error(weights, &values, &importance(hessian, columns))),
    }
}

fn file_of(folder: &Path, module: &str) -> PathBuf {
    folder.join(format!("{module}.safetensors"))
}

/// Opens the forms of a matrix.
fn open(
    linear: &Linear,
    path: &Path,
    foreign: &[ForeignFolder],
    keep_open: bool,
    out: &mut HashMap<(String, Form), PackedMatrix>,
) -> Result<(), PackedError> {
    let file = Safetensors::open(path)?;
    for &form in &linear.forms {
        let Form::Grid(scheme, _) = form else { continue };
        if let Some((_, matrix)) = foreign_matrix(foreign, linear, form) {
            out.insert((linear.module.clone(), form), matrix.clone());
            continue;
        }
        let part = |part: PackedPart| -> Option<Arc<dyn ReadAt>> {
            let name = format!("{form}.{}", part.suffix());
            if keep_open {
                let data: Slice = file.data(&name).ok()?;
                return Some(Arc::new(data));
            }
            let entry = file.tensor(&name)?;
            let start = file.header().data_start + entry.start;
            Some(Arc::new(ClosedFile { path: path.to_owned(), start, length: entry.length }))
        };
        let shape = [linear.rows, linear.columns];
        let matrix = PackedMatrix::new(&linear.module, scheme, shape, linear.dtype, part);
        let matrix = matrix.map_err(|error| PackedError::Options {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
        out.insert((linear.module.clone(), form), matrix);
    }
    Ok(())
}

/// A range of a file that is opened for each read: there may be more files than a process
/// may hold open.
#[derive(Debug)]
struct ClosedFile {
    path: PathBuf,
    start: u64,
    length: u64,
}

impl ReadAt for ClosedFile {
    fn size(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.length);
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut file = File::open(&self.path)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(self.start + offset))?;
        io::Read::read_exact(&mut file, buf)
    }
}

/// Lets all inputs pass.
struct Nothing;

impl InputVisitor for Nothing {
    fn visit(&mut self, _: &LayerInput<'_>) -> Result<(), ModelError> {
        Ok(())
    }
}
