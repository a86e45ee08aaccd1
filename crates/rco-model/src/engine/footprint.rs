//! How much memory a loss or a gradient takes, from the shapes.

use serde::Serialize;

use super::Settings;
use crate::block::QUERIES;
use crate::config::{MlpConfig, ModelConfig};
use crate::error::ModelError;
use crate::head::{PIECE, PIECE_ROWS, ROWS_AT_A_TIME};
use crate::key::{WeightKey, WeightKind};

/// Bytes of a value.
const VALUE: u64 = 4;
/// The program itself, its threads, vocabularies, what the allocator holds back.
const PROGRAM: u64 = 256 << 20;

/// What is to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Sequences of a batch.
    pub sequences: usize,
    /// Tokens of each.
    pub length: usize,
    /// Whether gradients are wanted.
    pub gradient: bool,
    /// Whether that of the output matrix is among them.
    pub head_gradient: bool,
    /// Tokens whose states a teacher keeps in memory, together with its output matrix; 0
    /// without a teacher.
    pub taught: usize,
}

/// Bytes of memory, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// The program itself.
    pub program: u64,
    /// The teacher's output matrix and states.
    pub teacher: u64,
    /// Inputs of the blocks, for the way back.
    pub inputs: u64,
    /// What else of the blocks is kept for the way back, at most.
    pub kept: u64,
    /// The largest block at work: weights, states, the largest gradient.
    pub block: u64,
    /// The output at work: its matrix, logits of a chunk of tokens, gradients.
    pub head: u64,
}

impl Footprint {
    /// Estimates the memory of `load` under `settings`.
    pub fn of(config: &ModelConfig, settings: &Settings, load: &Load) -> Self {
        let rows = (load.sequences * load.length) as u64;
        let hidden = config.hidden as u64;
        let matrix = VALUE * config.vocabulary as u64 * hidden;
        let blocks = config.blocks.len() as u64;
        let states = VALUE * rows * hidden;
        let models = 1 + u64::from(load.taught > 0);
        let at_once = chunk_rows(config, settings, load);
        // Logits of a piece of the vocabulary for the rows at work.
        let piece = VALUE * at_once * config.vocabulary.min(PIECE) as u64;
        let logits = if load.gradient {
            // All pieces are kept until the sums are known; then one at a time has a gradient.
            VALUE * at_once * config.vocabulary as u64 * models + 2 * piece
        } else {
            piece * models
        };
        // That of the matrix, and at a tied head the embedding's while it is added.
        let of_matrix = if load.head_gradient { 2 * matrix } else { 0 };
        let teacher =
            if load.taught > 0 { matrix + VALUE * load.taught as u64 * hidden } else { 0 };
        Self {
            program: PROGRAM,
            teacher,
            inputs: if load.gradient { blocks * states } else { 2 * states },
            kept: kept(config, load).min(settings.keep_bytes as u64),
            block: (0..config.blocks.len()).map(|n| block(config, n, load)).max().unwrap_or(0),
            head: matrix + of_matrix + logits + 4 * states,
        }
    }

    /// The largest sum that there is at any time.
    pub fn peak(&self) -> u64 {
        self.program + self.teacher + self.inputs + self.kept + self.block.max(self.head)
    }
}

/// What a gradient keeps of all blocks if it may, and losses of several batches of those that
/// are in a block together: who takes gradients measures losses, too, in the same memory.
fn kept(config: &ModelConfig, load: &Load) -> u64 {
    let together = Together::most(config, load);
    if !load.gradient {
        return together;
    }
    let forward = Load { gradient: false, ..*load };
    let states = (0..config.blocks.len()).map(|n| activations(config, n, &forward)).sum();
    together.max(states)
}

/// Tokens whose logits are in memory at a time.
fn chunk_rows(config: &ModelConfig, settings: &Settings, load: &Load) -> u64 {
    let rows = if load.gradient {
        settings.logit_values / config.vocabulary.max(1)
    } else {
        (settings.logit_values / PIECE).min(PIECE_ROWS)
    };
    rows.clamp(1, (load.sequences * load.length).max(1)) as u64
}

/// A block at work.
fn block(config: &ModelConfig, layer: usize, load: &Load) -> u64 {
    let weights = config.block_weights(layer);
    let sizes = weights.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64);
    let (sum, largest) = sizes.fold((0, 0), |(sum, largest), n| (sum + n, n.max(largest)));
    let back = u64::from(load.gradient);
    VALUE * (sum + back * largest) + activations(config, layer, load)
}

/// What a block at work holds beside weights and their gradients.
fn activations(config: &ModelConfig, layer: usize, load: &Load) -> u64 {
    let rows = (load.sequences * load.length) as u64;
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let (width, share) = match config.blocks[layer].mlp {
        MlpConfig::Dense { width } => (width, 1),
        MlpConfig::Experts { per_token, width, .. } => (width, per_token),
    };
    // Chunks of scores and probabilities, and on the way back their gradients.
    let pairs = load.sequences * config.heads * QUERIES.min(load.length) * load.length;
    let back = u64::from(load.gradient);
    // What a block holds at once, counted in its code: forward, and besides that backward.
    let wide = (3 + 3 * back) * (width * share) as u64;
    let narrow = (6 + 4 * back) * (config.hidden * share) as u64;
    let heads = (3 + 3 * back) * (q + 2 * kv) as u64;
    let scores = (2 + 2 * back) * pairs as u64;
    VALUE * (rows * (wide + narrow + heads) + scores)
}

/// How many batches go forward together: through each block one after the other, so that it
/// is read once, and how many of them at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Together {
    /// Batches whose states are in memory.
    pub(super) group: usize,
    /// Batches that are in a block at the same time.
    pub(super) abreast: usize,
}

/// The most that is worth it.
const GROUP: usize = 64;
const ABREAST: usize = 8;

impl Together {
    /// Uses the memory that a gradient would keep states in, which is free meanwhile.
    pub(super) fn of(config: &ModelConfig, settings: &Settings, load: &Load) -> Self {
        let (states, work) = Self::each(config, load);
        let half = settings.keep_bytes as u64 / 2;
        let further = |each: u64| usize::try_from(half / each.max(1)).unwrap_or(usize::MAX - 1);
        Self { group: (1 + further(states)).min(GROUP), abreast: (1 + further(work)).min(ABREAST) }
    }

    /// Bytes that the most of them take beside the first.
    fn most(config: &ModelConfig, load: &Load) -> u64 {
        let (states, work) = Self::each(config, load);
        (GROUP as u64 - 1) * states + (ABREAST as u64 - 1) * work
    }

    /// Bytes of the states of a batch, and of what a block holds for it.
    fn each(config: &ModelConfig, load: &Load) -> (u64, u64) {
        let load = Load { gradient: false, ..*load };
        let states = VALUE * 2 * (load.sequences * load.length * config.hidden) as u64;
        let layers = 0..config.blocks.len();
        (states, layers.map(|n| activations(config, n, &load)).max().unwrap_or(0))
    }
}

impl Settings {
    /// The same settings, with chunks of logits and kept states made so small that the
    /// estimated peak stays below `limit` bytes.
    ///
    /// # Errors
    /// [`ModelError::TooLittleMemory`] if the smallest do not fit, with the least that does.
    pub fn within(self, limit: u64, config: &ModelConfig, load: &Load) -> Result<Self, ModelError> {
        let mut settings = Self { keep_bytes: 0, ..self };
        let peak = |settings: &Self| Footprint::of(config, settings, load).peak();
        let least = config.vocabulary.max(1) * ROWS_AT_A_TIME;
        while peak(&settings) > limit && settings.logit_values > least {
            settings.logit_values = (settings.logit_values / 2).max(least);
        }
        let needed = peak(&settings);
        if needed > limit {
            return Err(ModelError::TooLittleMemory { needed, limit });
        }
        let free = usize::try_from(limit - needed).unwrap_or(usize::MAX);
        settings.keep_bytes = free.min(self.keep_bytes);
        Ok(settings)
    }
}

impl Load {
    /// Whether the output matrix is among some weights that gradients are wanted of.
    pub fn has_head(config: &ModelConfig, wanted: impl IntoIterator<Item = WeightKey>) -> bool {
        let kind = if config.tied { WeightKind::Embedding } else { WeightKind::Head };
        wanted.into_iter().any(|key| key == WeightKey::outer(kind))
    }
}
