//! Model files before llama.cpp sees them.
//!
//! The strict reader of `rco-formats` knows the container; here are the claims of a model
//! that llama.cpp answers with the end of the process instead of an error.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rco_formats::gguf::{Array, GgufModel, Metadata, Text, Value};

use crate::GgmlError;

/// Most blocks that llama.cpp has room for.
const MOST_BLOCKS: u64 = 512;
/// Most experts that llama.cpp has room for.
const MOST_EXPERTS: u64 = 1024;
/// Kinds of tokenizers whose every claim is checked here.
const TOKENIZERS: [&str; 3] = ["llama", "gpt2", "gemma4"];
/// Kinds of position scaling.
const SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];
/// Number of a token that stands for a byte in `tokenizer.ggml.token_type`.
const BYTE_TOKEN: i32 = 6;

/// A model file that was checked.
pub(crate) struct Source {
    /// As the strict reader sees it.
    pub(crate) model: GgufModel,
    /// Path of its first part.
    pub(crate) path: String,
}

impl Source {
    /// Opens a model by its only file or any of its parts, and checks what every use of it
    /// by llama.cpp relies on.
    pub(crate) fn open(path: &Path) -> Result<Self, GgmlError> {
        checked_path(path)?;
        let model = GgufModel::open(path)?;
        let first = model.parts().first().map_or("", |part| part.name()).to_owned();
        let source = Self { model, path: first };
        source.check_tensors()?;
        source.check_sizes()?;
        Ok(source)
    }

    fn unusable(&self, problem: impl Into<String>) -> GgmlError {
        GgmlError::Unusable { path: PathBuf::from(&self.path), problem: problem.into() }
    }

    fn require(&self, holds: bool, problem: impl FnOnce() -> String) -> Result<(), GgmlError> {
        if holds { Ok(()) } else { Err(self.unusable(problem())) }
    }

    fn check_tensors(&self) -> Result<(), GgmlError> {
        self.require(!self.model.is_empty(), || "it has no tensors".to_owned())?;
        for (_, tensor) in self.model.tensors() {
            let (name, shape) = (&tensor.spec.name, &tensor.spec.shape);
            self.require(!shape.contains(&0), || {
                format!("the tensor '{name}' has a dimension of 0")
            })?;
            self.require(!name.chars().any(char::is_control), || {
                format!("the tensor name {name:?} has control characters")
            })?;
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), GgmlError> {
        let metadata = self.model.metadata();
        let Some(architecture) = metadata.architecture() else {
            return Err(self.unusable("general.architecture is missing"));
        };
        let key = |name: &str| format!("{architecture}.{name}");
        let number = |name: &str| metadata.u64(&key(name)).unwrap_or(0);
        let blocks = number("block_count");
        self.require((1..=MOST_BLOCKS).contains(&blocks), || {
            format!("{} is {blocks}; it must be 1 to {MOST_BLOCKS}", key("block_count"))
        })?;
        let next = number("nextn_predict_layers");
        self.require(next <= blocks, || {
            format!("{} is {next}, more than {blocks} blocks", key("nextn_predict_layers"))
        })?;

        let experts = number("expert_count");
        let used = largest(metadata, &key("expert_used_count"));
        let (groups, groups_used) =
            (number("expert_group_count"), number("expert_group_used_count"));
        let fits = if experts == 0 {
            used == 0 && groups == 0
        } else {
            let whole = groups <= 1
                || (experts.is_multiple_of(groups) && (1..groups).contains(&groups_used));
            experts <= MOST_EXPERTS && (1..=experts).contains(&used) && groups < experts && whole
        };
        self.require(fits, || {
            format!(
                "{used} of {experts} experts in {groups} groups, {groups_used} of them used, are \
                 no possible routing (at most {MOST_EXPERTS} experts)"
            )
        })?;
        let scaling = metadata.str(&key("rope.scaling.type")).unwrap_or("linear");
        self.require(SCALINGS.contains(&scaling), || {
            format!("{} is '{scaling}'; known are {SCALINGS:?}", key("rope.scaling.type"))
        })
    }

    /// Checks what the tokenizer relies on.
    pub(crate) fn check_vocabulary(&self) -> Result<(), GgmlError> {
        let metadata = self.model.metadata();
        let kind = metadata.str("tokenizer.ggml.model").unwrap_or("missing");
        self.require(TOKENIZERS.contains(&kind), || {
            format!("the tokenizer is '{kind}'; supported are {TOKENIZERS:?}")
        })?;
        let Some(Array::String(tokens)) = metadata.array("tokenizer.ggml.tokens") else {
            return Err(self.unusable("tokenizer.ggml.tokens is missing"));
        };
        self.require(i32::try_from(tokens.len()).is_ok() && !tokens.is_empty(), || {
            format!("a vocabulary of {} tokens", tokens.len())
        })?;
        let mut seen = HashSet::with_capacity(tokens.len());
        for (i, token) in tokens.iter().enumerate() {
            let text = match as_c(token) {
                b"" => format!("[EMPTY_{i}]").into_bytes().into(),
                text => std::borrow::Cow::Borrowed(text),
            };
            self.require(seen.insert(text), || format!("token {i} occurs twice"))?;
        }
        if let Some(Array::I32(types)) = metadata.array("tokenizer.ggml.token_type") {
            let bad = tokens
                .iter()
                .zip(types)
                .position(|(token, ty)| *ty == BYTE_TOKEN && !is_byte(as_c(token)));
            self.require(bad.is_none(), || {
                format!("token {} is a byte, but not written <0x..>", bad.unwrap_or(0))
            })?;
        }
        // A word that is not in this kind of vocabulary is spelled in bytes.
        if kind == "llama" {
            let missing = (0..=u8::MAX).find(|byte| {
                let name = format!("<0x{byte:02X}>").into_bytes();
                !seen.contains(&*name) && (*byte == 0 || !seen.contains(&[*byte][..]))
            });
            self.require(missing.is_none(), || {
                format!("no token for the byte {:02x}", missing.unwrap_or(0))
            })?;
        }
        Ok(())
    }

    /// Checks what the forward pass relies on.
    pub(crate) fn check_decoder(&self) -> Result<(), GgmlError> {
        let metadata = self.model.metadata();
        let architecture = metadata.architecture().unwrap_or_default();
        let is_encoder = architecture.contains("bert") || architecture.starts_with("t5");
        self.require(!is_encoder, || {
            format!("the architecture {architecture} does not write text from left to right")
        })?;
        let attends = self.model.tensors().any(|(_, t)| t.spec.name.contains(".attn_q"));
        let heads = smallest(metadata, &format!("{architecture}.attention.head_count"));
        let kv = format!("{architecture}.attention.head_count_kv");
        let kv_heads = metadata.get(&kv).map_or(heads, |_| smallest(metadata, &kv));
        // Arrays may have zeros, for blocks without attention.
        let is_array = |key: &str| metadata.array(key).is_some();
        let heads_key = format!("{architecture}.attention.head_count");
        let fits = (heads > 0 || is_array(&heads_key)) && (kv_heads > 0 || is_array(&kv));
        self.require(!attends || fits, || {
            format!("{heads} attention heads with {kv_heads} for keys and values")
        })
    }
}

/// A path that can be handed over, and is there.
pub(crate) fn checked_path(path: &Path) -> Result<&str, GgmlError> {
    let problem = match path.to_str() {
        None => "is not UTF-8: rename the file",
        Some(text) if text.contains('\0') => "has a zero byte",
        Some(text) => return Ok(text),
    };
    Err(GgmlError::Path { path: path.to_owned(), problem })
}

/// The text as C sees it: up to the first zero byte.
fn as_c(token: &Text) -> &[u8] {
    token.0.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Whether a token is written `<0x0A>`.
fn is_byte(token: &[u8]) -> bool {
    matches!(token, [b'<', b'0', b'x', high, low, b'>']
        if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// A number, or the largest of an array of numbers; 0 if there is neither.
fn largest(metadata: &Metadata, key: &str) -> u64 {
    numbers(metadata, key).into_iter().max().unwrap_or(0)
}

/// A number, or the smallest of an array of numbers; 0 if there is neither.
fn smallest(metadata: &Metadata, key: &str) -> u64 {
    numbers(metadata, key).into_iter().min().unwrap_or(0)
}

fn numbers(metadata: &Metadata, key: &str) -> Vec<u64> {
    match metadata.get(key) {
        Some(Value::Array(Array::U32(values))) => values.iter().map(|&v| u64::from(v)).collect(),
        // llama.cpp reads negative numbers as huge ones.
        Some(Value::Array(Array::I32(values))) => {
            values.iter().map(|&v| u64::try_from(v).unwrap_or(u64::MAX)).collect()
        }
        Some(value) => value.as_u64().into_iter().collect(),
        None => Vec::new(),
    }
}
