//! Limits that no sane file reaches.

/// Largest header: everything before the tensor data. A tokenizer of a million tokens
/// with merges takes about 40 MB.
pub(crate) const MAX_HEADER_BYTES: u64 = 256 << 20;
/// Longest key; the format says so.
pub(crate) const MAX_KEY_BYTES: usize = 65_535;
/// Longest tensor name. llama.cpp takes 63 bytes, other programs more.
pub(crate) const MAX_NAME_BYTES: usize = 65_535;
/// Largest alignment: beyond any page size, small enough that padding cannot hide data.
pub(crate) const MAX_ALIGNMENT: u64 = 1 << 20;
/// Alignment without `general.alignment`.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;
/// Most dimensions of a tensor (`GGML_MAX_DIMS`).
pub(crate) const MAX_DIMENSIONS: u32 = 4;
/// Deepest nesting of arrays in arrays.
pub(crate) const MAX_ARRAY_DEPTH: usize = 8;

/// Why `bytes` cannot be a key or a tensor name.
pub(crate) fn name_problem(bytes: &[u8], longest: usize) -> Option<&'static str> {
    if bytes.is_empty() {
        Some("empty")
    } else if bytes.len() > longest {
        Some("longer than 65,535 bytes")
    } else if bytes.contains(&0) {
        Some("cut by a zero byte")
    } else if std::str::from_utf8(bytes).is_err() {
        Some("not UTF-8")
    } else {
        None
    }
}

/// `bytes` rounded up to a multiple of `alignment`, a power of two.
pub(crate) fn align_up(bytes: u64, alignment: u64) -> Option<u64> {
    debug_assert!(alignment.is_power_of_two());
    bytes.checked_add(alignment - 1).map(|sum| sum & !(alignment - 1))
}
