//! Contenders that are other programs: what they need to search among the same options on the same
//! tokens for the same budgets, and the plans that they bring back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rco_core::Assignment;
use rco_formats::atomic::WriteOptions;
use rco_formats::safetensors::{Dtype, SafetensorsWriter};
use rco_quant::packed::{Form, Linear, PackJob, PackPrepared};
use rco_quant::teacher::Taught;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// What lies in a folder that is handed over.
#[derive(Debug, Serialize)]
struct Index<'a> {
    /// Bytes that the matrices may take together, one budget after the other.
    budgets: Vec<u64>,
    /// The matrices, in order.
    matrices: Vec<Matrix<'a>>,
}

/// A matrix that is decided on.
#[derive(Debug, Serialize)]
struct Matrix<'a> {
    module: &'a str,
    weights: u64,
    /// Bytes of each form. `FORM.safetensors` holds the values of all matrices in it.
    forms: BTreeMap<String, u64>,
}

/// A plan that another program has found.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutsidePlan {
    /// What made it, as a row of the table.
    pub(crate) contender: String,
    /// The budget that it was made for.
    pub(crate) budget: u64,
    /// Gradients that were taken.
    pub(crate) gradients: u64,
    /// Seconds of the search.
    pub(crate) seconds: f64,
    /// The form of every matrix by its module.
    forms: BTreeMap<String, String>,
}

/// Writes options, calibration tokens and budgets into `folder`.
///
/// # Errors
/// Matrices that cannot be read, files that cannot be written.
pub(crate) fn export(
    job: &PackJob,
    prepared: &PackPrepared,
    folder: &Path,
) -> Result<(), BenchError> {
    std::fs::create_dir_all(folder).map_err(BenchError::io(folder))?;
    let linears = &job.menu().linears;
    let mut names: Vec<Form> = linears.iter().flat_map(|linear| linear.forms.clone()).collect();
    names.sort_unstable();
    names.dedup();
    for form in names.into_iter().filter(|&form| form != Form::Source) {
        let mut writer = SafetensorsWriter::new(None);
        let path = folder.join(format!("{form}.safetensors"));
        for linear in linears.iter().filter(|linear| linear.forms.contains(&form)) {
            add_values(&mut writer, linear, form, prepared, &path)?;
        }
        writer.write(&path, WriteOptions::force()).map_err(fault(&path))?;
    }
    let path = folder.join("tokens.safetensors");
    let mut writer = SafetensorsWriter::new(None);
    add_tokens(&mut writer, &prepared.teacher.calibration, &path)?;
    writer.write(&path, WriteOptions::force()).map_err(fault(&path))?;
    let matrix = |linear: &'_ Linear| {
        let forms = linear.forms.iter();
        forms.filter_map(|&f| Some((f.to_string(), linear.data_bytes(f)?))).collect()
    };
    let index = Index {
        budgets: (0..job.settings().orders.len()).map(|order| job.budget(order)).collect(),
        matrices: linears
            .iter()
            .map(|l| Matrix { module: &l.module, weights: l.weights(), forms: matrix(l) })
            .collect(),
    };
    let path = folder.join("index.json");
    let text = serde_json::to_vec_pretty(&index).unwrap_or_default();
    std::fs::write(&path, text).map_err(BenchError::io(&path))
}

/// Reads a file with one plan or a list of them.
///
/// # Errors
/// A file that cannot be read or holds something else.
pub(crate) fn read(path: &Path) -> Result<Vec<OutsidePlan>, BenchError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum File {
        One(OutsidePlan),
        Many(Vec<OutsidePlan>),
    }
    let text = std::fs::read(path).map_err(BenchError::io(path))?;
    let file: File = serde_json::from_slice(&text).map_err(fault(path))?;
    Ok(match file {
        File::One(plan) => vec![plan],
        File::Many(plans) => plans,
    })
}

impl OutsidePlan {
    /// The plan in terms of the menu.
    ///
    /// # Errors
    /// A matrix that has no form, or one that is not on the menu.
    pub(crate) fn assignment(&self, job: &PackJob, path: &Path) -> Result<Assignment, BenchError> {
        let option = |linear: &Linear| {
            let wrong = fault::<String>(path);
            let module = &linear.module;
            let name = self.forms.get(module);
            let name = name.ok_or_else(|| wrong(format!("the plan has no form for {module}")))?;
            let at = linear.forms.iter().position(|form| form.to_string() == *name);
            let known = || linear.forms.iter().map(Form::to_string).collect::<Vec<_>>().join(", ");
            let at = at.ok_or_else(|| {
                wrong(format!("{module} has no form `{name}`; it has {}", known()))
            })?;
            Ok::<u32, BenchError>(at as u32)
        };
        let options = job.menu().linears.iter().map(option).collect::<Result<Vec<_>, _>>()?;
        // The last group is what is not decided on.
        Ok(Assignment::new(options.into_iter().chain([0]).collect::<Vec<_>>()))
    }
}

/// An error of what is handed over at a path.
fn fault<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> BenchError {
    let path = path.to_owned();
    move |error| BenchError::Outside { path: path.clone(), problem: error.to_string() }
}

/// The values of a matrix in a form, as the runtime makes them, in 32 bits.
fn add_values(
    writer: &mut SafetensorsWriter,
    linear: &Linear,
    form: Form,
    prepared: &PackPrepared,
    path: &Path,
) -> Result<(), BenchError> {
    let Some(matrix) = prepared.database.matrix(linear, form) else { return Ok(()) };
    let mut values = vec![0.0; linear.rows * linear.columns];
    matrix.read_rows(0, &mut values)?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = [linear.rows as u64, linear.columns as u64];
    writer.add(&linear.module, Dtype::F32, shape, Arc::new(bytes)).map_err(fault(path))
}

/// All calibration windows, a row each.
fn add_tokens(
    writer: &mut SafetensorsWriter,
    taught: &Taught,
    path: &Path,
) -> Result<(), BenchError> {
    let batches = (0..taught.len()).map(|n| taught.batch(n));
    let tokens: Vec<u32> = batches.flat_map(|batch| batch.tokens().to_vec()).collect();
    let length = if taught.is_empty() { 1 } else { taught.batch(0).sequence_len() };
    let shape = [(tokens.len() / length) as u64, length as u64];
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    writer.add("tokens", Dtype::U32, shape, Arc::new(bytes)).map_err(fault(path))
}
