//! Text to tokens and back, as the model's folder says.

use std::path::Path;

use tokenizers::Tokenizer as Inner;

use crate::error::ModelError;

/// The tokenizer of a Hugging Face folder (`tokenizer.json`).
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
    file: String,
}

impl Tokenizer {
    /// Opens `tokenizer.json` of a folder.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if the file is missing or not understood.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = folder.as_ref().join("tokenizer.json");
        let file = path.display().to_string();
        match Inner::from_file(&path) {
            Ok(inner) => Ok(Self { inner, file }),
            Err(e) => Err(ModelError::Tokenizer { file, message: e.to_string() }),
        }
    }

    /// Number of tokens, added ones included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Tokens of a text; `special` adds those that the model expects around it.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] with what the library says.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, ModelError> {
        match self.inner.encode(text, special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(self.error(&e)),
        }
    }

    /// Text of tokens, special ones included.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] with what the library says.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(tokens, false).map_err(|e| self.error(&e))
    }

    fn error(&self, e: &tokenizers::Error) -> ModelError {
        ModelError::Tokenizer { file: self.file.clone(), message: e.to_string() }
    }
}
