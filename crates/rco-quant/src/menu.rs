//! Which tensors are decided on, and the forms that each may take.

use std::fmt;

use rco_formats::gguf::{GgufModel, TensorSpec, TensorType, TypeClass};
use rco_formats::imatrix::Imatrix;
use rco_formats::inspect::role;

use crate::error::QuantError;
use crate::foreign::Foreign;

/// A way to store a tensor: a type, and who encoded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// The type.
    pub ty: TensorType,
    /// Position of the options file that holds the tensor; `None` for the source's own
    /// tensors and those that are encoded here.
    pub file: Option<usize>,
}

impl Form {
    /// A type of the source or encoded here.
    pub fn own(ty: TensorType) -> Self {
        Self { ty, file: None }
    }
}

/// A form by its name: `Q4_K`, or `Q4_K@theirs.gguf` for a tensor of an options file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(into = "String")]
pub struct NamedForm {
    /// The type.
    pub ty: TensorType,
    /// Name of the options file.
    pub file: Option<String>,
}

impl fmt::Display for NamedForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            None => write!(f, "{}", self.ty),
            Some(file) => write!(f, "{}@{file}", self.ty),
        }
    }
}

impl From<NamedForm> for String {
    fn from(form: NamedForm) -> Self {
        form.to_string()
    }
}

/// Which types may be chosen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TypeFilter {
    /// Of the types that are encoded here only these; empty allows all that are made for
    /// ordinary weights.
    pub only: Vec<TensorType>,
    /// Never these.
    pub without: Vec<TensorType>,
    /// Fewest bits per weight of a type that is not named.
    pub least_bits: f64,
    /// Types that were named in a pin: where `only` is empty they need no other reason to be
    /// there.
    pub named: Vec<TensorType>,
}

impl TypeFilter {
    /// Whether the filter lets a type pass that the source does not have.
    fn admits(&self, ty: TensorType) -> bool {
        if self.without.contains(&ty) {
            return false;
        }
        if self.only.is_empty() && self.named.contains(&ty) {
            return true;
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

/// Types that need not be encoded where the second, which takes no more bytes, can be: with
/// an importance matrix they were further from the source in 59 of 59 tensors of two models
/// with rows of whole 256-blocks (`Q2_K` in 53), and `Q4_0` and `NVFP4` in 240 of 240. They
/// come back when they are named.
const OUTDONE: &[(TensorType, TensorType)] = &[
    (TensorType::Q2_K, TensorType::IQ2_S),
    (TensorType::Q3_K, TensorType::IQ3_S),
    (TensorType::MXFP4, TensorType::IQ4_XS),
    (TensorType::IQ4_NL, TensorType::IQ4_XS),
    (TensorType::Q4_0, TensorType::IQ4_NL),
    (TensorType::NVFP4, TensorType::IQ4_NL),
    (TensorType::Q5_0, TensorType::Q5_K),
];

/// A tensor that is decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The tensor as the source has it.
    pub tensor: TensorSpec,
    /// Number of weights.
    pub weights: u64,
    /// Forms that it may take, by bytes; that of the source is one of them.
    pub forms: Vec<Form>,
}

impl Choice {
    /// The tensor in another type.
    pub fn in_type(&self, ty: TensorType) -> TensorSpec {
        TensorSpec { ty, ..self.tensor.clone() }
    }

    /// The form that the source has.
    pub fn source(&self) -> Form {
        Form::own(self.tensor.ty)
    }

    /// Whether the tensor may take a type that has to be encoded here.
    pub fn is_encoded_as(&self, ty: TensorType) -> bool {
        ty != self.tensor.ty && self.forms.contains(&Form::own(ty))
    }
}

/// The tensors that are decided on, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// One for each tensor.
    pub choices: Vec<Choice>,
    /// Names of the options files.
    pub files: Vec<String>,
    /// Experts that remain in each block that has some; empty if none was dropped.
    pub experts: Vec<Vec<usize>>,
}

impl Menu {
    /// The menu of a model: matrices that llama.cpp quantises, each with the types that fit
    /// its rows, are smaller than the source's, and can be encoded with the importance
    /// at hand; `importance` says whether it covers a tensor. Tensors of `foreign` files are
    /// on it whatever their type, if that is not excluded and they are smaller than the
    /// source's.
    ///
    /// # Errors
    /// [`QuantError::NothingToChoose`] if no tensor has two forms to choose from,
    /// [`QuantError::TypeUnusable`] for a type of `filter.only` that no tensor can take, and
    /// [`QuantError::ForeignOptions`] for a file that offers nothing.
    pub fn new(
        model: &GgufModel,
        filter: &TypeFilter,
        importance: Option<&Imatrix>,
        foreign: &[Foreign],
    ) -> Result<Self, QuantError> {
        let mut choices = Vec::new();
        for (_, info) in model.tensors() {
            if !is_decided(&info.spec) {
                continue;
            }
            let covered = importance.is_some_and(|m| covers(m, &info.spec));
            let weights = info.spec.elements()?;
            let mut forms = types_of(&info.spec, info.length, filter, covered)?;
            for (n, file) in foreign.iter().enumerate() {
                let Some((_, theirs)) = file.model.tensor(&info.spec.name) else { continue };
                let ty = theirs.spec.ty;
                if theirs.length < info.length && !filter.without.contains(&ty) {
                    forms.push((theirs.length, Form { ty, file: Some(n) }));
                }
            }
            forms.sort_by_key(|&(bytes, form)| (bytes, form.ty, form.file));
            let forms = forms.into_iter().map(|(_, form)| form).collect();
            choices.push(Choice { tensor: info.spec.clone(), weights, forms });
        }
        for &ty in &filter.only {
            if !choices.iter().any(|c| c.forms.contains(&Form::own(ty))) {
                let why = unusable(ty, importance.is_some());
                return Err(QuantError::TypeUnusable { ty, why });
            }
        }
        for (n, file) in foreign.iter().enumerate() {
            if !choices.iter().any(|c| c.forms.iter().any(|form| form.file == Some(n))) {
                let problem = "none of its tensors is smaller than the model's and of a type \
                               that is allowed";
                return Err(file.unfit(problem.to_owned()));
            }
        }
        if choices.iter().all(|c| c.forms.len() < 2) {
            return Err(QuantError::NothingToChoose);
        }
        let files = foreign.iter().map(|file| file.name.clone()).collect();
        Ok(Self { choices, files, experts: Vec::new() })
    }

    /// The same menu for a version of the model with fewer experts, of which `experts` remain.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn of_version(
        &self,
        version: &GgufModel,
        experts: Vec<Vec<usize>>,
    ) -> Result<Self, QuantError> {
        let mut choices = self.choices.clone();
        for choice in &mut choices {
            if let Some((_, info)) = version.tensor(&choice.tensor.name) {
                choice.tensor = info.spec.clone();
                choice.weights = info.spec.elements()?;
            }
        }
        Ok(Self { choices, files: self.files.clone(), experts })
    }

    /// A form by its name.
    pub fn named(&self, form: Form) -> NamedForm {
        let file = form.file.map(|n| self.files.get(n).cloned().unwrap_or_default());
        NamedForm { ty: form.ty, file }
    }

    /// Weights that have to be encoded or compared: those of all forms but the source's.
    pub fn work(&self) -> u64 {
        let forms = |c: &Choice| c.forms.iter().filter(|&&form| form != c.source()).count() as u64;
        self.choices.iter().map(|c| c.weights.saturating_mul(forms(c))).sum()
    }

    /// Types that some tensor may take and would have to be encoded.
    pub fn encoded_types(&self) -> Vec<TensorType> {
        let mut out: Vec<TensorType> = self
            .choices
            .iter()
            .flat_map(|c| c.forms.iter().map(|form| form.ty).filter(|&ty| c.is_encoded_as(ty)))
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
) -> Result<Vec<(u64, Form)>, QuantError> {
    let mut out = vec![(source_bytes, Form::own(tensor.ty))];
    let possible = |ty: TensorType| {
        let Some(layout) = ty.layout() else { return false };
        let wants = layout.needs_importance || WANT_IMPORTANCE.contains(&ty);
        filter.admits(ty)
            && rco_ggml::can_encode(ty)
            && ty.fits_row(tensor.row_length()) == Some(true)
            && (covered || !wants)
    };
    // Without an importance matrix nothing was measured.
    let by_default = filter.only.is_empty() && covered;
    for (ty, _) in TensorType::known() {
        let named = filter.named.contains(&ty);
        let outdone = || OUTDONE.iter().any(|&(a, b)| a == ty && possible(b));
        if ty == tensor.ty || !possible(ty) || (by_default && !named && outdone()) {
            continue;
        }
        let spec = TensorSpec { ty, ..tensor.clone() };
        if let Some(bytes) = spec.byte_length()?.filter(|&bytes| bytes < source_bytes) {
            out.push((bytes, Form::own(ty)));
        }
    }
    Ok(out)
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
