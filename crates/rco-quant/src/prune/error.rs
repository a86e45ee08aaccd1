//! What can go wrong when experts are dropped.

use std::path::PathBuf;

use rco_core::ProblemError;
use rco_core::search::SearchError;
use rco_formats::atomic::WriteError;
use rco_formats::gguf::{GgufError, GgufFault};
use rco_formats::safetensors::{SafetensorsError, SafetensorsFault};
use rco_ggml::GgmlError;
use rco_model::ModelError;
use rco_model::text::TextError;

use crate::error::QuantError;
use crate::place::PlaceError;

/// A model could not be pruned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The model has no experts.
    #[error("the model ({family}) has no experts: only mixtures of experts can lose some")]
    Dense {
        /// Its family.
        family: String,
    },
    /// No expert would go.
    #[error("{asked} of {total} experts is none: ask for at least 1")]
    NothingToDrop {
        /// What was asked for.
        asked: String,
        /// Experts of the model.
        total: u64,
    },
    /// More would go than may.
    #[error(
        "{asked} of {total} experts are too many: {floor} have to remain (as many in each layer \
         as a token is sent to, or as --min-experts says), so at most {most} ({most_share}) can go"
    )]
    TooMany {
        /// What was asked for.
        asked: String,
        /// Experts of the model.
        total: u64,
        /// Experts that have to remain.
        floor: u64,
        /// Most that can go.
        most: u64,
        /// The same as a share.
        most_share: String,
    },
    /// A share of a block is no whole number of experts.
    #[error(
        "{asked} takes {found} of the {experts} experts of layer {layer}, no whole number: the \
         nearest shares are {below} and {above}"
    )]
    NotWhole {
        /// What was asked for.
        asked: String,
        /// The first block where it does not come out even.
        layer: usize,
        /// Experts of the block.
        experts: u64,
        /// Experts that would go.
        found: f64,
        /// The next smaller share that is whole.
        below: String,
        /// The next larger share that is whole.
        above: String,
    },
    /// A floor below what a token needs.
    #[error(
        "--min-experts {floor} is too few: in layer {layer} every token is sent to {per_token} \
         experts, so at least {per_token} have to remain"
    )]
    FloorTooLow {
        /// The floor.
        floor: u64,
        /// The block.
        layer: usize,
        /// Experts of each token.
        per_token: u64,
    },
    /// A floor above what there is.
    #[error("--min-experts {floor} is too many: layer {layer} has {experts}")]
    FloorTooHigh {
        /// The floor.
        floor: u64,
        /// The block.
        layer: usize,
        /// Experts of the block.
        experts: u64,
    },
    /// The output is of another kind than the source.
    #[error(
        "{output} would be {wanted}, the model is {found}: formats are not converted; choose an \
         output of the same kind"
    )]
    OtherKind {
        /// The output.
        output: PathBuf,
        /// What it would be.
        wanted: &'static str,
        /// What the source is.
        found: &'static str,
    },
    /// A GGUF file cannot have different numbers of experts in its layers.
    #[error(
        "a GGUF file has one number of experts for all layers, and a share of the whole model \
         leaves different numbers: add --per-layer, or prune a Hugging Face folder of the model"
    )]
    UnevenGguf,
    /// A folder has no runtime here that could write text.
    #[error(
        "a Hugging Face folder needs --text: only a GGUF model can write the text it is judged by"
    )]
    NoText,
    /// A tensor of experts has another shape than the configuration says.
    #[error(
        "the tensor '{name}' has {found} experts in its slowest dimension, expected {expected}"
    )]
    ExpertAxis {
        /// The tensor.
        name: String,
        /// Experts of the block.
        expected: u64,
        /// Length of the slowest dimension.
        found: u64,
    },
    /// The model is not as planned when it is read again.
    #[error("{path}: {problem}. What was written is kept; do not trust it")]
    Differs {
        /// The file or folder.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// The metadata says nothing of blocks.
    #[error("the metadata of the model has no number `{key}`: it has no layers to drop")]
    NoBlocks {
        /// The key.
        key: String,
    },
    /// None would go, or all.
    #[error("{asked} of {blocks} layers cannot go: ask for 1 to {most}")]
    Layers {
        /// Layers asked for.
        asked: u64,
        /// Layers of the model.
        blocks: u64,
        /// Most that can go.
        most: u64,
    },
    /// Weights that do not belong to the texts.
    #[error(
        "--weights has {} numbers ({}) for {files} texts: give a positive number for each --text, \
         in their order", weights.len(), list(weights)
    )]
    TextWeights {
        /// Texts that count.
        files: usize,
        /// The weights.
        weights: Vec<f64>,
    },
    /// Protected texts without a limit, or the other way round.
    #[error(
        "{texts} texts are protected, and {}: give both --protect FILE and --protect-kl NATS \
         above zero", match limit { None => "no limit is given".to_owned(),
         Some(limit) => format!("the limit is {limit}") }
    )]
    Protection {
        /// Protected texts.
        texts: usize,
        /// The limit.
        limit: Option<f64>,
    },
    /// Protected texts, and none to judge by.
    #[error("--protect needs --text beside it: the text that the model is made for")]
    OnlyProtected,
    /// No plan that was found keeps to the limit of a protected text.
    #[error(
        "no plan that was found keeps the KL on {text} to {limit} nats on held-out text: the best \
         has {found:.6}. Raise --protect-kl or drop less"
    )]
    AboveLimit {
        /// The text.
        text: String,
        /// Mean KL of the best plan on it.
        found: f64,
        /// Its limit.
        limit: f64,
    },
    /// The numbers of experts cannot be so close to each other.
    #[error(
        "{kept} experts cannot remain in {layers} layers with at most {spread} between the layer \
         with most and that with fewest: raise --max-spread, or change --experts"
    )]
    Spread {
        /// Experts that remain.
        kept: u64,
        /// Blocks with experts.
        layers: usize,
        /// Largest difference.
        spread: u64,
    },
    /// A share of the weights that no plan can have.
    #[error("--sparsity takes more than 0% and at most {most}%, of which every matrix may lose")]
    Sparsity {
        /// Largest share in percent.
        most: u64,
    },
    /// A number of weights instead of a share.
    #[error("--sparsity is a share of the weights, such as 50%")]
    SparsityCount,
    /// Texts of different weight, or protected ones.
    #[error("--sparsity counts all texts alike: leave out --weights and --protect")]
    SparsityText,
    /// A GGUF file has no use for zeros.
    #[error(
        "{path} is a GGUF file: its types store zeros like all weights; give a Hugging Face folder"
    )]
    SparsityOfGguf {
        /// The file.
        path: PathBuf,
    },
    /// The configuration of a folder cannot describe what remains.
    #[error(
        "config.json of {path} has no words for the layers that would remain: what each of them \
         does depends on its number there"
    )]
    LayersConfig {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder was not put in its place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Everything that making files of models has in common.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The configuration of a folder has no place for the number of experts.
    #[error("config.json of {path} has no field `num_experts` or `num_local_experts`")]
    NoExpertField {
        /// The folder.
        path: PathBuf,
    },
}

fn list(values: &[f64]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

macro_rules! through_quant {
    ($($from:ty),*) => {
        $(impl From<$from> for PruneError {
            fn from(error: $from) -> Self {
                Self::Quant(error.into())
            }
        })*
    };
}

through_quant!(
    GgufError,
    GgufFault,
    SafetensorsError,
    GgmlError,
    ModelError,
    TextError,
    ProblemError,
    SearchError
);

impl PruneError {
    /// A fault of a safetensors file that is to be written.
    pub(super) fn safetensors(path: &std::path::Path) -> impl Fn(SafetensorsFault) -> Self {
        let path = path.display().to_string();
        move |fault| SafetensorsError::new(path.clone(), fault).into()
    }
}
