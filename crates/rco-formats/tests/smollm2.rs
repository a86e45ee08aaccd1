//! A real model made by llama.cpp: SmolLM2-135M-Instruct, if `scripts/fetch_smollm2.sh`
//! has fetched it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests fail and say why they skip")]

use std::path::PathBuf;

use rco_formats::gguf::{Gguf, GgufWriter};
use rco_formats::inspect::{Kind, inspect};

/// The file, or a line that says why the test is skipped.
fn fetched() -> Option<PathBuf> {
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

#[test]
fn a_file_of_llama_cpp_comes_out_byte_for_byte() {
    let Some(path) = fetched() else { return };
    let file = Gguf::open(&path).unwrap();
    let mut copy = Vec::new();
    GgufWriter::copy_of(&file).unwrap().write_to(&mut copy).unwrap();
    assert!(copy == std::fs::read(&path).unwrap());
}

#[test]
fn rows_of_576_refuse_the_types_with_blocks_of_256() {
    let Some(path) = fetched() else { return };
    let report = inspect(&path).unwrap();
    assert_eq!(report.architecture.as_deref(), Some("llama"));
    assert_eq!(report.parameters, 134_515_008);
    let fits = |row: u64, name: &str| {
        let rule = report.rows.iter().find(|r| r.row_length == row).unwrap();
        rule.fits.iter().any(|ty| ty.ty.to_string() == name)
    };
    assert!(!fits(576, "Q4_K") && fits(576, "Q4_0") && fits(576, "NVFP4"));
    assert!(fits(1536, "Q4_K") && fits(1536, "IQ2_XXS"));
    let down = report.kinds.iter().find(|k| k.kind == Kind::FfnDown).unwrap();
    assert_eq!((down.tensors, down.bits_per_weight), (30, 5.0));
}
