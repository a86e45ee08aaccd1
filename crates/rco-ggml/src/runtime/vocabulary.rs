//! The tokenizer of a GGUF file.

use std::path::Path;
use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::load;
use crate::source::Source;
use crate::{GgmlError, c_int};

/// Most bytes of one call: llama.cpp counts them in 32 bits.
const MOST_BYTES: usize = 1 << 28;
/// Most tokens of one call: a token may stand for many bytes.
const MOST_TOKENS: usize = 1 << 20;

/// Tokens of a model, to and from text. Cheap to clone, and can be shared between threads.
#[derive(Clone)]
pub struct Vocabulary {
    model: Arc<LlamaModel>,
    size: usize,
}

impl Vocabulary {
    /// Reads the tokenizer of a model file, and no weights.
    ///
    /// # Errors
    /// A file that the strict reader refuses or that has no supported tokenizer, or a
    /// refusal of llama.cpp.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgmlError> {
        let source = Source::open(path.as_ref())?;
        source.check_vocabulary()?;
        Self::of(load(&source, true)?)
    }

    /// The tokenizer of a loaded model.
    pub(super) fn of(model: Arc<LlamaModel>) -> Result<Self, GgmlError> {
        let count = model.vocab().n_tokens();
        let size = usize::try_from(count).ok().filter(|&size| size > 0).ok_or_else(|| {
            GgmlError::Setting {
                what: "the size of the vocabulary",
                found: count.to_string(),
                expected: "at least 1",
            }
        })?;
        Ok(Self { model, size })
    }

    /// Number of tokens; tokens are 0 to one less.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The token that begins a text, if there is one.
    pub fn bos(&self) -> Option<u32> {
        u32::try_from(self.model.vocab().bos().0).ok()
    }

    /// The token that ends a text, if there is one.
    pub fn eos(&self) -> Option<u32> {
        u32::try_from(self.model.vocab().eos().0).ok()
    }

    /// Whether texts of this model are meant to begin with [`Vocabulary::bos`]. The caller
    /// puts it there: [`Vocabulary::encode`] does not.
    pub fn adds_bos(&self) -> bool {
        self.model.vocab().should_add_bos()
    }

    /// The tokens of a text, without a token that begins or ends it. With `special`, names
    /// of control tokens in the text (such as `<|im_start|>`) become these tokens; without,
    /// they are text as any other. A text of more than 256 MiB is cut there, at the end of
    /// a line if it has one.
    pub fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut(rest, MOST_BYTES));
            let found = self.model.vocab().tokenize(piece.as_bytes(), false, special);
            tokens.extend(found.iter().map(|token| token.0 as u32));
            rest = after;
        }
        tokens
    }

    /// The text of tokens; control tokens appear with their names. A character that is cut
    /// apart, and a token outside the vocabulary, become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(tokens)).into_owned()
    }

    /// The bytes of tokens, as [`Vocabulary::decode`].
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let is_known = |token: u32| (token as usize) < self.size;
        for run in tokens.chunk_by(|&a, &b| is_known(a) && is_known(b)) {
            if !is_known(run[0]) {
                bytes.extend("\u{fffd}".as_bytes());
                continue;
            }
            for piece in run.chunks(MOST_TOKENS) {
                let piece: Vec<LlamaToken> =
                    piece.iter().map(|&token| LlamaToken(c_int(token as usize))).collect();
                bytes.extend(self.model.vocab().detokenize(&piece, false, true));
            }
        }
        bytes
    }

    /// Tokens as llama.cpp takes them.
    pub(super) fn checked(&self, tokens: &[u32]) -> Result<Vec<LlamaToken>, GgmlError> {
        let size = self.size;
        let check = |(position, &token): (usize, &u32)| match i32::try_from(token) {
            Ok(number) if (token as usize) < size => Ok(LlamaToken(number)),
            _ => Err(GgmlError::UnknownToken { token, position, size }),
        };
        tokens.iter().enumerate().map(check).collect()
    }

    /// Whether a token ends the text.
    pub(super) fn ends(&self, token: LlamaToken) -> bool {
        self.model.vocab().is_eog(token)
    }
}

/// Where to cut a text so that the piece has at most `most` bytes: after the last line end
/// there, else between two characters.
fn cut(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let most = most.max(4);
    let end = (1..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    text[..end].rfind('\n').map_or(end, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn long_texts_are_cut_at_lines_else_between_characters() {
        assert_eq!(cut("short", 10), 5);
        assert_eq!(cut("one\ntwo\nthree", 9), 8);
        assert_eq!(cut("ääääää", 5), 4);
    }
}
