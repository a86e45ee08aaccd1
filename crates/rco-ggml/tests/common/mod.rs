//! Files that several tests read.
#![allow(dead_code, unreachable_pub, clippy::print_stdout, reason = "shared by several tests")]

use std::path::PathBuf;

/// The bundled model, 16-bit.
pub fn tiny_moe() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/tiny-moe/tiny-moe.bf16.gguf"))
}

/// SmolLM2-135M in `Q4_1`, or a line that says why the test is skipped.
pub fn smollm2() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let path = cache.join("rco/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.exists() {
        println!("skipped: not fetched (run scripts/fetch_smollm2.sh)");
        return None;
    }
    Some(path)
}
