//! What `rco inspect` tells, as data.

use std::collections::BTreeMap;

use serde::Serialize;

use super::role::{Kind, Role, role};
use crate::gguf::{TensorType, TypeClass};

/// A model file or folder in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The file or folder.
    pub path: String,
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    /// Number of files.
    pub files: usize,
    /// Architecture as the model names it.
    pub architecture: Option<String>,
    /// Name of the model.
    pub name: Option<String>,
    /// Number of weights of all tensors.
    pub parameters: u64,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Bytes of the tensors without padding.
    pub tensor_bytes: u64,
    /// Bytes of headers, metadata and padding.
    pub overhead_bytes: u64,
    /// Bits of the files for each weight.
    pub bits_per_weight: f64,
    /// Tensors by part of the model.
    pub kinds: Vec<KindSummary>,
    /// Tensors by type.
    pub types: Vec<TypeSummary>,
    /// What the matrices can be stored as, by row length.
    pub rows: Vec<RowRule>,
    /// Every tensor, in the order of the files.
    pub tensors: Vec<TensorReport>,
}

/// The tensors of one part of the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindSummary {
    /// The part.
    pub kind: Kind,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bits for each weight.
    pub bits_per_weight: f64,
    /// Types with the number of tensors that have them.
    pub types: BTreeMap<String, usize>,
}

/// The tensors of one type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TypeSummary {
    /// Name of the type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The types that rows of one length can be stored as: the row must be a whole number of
/// blocks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowRule {
    /// Weights in a row.
    pub row_length: u64,
    /// Number of matrices with such rows.
    pub matrices: usize,
    /// Number of weights in them.
    pub parameters: u64,
    /// Types that fit, smallest first.
    pub fits: Vec<StorageType>,
    /// Types that do not fit.
    pub refused: Vec<StorageType>,
}

/// A type that weights can be stored as.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageType {
    /// Name.
    #[serde(rename = "type")]
    pub ty: TensorType,
    /// Bits for each weight.
    pub bits_per_weight: f64,
    /// Weights in a block.
    pub block: u64,
    /// Meant for weights trained to two or three values.
    pub ternary: bool,
    /// Cannot be encoded without an importance matrix.
    pub needs_importance: bool,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorReport {
    /// Name.
    pub name: String,
    /// What it is for.
    #[serde(flatten)]
    pub role: Role,
    /// Dimensions as the format orders them.
    pub shape: Vec<u64>,
    /// Weights in a row.
    pub row_length: u64,
    /// Name of its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes without padding.
    pub bytes: u64,
    /// Bits for each weight.
    pub bits_per_weight: f64,
    /// Whether it is a matrix that runtimes take in a quantised type.
    pub quantizable: bool,
}

impl TensorReport {
    /// The report of one tensor.
    pub(crate) fn new(
        name: &str,
        shape: Vec<u64>,
        row_length: u64,
        ty: String,
        parameters: u64,
        bytes: u64,
    ) -> Self {
        let role = role(name);
        Self {
            quantizable: role.kind.is_quantizable() && shape.len() >= 2,
            name: name.to_owned(),
            role,
            shape,
            row_length,
            ty,
            parameters,
            bytes,
            bits_per_weight: bits(bytes, parameters),
        }
    }
}

impl Report {
    /// Sums up the tensors.
    pub(crate) fn new(
        path: String,
        format: &'static str,
        files: usize,
        file_bytes: u64,
        tensors: Vec<TensorReport>,
    ) -> Self {
        // Tensors of unknown types may claim any number of weights.
        let sum =
            |of: fn(&TensorReport) -> u64| tensors.iter().map(of).fold(0, u64::saturating_add);
        let parameters = sum(|t| t.parameters);
        let tensor_bytes = sum(|t| t.bytes);
        Self {
            path,
            format,
            files,
            architecture: None,
            name: None,
            parameters,
            file_bytes,
            tensor_bytes,
            overhead_bytes: file_bytes.saturating_sub(tensor_bytes),
            bits_per_weight: bits(file_bytes, parameters),
            kinds: kinds(&tensors),
            types: types(&tensors),
            rows: rows(&tensors),
            tensors,
        }
    }
}

fn bits(bytes: u64, parameters: u64) -> f64 {
    if parameters == 0 { 0.0 } else { 8.0 * bytes as f64 / parameters as f64 }
}

fn kinds(tensors: &[TensorReport]) -> Vec<KindSummary> {
    let mut by_kind: BTreeMap<Kind, KindSummary> = BTreeMap::new();
    for tensor in tensors {
        let kind = tensor.role.kind;
        let summary = by_kind.entry(kind).or_insert_with(|| KindSummary {
            kind,
            tensors: 0,
            parameters: 0,
            bytes: 0,
            bits_per_weight: 0.0,
            types: BTreeMap::new(),
        });
        summary.tensors += 1;
        summary.parameters = summary.parameters.saturating_add(tensor.parameters);
        summary.bytes += tensor.bytes;
        summary.bits_per_weight = bits(summary.bytes, summary.parameters);
        *summary.types.entry(tensor.ty.clone()).or_default() += 1;
    }
    by_kind.into_values().collect()
}

fn types(tensors: &[TensorReport]) -> Vec<TypeSummary> {
    let mut by_type: BTreeMap<&str, TypeSummary> = BTreeMap::new();
    for tensor in tensors {
        let summary = by_type.entry(&tensor.ty).or_insert_with(|| TypeSummary {
            ty: tensor.ty.clone(),
            tensors: 0,
            parameters: 0,
            bytes: 0,
        });
        summary.tensors += 1;
        summary.parameters = summary.parameters.saturating_add(tensor.parameters);
        summary.bytes += tensor.bytes;
    }
    let mut types: Vec<TypeSummary> = by_type.into_values().collect();
    types.sort_by_key(|t| std::cmp::Reverse(t.bytes));
    types
}

fn rows(tensors: &[TensorReport]) -> Vec<RowRule> {
    let mut by_length: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
    for tensor in tensors.iter().filter(|t| t.quantizable) {
        let (matrices, parameters) = by_length.entry(tensor.row_length).or_default();
        *matrices += 1;
        *parameters = parameters.saturating_add(tensor.parameters);
    }
    let all = storage_types();
    by_length
        .into_iter()
        .map(|(row_length, (matrices, parameters))| {
            let (fits, refused) =
                all.iter().cloned().partition(|ty| row_length.is_multiple_of(ty.block));
            RowRule { row_length, matrices, parameters, fits, refused }
        })
        .collect()
}

/// All types that weights can be stored as, smallest first.
fn storage_types() -> Vec<StorageType> {
    let mut types: Vec<StorageType> = TensorType::known()
        .filter(|(ty, layout)| match layout.class {
            TypeClass::Block | TypeClass::Ternary => true,
            TypeClass::Float => *ty != TensorType::F64,
            TypeClass::Integer | TypeClass::Internal => false,
        })
        .map(|(ty, layout)| StorageType {
            ty,
            bits_per_weight: layout.bits_per_weight(),
            block: layout.block,
            ternary: layout.class == TypeClass::Ternary,
            needs_importance: layout.needs_importance,
        })
        .collect();
    types.sort_by(|a, b| a.bits_per_weight.total_cmp(&b.bits_per_weight).then(a.ty.cmp(&b.ty)));
    types
}
