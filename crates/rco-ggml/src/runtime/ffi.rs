//! A model and its context in one value.

use std::sync::Arc;

use llama_cpp_2::LlamaContextLoadError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;

/// Number of "no flash attention" in llama.cpp.
pub(super) const NO_FLASH_ATTENTION: i32 = llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED;

/// A context with the model that it computes.
pub(super) struct Session {
    // Fields are dropped in this order: the context before the model.
    context: LlamaContext<'static>,
    _model: Arc<LlamaModel>,
}

impl Session {
    /// A context of a model.
    pub(super) fn new(
        model: Arc<LlamaModel>,
        backend: &LlamaBackend,
        params: LlamaContextParams,
    ) -> Result<Self, LlamaContextLoadError> {
        // SAFETY: the reference points into the allocation of the `Arc`, which does not move
        // and lives at least as long as this value; the context is dropped before it, and
        // is only handed out by reference, so 'static is never seen outside.
        let borrowed: &'static LlamaModel = unsafe { &*Arc::as_ptr(&model) };
        let context = borrowed.new_context(backend, params)?;
        Ok(Self { context, _model: model })
    }

    /// The context.
    pub(super) fn context(&self) -> &LlamaContext<'static> {
        &self.context
    }

    /// The context, to compute.
    pub(super) fn context_mut(&mut self) -> &mut LlamaContext<'static> {
        &mut self.context
    }

    /// Forgets all tokens.
    pub(super) fn clear(&mut self) {
        self.context.clear_kv_cache();
    }
}
