//! What every kind of pruning is asked.

use std::path::PathBuf;

use super::effort::PruneWork;
use super::error::PruneError;

/// What is asked for, whatever it is that goes.
#[derive(Debug, Clone)]
pub struct CommonSettings {
    /// The model: a GGUF file or a Hugging Face folder.
    pub model: PathBuf,
    /// The file or folder to write; `None` only looks ahead.
    pub output: Option<PathBuf>,
    /// The texts that plans are judged by.
    pub text: JudgedText,
    /// How much work to spend.
    pub work: PruneWork,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Threads of the runtime; the engine runs on rayon's global pool.
    pub threads: usize,
    /// Overwrite the output.
    pub force: bool,
    /// Compare a GGUF file with the original in llama.cpp.
    pub verify: bool,
}

/// Texts, each a domain, and what each of them counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JudgedText {
    /// Files, one for each domain; none takes text that the model itself writes.
    pub files: Vec<PathBuf>,
    /// Weights of the files in their order; none counts all alike.
    pub weights: Vec<f64>,
    /// Files whose damage is limited, and that count for nothing else.
    pub protected: Vec<PathBuf>,
    /// Mean KL in nats that each protected text may lose at most.
    pub limit: Option<f64>,
}

impl JudgedText {
    /// Files that count alike.
    pub fn alike(files: Vec<PathBuf>) -> Self {
        Self { files, ..Self::default() }
    }

    /// All files: those that count, then those that are protected.
    pub(super) fn all(&self) -> Vec<PathBuf> {
        self.files.iter().chain(&self.protected).cloned().collect()
    }

    /// Refuses weights that do not belong to the files, and limits of nothing.
    ///
    /// # Errors
    /// [`PruneError::TextWeights`] or [`PruneError::Protection`].
    pub(super) fn check(&self) -> Result<(), PruneError> {
        let (files, found) = (self.files.len(), self.weights.len());
        let positive = |w: &f64| w.is_finite() && *w > 0.0;
        if found != 0 && (found != files || !self.weights.iter().all(positive)) {
            return Err(PruneError::TextWeights { files, weights: self.weights.clone() });
        }
        let limited = self.limit.is_none_or(|limit| positive(&limit));
        if self.protected.is_empty() != self.limit.is_none() || !limited {
            let (texts, limit) = (self.protected.len(), self.limit);
            return Err(PruneError::Protection { texts, limit });
        }
        if files == 0 && !self.protected.is_empty() {
            return Err(PruneError::OnlyProtected);
        }
        Ok(())
    }
}
