//! What a job is asked to do.

use std::path::PathBuf;

use regex::Regex;

use crate::effort::Effort;
use crate::menu::TypeFilter;
use crate::rules::Pin;
use crate::size::{BitsPerWeight, KvType};

/// A budget in the user's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Bytes of the whole file.
    Size(u64),
    /// Bits per weight of the whole file.
    Bpw(BitsPerWeight),
    /// Memory of a device for file, key-value cache and buffers.
    Memory {
        /// Bytes of the device.
        bytes: u64,
        /// Tokens of context for each sequence.
        context: u64,
        /// Type of the cache.
        kv: KvType,
        /// Sequences at once.
        parallel: u64,
    },
}

/// What measures plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MeasuredIn {
    /// Our engine, which takes gradients too.
    #[default]
    Engine,
    /// llama.cpp, which runs architectures that the engine does not know. Without gradients,
    /// plans start from the errors of weights.
    Runtime,
}

/// A target and where its file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The budget.
    pub target: Target,
    /// The file to write.
    pub output: PathBuf,
}

/// What a job is asked to do.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct JobSettings {
    /// The model: a GGUF file, or the first part of a split one.
    pub model: PathBuf,
    /// Budgets and files.
    pub orders: Vec<Order>,
    /// Texts, one for each domain; none takes text that the model itself writes.
    pub texts: Vec<PathBuf>,
    /// An importance matrix; none computes one.
    pub imatrix: Option<PathBuf>,
    /// GGUF files whose tensors are options too.
    pub options: Vec<PathBuf>,
    /// Types allowed.
    pub filter: TypeFilter,
    /// Tensors with a type of their own.
    pub pins: Vec<Pin>,
    /// Tensors that must be alike, layer by layer.
    pub ties: Vec<Regex>,
    /// Gate and up projections alike.
    pub fuse_friendly: bool,
    /// Whether experts may be dropped as well.
    pub drop_experts: bool,
    /// What measures plans.
    pub measured_in: MeasuredIn,
    /// Tensor data of a part in bytes; none writes one file.
    pub split: Option<u64>,
    /// How much work to spend.
    pub effort: Effort,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Bytes of memory that the engine may take; none takes what it likes.
    pub memory: Option<u64>,
    /// Threads of the runtime; the engine runs on rayon's global pool.
    pub threads: usize,
    /// Overwrite files.
    pub force: bool,
    /// Compare the files with the original in llama.cpp.
    pub verify: bool,
    /// Steps in which scales of blocks are tuned; by effort, if nothing is said.
    pub tuning: Option<u64>,
}

impl JobSettings {
    /// Steps in which scales of blocks are tuned, if there is text enough.
    pub fn tuning_steps(&self) -> u64 {
        self.tuning.unwrap_or_else(|| self.effort.plan().tuned)
    }
}
