//! What ends a command without success, and its exit code.

use std::io;
use std::path::{Path, PathBuf};

use rco_bench::BenchError;
use rco_core::ProblemError;
use rco_core::knapsack::KnapsackError;
use rco_core::manifold::ManifoldError;
use rco_core::search::SearchError;
use rco_formats::inspect::InspectError;
use rco_model::ModelError;
use rco_problems::file::{FileError, FileErrorKind};
use rco_quant::QuantError;
use rco_quant::packed::PackedError;
use rco_quant::place::PlaceError;
use rco_quant::prune::PruneError;

/// A command could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error("{path} exists: choose another name, or overwrite it with --force")]
    Exists { path: PathBuf },
    #[error("{path} has no folder to write into: create {folder} first")]
    NoFolder { path: PathBuf, folder: PathBuf },
    #[error("{path}: {action} failed: {source}")]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    #[error("writing the output failed: {0}")]
    Stdout(#[from] io::Error),
    #[error(
        "run folder {dir} belongs to another run: {what} was {before} and is now {now}; go back \
         to the former value, or use another folder"
    )]
    OtherRun { dir: PathBuf, what: String, before: String, now: String },
    #[error("run folder {dir} is in use by another process: wait for it, or use another folder")]
    RunInUse { dir: PathBuf },
    #[error("{path} is not the description of a run: {reason}; delete the folder to start anew")]
    RunDamaged { path: PathBuf, reason: String },
    #[error("settings file {path}: {source}")]
    Settings { path: PathBuf, source: serde_json::Error },
    #[error("{failed} of {checks} checks of the geometry failed with seed {seed}")]
    Geometry { failed: usize, checks: usize, seed: u64 },
    #[error("there is no family `{name}`; the families are {known}")]
    UnknownFamily { name: String, known: String },
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Manifold(#[from] ManifoldError),
    #[error(transparent)]
    Quant(#[from] QuantError),
    #[error(transparent)]
    Prune(Box<PruneError>),
    #[error(transparent)]
    Packed(Box<PackedError>),
    #[error("{flag} is for {wanted}")]
    OtherModel { flag: &'static str, wanted: &'static str },
    #[error("{path} is not UTF-8: the byte at {offset} begins no character; convert it first")]
    NotText { path: PathBuf, offset: usize },
    #[error("several budgets would write {path}: put {{bpw}} or {{size}} into the name")]
    SameOutput { path: PathBuf },
    #[error(
        "{path} has {free} bytes free, about {needed} are needed: choose another disk with --run"
    )]
    DiskTooSmall { path: PathBuf, needed: u64, free: u64 },
    #[error("there is no plan at {path}: make one with `rco search` and the same arguments")]
    NoPlan { path: PathBuf },
    #[error("{path} cannot be built: {problem}; mend it, or make it anew with `rco search`")]
    Plan { path: PathBuf, problem: String },
    #[error("interrupted; {hint}")]
    Interrupted { hint: String },
}

impl CliError {
    /// An error of the operating system at a path.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }

    /// Whether the reader of the output has gone, as `head` does.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code, as listed in the help.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::File(error) => match &*error.kind {
                FileErrorKind::Io(_) => 5,
                FileErrorKind::Problem(
                    ProblemError::BudgetTooSmall { .. } | ProblemError::BudgetTooLarge { .. },
                ) => 3,
                FileErrorKind::MissingBudget { .. }
                | FileErrorKind::UnknownBudget { .. }
                | FileErrorKind::AmbiguousBudget { .. } => 2,
                _ => 4,
            },
            Self::Inspect(error) => {
                if error.is_io() {
                    5
                } else {
                    4
                }
            }
            Self::Search(error) => match error {
                SearchError::Unreachable { .. }
                | SearchError::Missed { .. }
                | SearchError::Knapsack(
                    KnapsackError::Infeasible { .. }
                    | KnapsackError::JointlyInfeasible { .. }
                    | KnapsackError::Undecided { .. },
                ) => 3,
                SearchError::Setting { .. }
                | SearchError::UnknownMethod { .. }
                | SearchError::NotSeparable
                | SearchError::NoPlan { .. } => 2,
                SearchError::CheckpointIo { .. } | SearchError::Observer(_) => 5,
                SearchError::CheckpointDamaged { .. } | SearchError::CheckpointForeign { .. } => 6,
                SearchError::Interrupted { .. } => 130,
                _ => 1,
            },
            Self::Quant(error) => quant_code(error),
            Self::Prune(error) => prune_code(error),
            Self::Packed(error) => packed_code(error),
            Self::NotText { .. } | Self::Plan { .. } => 4,
            Self::Exists { .. }
            | Self::NoPlan { .. }
            | Self::OtherModel { .. }
            | Self::SameOutput { .. }
            | Self::Settings { .. }
            | Self::UnknownFamily { .. }
            | Self::Bench(BenchError::UnknownContender { .. }) => 2,
            Self::Bench(BenchError::Model(error))
                if matches!(**error, ModelError::TooLittleMemory { .. }) =>
            {
                3
            }
            Self::NoFolder { .. }
            | Self::DiskTooSmall { .. }
            | Self::Io { .. }
            | Self::Stdout(_) => 5,
            Self::OtherRun { .. } | Self::RunInUse { .. } | Self::RunDamaged { .. } => 6,
            Self::Bench(_) | Self::Geometry { .. } | Self::Manifold(_) => 1,
            Self::Interrupted { .. } => 130,
        }
    }
}

impl From<PruneError> for CliError {
    fn from(error: PruneError) -> Self {
        Self::Prune(Box::new(error))
    }
}

impl From<PackedError> for CliError {
    fn from(error: PackedError) -> Self {
        Self::Packed(Box::new(error))
    }
}

/// The exit code of a folder that could not be packed.
fn packed_code(error: &PackedError) -> u8 {
    match error {
        PackedError::Quant(error) => quant_code(error),
        PackedError::TooSmall { .. }
        | PackedError::MatricesTooSmall { .. }
        | PackedError::SourceFits { .. } => 3,
        PackedError::Setting { .. }
        | PackedError::Runtime { .. }
        | PackedError::NoText
        | PackedError::Place(PlaceError::Exists { .. } | PlaceError::NoModel { .. }) => 2,
        PackedError::Place(_) => 5,
        PackedError::Options { .. } => 6,
        PackedError::Differs { .. } => 1,
        _ => 4,
    }
}

/// The exit code of a failed pruning.
fn prune_code(error: &PruneError) -> u8 {
    match error {
        PruneError::Quant(error) => quant_code(error),
        PruneError::TooMany { .. }
        | PruneError::Layers { .. }
        | PruneError::Sparsity { .. }
        | PruneError::Spread { .. }
        | PruneError::AboveLimit { .. } => 3,
        PruneError::NothingToDrop { .. }
        | PruneError::NotWhole { .. }
        | PruneError::FloorTooLow { .. }
        | PruneError::FloorTooHigh { .. }
        | PruneError::OtherKind { .. }
        | PruneError::UnevenGguf
        | PruneError::TextWeights { .. }
        | PruneError::Protection { .. }
        | PruneError::OnlyProtected
        | PruneError::SparsityCount
        | PruneError::SparsityText
        | PruneError::SparsityOfGguf { .. }
        | PruneError::NoText
        | PruneError::Place(PlaceError::Exists { .. } | PlaceError::NoModel { .. }) => 2,
        PruneError::Write(_) | PruneError::Place(_) => 5,
        PruneError::Differs { .. } => 1,
        _ => 4,
    }
}

/// The exit code of a failed compression.
fn quant_code(error: &QuantError) -> u8 {
    match error {
        QuantError::BudgetTooSmall { .. }
        | QuantError::SourceFits { .. }
        | QuantError::PlanTooLarge { .. }
        | QuantError::Model(ModelError::TooLittleMemory { .. }) => 3,
        QuantError::TypeUnusable { .. } | QuantError::Rule { .. } => 2,
        QuantError::Io { .. } => 5,
        QuantError::Changed { .. } | QuantError::Json { .. } => 6,
        QuantError::Search(SearchError::Interrupted { .. }) => 130,
        QuantError::Search(_)
        | QuantError::Problem(_)
        | QuantError::RuntimeDisagrees { .. }
        | QuantError::SizeDiffers { .. } => 1,
        _ => 4,
    }
}
