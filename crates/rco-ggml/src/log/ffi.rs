//! The callback that llama.cpp logs through.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::Once;

use llama_cpp_sys_2 as sys;

use super::{Kind, receive};

/// Sends llama.cpp's and ggml's log here instead of to the standard error.
pub(crate) fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the callback is a function without state and lives as long as the
        // process; `Once` keeps two threads from setting it at the same time.
        unsafe { sys::llama_log_set(Some(callback), ptr::null_mut()) }
    });
}

unsafe extern "C" fn callback(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp hands over a string that ends in zero and lives until the return.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let kind = match level {
        sys::GGML_LOG_LEVEL_WARN | sys::GGML_LOG_LEVEL_ERROR => Kind::Fault,
        sys::GGML_LOG_LEVEL_CONT => Kind::Continued,
        _ => Kind::Note,
    };
    receive(kind, &text);
}
