//! llama.cpp's quantiser of whole files.

use std::ffi::CString;
use std::ptr;

use llama_cpp_sys_2 as sys;

use super::Preset;

/// Bytes of rows that it keeps in memory at once.
const BUFFER: usize = 256 << 20;

/// Importance of one tensor, a weight for each column of each matrix.
pub(super) struct Importance {
    pub(super) name: CString,
    pub(super) weights: Vec<f32>,
}

/// What is to be done.
pub(super) struct Job<'a> {
    pub(super) source: CString,
    /// Empty for a dry run.
    pub(super) out: CString,
    pub(super) preset: Preset,
    pub(super) importance: Option<&'a [Importance]>,
    pub(super) threads: i32,
    pub(super) dry_run: bool,
}

impl Job<'_> {
    /// Runs it; false if llama.cpp says that it failed. The files must be checked.
    pub(super) fn run(&self) -> bool {
        let end = sys::llama_model_imatrix_data { name: ptr::null(), data: ptr::null(), size: 0 };
        let entries: Option<Vec<sys::llama_model_imatrix_data>> = self.importance.map(|all| {
            let entry = |one: &Importance| sys::llama_model_imatrix_data {
                name: one.name.as_ptr(),
                data: one.weights.as_ptr(),
                size: one.weights.len(),
            };
            all.iter().map(entry).chain([end]).collect()
        });
        // SAFETY: returns a structure of numbers and null pointers.
        let mut params = unsafe { sys::llama_model_quantize_default_params() };
        params.nthread = self.threads;
        params.ftype = self.preset.file_type();
        params.allow_requantize = true;
        params.dry_run = self.dry_run;
        params.max_buf_size = BUFFER;
        params.imatrix = entries.as_ref().map_or(ptr::null(), Vec::as_ptr);
        // SAFETY: both paths end in zero; the list of importances ends in a null name and,
        // as the names and weights in it, outlives the call; the function catches its
        // exceptions.
        let status = unsafe {
            sys::llama_model_quantize(self.source.as_ptr(), self.out.as_ptr(), &raw const params)
        };
        status == 0
    }
}
