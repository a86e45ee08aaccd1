//! The commands, one file or folder each.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod eval;
pub(crate) mod inspect;
pub(crate) mod logits;
pub(crate) mod prune;
pub(crate) mod quantize;
pub(crate) mod schema;
pub(crate) mod solve;

use crate::error::CliError;

/// Starts rayon's global pool; 0 threads take all cores.
pub(crate) fn start_threads(threads: usize) -> Result<(), CliError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|source| rco_core::search::SearchError::Threads { threads, source }.into())
}
