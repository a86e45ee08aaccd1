//! llama.cpp, set up once in a process.

use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;

use crate::{GgmlError, log};

/// The proof that llama.cpp is set up; it stays so until the process ends.
pub(crate) fn backend() -> Result<&'static LlamaBackend, GgmlError> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            log::silence();
            LlamaBackend::init().ok()
        })
        .as_ref()
        .ok_or(GgmlError::Backend)
}
