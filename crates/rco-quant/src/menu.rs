//! Which tensors are decided on, and the types that each may take.

use rco_formats::gguf::{GgufModel, TensorSpec, TensorType, TypeClass};
use rco_formats::imatrix::Imatrix;
use rco_formats::inspect::role;

use crate::error::QuantError;

/// Which types may be chosen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TypeFilter {
    /// Only these; empty allows all that are made for ordinary weights.
    pub only: Vec<TensorType>,
    /// Never these.
    pub without: Vec<TensorType>,
    /// Fewest bits per weight of a type that is not named in `only`.
    pub least_bits: f64,
}

impl TypeFilter {
    /// Whether the filter lets a type pass that the source does not have.
    fn admits(&self, ty: TensorType) -> bool {
        if self.without.contains(&ty) {
            return false;
        }
        if self.only.is_empty() {
            // Types meant for models trained with two or three values lose half of what
            // ordinary weights say (design §6).
            ty.layout().is_some_and(|l| {
                l.class == TypeClass::Block && l.bits_per_weight() >= self.least_bits
            })
        } else {
            self.only.contains(&ty)
        }
    }
}

/// Types that are to be encoded only where an importance matrix covers the whole tensor:
/// ggml refuses some of them without one, and the others lose too much.
const WANT_IMPORTANCE: &[TensorType] = &[
    TensorType::IQ1_S,
    TensorType::IQ1_M,
    TensorType::IQ2_XXS,
    TensorType::IQ2_XS,
    TensorType::IQ2_S,
    TensorType::IQ3_XXS,
];

/// A tensor that is decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The tensor as the source has it.
    pub tensor: TensorSpec,
    /// Number of weights.
    pub weights: u64,
    /// Types that it may take, by bytes; the type of the source is one of them.
    pub types: Vec<TensorType>,
}

impl Choice {
    /// The tensor in another type.
    pub fn in_type(&self, ty: TensorType) -> TensorSpec {
        TensorSpec { ty, ..self.tensor.clone() }
    }
}

/// The tensors that are decided on, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// One for each tensor.
    pub choices: Vec<Choice>,
}

impl Menu {
    /// The menu of a model: matrices that llama.cpp quantises, each with the types that fit
    /// its rows, are smaller than the source's, and can be encoded with the importance
    /// at hand. `importance` says whether it covers a tensor.
    ///
    /// # Errors
    /// [`QuantError::NothingToChoose`] if no tensor has two types to choose from, and
    /// [`QuantError::TypeUnusable`] for a type of `filter.only` that no tensor can take.
    pub fn new(
        model: &GgufModel,
        filter: &TypeFilter,
        importance: Option<&Imatrix>,
    ) -> Result<Self, QuantError> {
        let mut choices = Vec::new();
        for (_, info) in model.tensors() {
            if !is_decided(&info.spec) {
                continue;
            }
            let covered = importance.is_some_and(|m| covers(m, &info.spec));
            let weights = info.spec.elements()?;
            let types = types_of(&info.spec, info.length, filter, covered)?;
            choices.push(Choice { tensor: info.spec.clone(), weights, types });
        }
        for &ty in &filter.only {
            if !choices.iter().any(|c| c.types.contains(&ty)) {
                let why = unusable(ty, importance.is_some());
                return Err(QuantError::TypeUnusable { ty, why });
            }
        }
        if choices.iter().all(|c| c.types.len() < 2) {
            return Err(QuantError::NothingToChoose);
        }
        Ok(Self { choices })
    }

    /// Types that some tensor may take and would have to be encoded.
    pub fn encoded_types(&self) -> Vec<TensorType> {
        let mut out: Vec<TensorType> = self
            .choices
            .iter()
            .flat_map(|c| c.types.iter().copied().filter(|&ty| ty != c.tensor.ty))
            .collect();
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// Matrices that llama.cpp quantises: neither norms, biases and other small tensors, nor
/// routers.
pub fn is_decided(tensor: &TensorSpec) -> bool {
    tensor.shape.iter().filter(|&&d| d > 1).count() >= 2
        && tensor.ty.layout().is_some_and(|l| l.class != TypeClass::Integer)
        && role(&tensor.name).kind.is_quantizable()
}

/// Whether a matrix has been seen at the input of every matrix of this tensor.
pub fn covers(importance: &Imatrix, tensor: &TensorSpec) -> bool {
    let matrices = tensor.shape.iter().skip(2).product();
    let values = importance.importance(&tensor.name, tensor.row_length(), matrices);
    matches!(values, Ok(Some(_)))
        && importance.entry(&tensor.name).is_some_and(|entry| entry.coverage() == 1.0)
}

fn types_of(
    tensor: &TensorSpec,
    source_bytes: u64,
    filter: &TypeFilter,
    covered: bool,
) -> Result<Vec<TensorType>, QuantError> {
    let mut out = vec![(source_bytes, tensor.ty)];
    for (ty, layout) in TensorType::known() {
        let wants = layout.needs_importance || WANT_IMPORTANCE.contains(&ty);
        if ty == tensor.ty
            || !filter.admits(ty)
            || !rco_ggml::can_encode(ty)
            || ty.fits_row(tensor.row_length()) != Some(true)
            || (wants && !covered)
        {
            continue;
        }
        let spec = TensorSpec { ty, ..tensor.clone() };
        if let Some(bytes) = spec.byte_length()?.filter(|&bytes| bytes < source_bytes) {
            out.push((bytes, ty));
        }
    }
    out.sort_unstable();
    Ok(out.into_iter().map(|(_, ty)| ty).collect())
}

fn unusable(ty: TensorType, importance: bool) -> &'static str {
    match ty.layout() {
        None => "it is not known",
        Some(_) if !rco_ggml::can_encode(ty) => "ggml has no encoder for it",
        Some(layout)
            if !importance && (layout.needs_importance || WANT_IMPORTANCE.contains(&ty)) =>
        {
            "it needs an importance matrix"
        }
        Some(_) => "no tensor has rows of whole blocks and is larger in the source",
    }
}
