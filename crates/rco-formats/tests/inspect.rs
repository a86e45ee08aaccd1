//! What `rco inspect` tells of the bundled model.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use rco_formats::gguf::TensorType;
use rco_formats::inspect::{Kind, Report, inspect, render};

fn kind(report: &Report, kind: Kind) -> (usize, u64, f64) {
    let found = report.kinds.iter().find(|k| k.kind == kind).unwrap();
    (found.tensors, found.parameters, found.bits_per_weight)
}

#[test]
fn the_gguf_file_in_numbers() {
    let report = inspect(common::tiny_moe_gguf()).unwrap();
    assert_eq!(report.architecture.as_deref(), Some("qwen3moe"));
    assert_eq!(report.file_bytes, 16_423_200);
    assert_eq!(report.tensor_bytes + report.overhead_bytes, report.file_bytes);
    let parts: u64 = report.kinds.iter().map(|k| k.parameters).sum();
    assert_eq!(parts, report.parameters);
    // 4 layers × 8 experts of 256 × 256.
    assert_eq!(kind(&report, Kind::ExpertGate), (4, 4 * 8 * 65_536, 16.0));
    assert_eq!(kind(&report, Kind::Embedding), (1, 4096 * 256, 16.0));
    assert_eq!(kind(&report, Kind::AttentionKey), (4, 4 * 128 * 256, 16.0));
    assert_eq!(kind(&report, Kind::Router), (4, 4 * 8 * 256, 32.0));
    assert!(!report.kinds.iter().any(|k| k.kind == Kind::Other));
}

#[test]
fn the_folder_has_the_same_weights_as_the_file() {
    let file = inspect(common::tiny_moe_gguf()).unwrap();
    let folder = inspect(common::tiny_moe_folder()).unwrap();
    assert_eq!(folder.architecture.as_deref(), Some("Qwen3MoeForCausalLM"));
    assert_eq!(folder.parameters, file.parameters);
    for k in &file.kinds {
        assert_eq!(kind(&folder, k.kind).1, k.parameters, "{:?}", k.kind);
    }
    assert!(folder.tensors.iter().any(|t| t.role.expert == Some(7) && t.role.layer == Some(3)));
}

#[test]
fn every_block_type_fits_rows_of_256() {
    let report = inspect(common::tiny_moe_gguf()).unwrap();
    let [rule] = &*report.rows else { panic!("{:?}", report.rows) };
    assert_eq!(rule.row_length, 256);
    assert!(rule.refused.is_empty());
    assert!(rule.fits.is_sorted_by(|a, b| a.bits_per_weight <= b.bits_per_weight));
    let q4 = rule.fits.iter().find(|ty| ty.ty == TensorType::Q4_K).unwrap();
    assert_eq!((q4.block, q4.bits_per_weight), (256, 4.5));
    for internal in [TensorType::Q8_K, TensorType::Q8_1, TensorType::I8] {
        assert!(!rule.fits.iter().any(|ty| ty.ty == internal));
    }
}

#[test]
fn the_report_is_the_same_as_json() {
    let report = inspect(common::tiny_moe_gguf()).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["file_bytes"], 16_423_200);
    assert_eq!(json["kinds"][0]["kind"], "embedding");
    let tensor = &json["tensors"][0];
    assert!(tensor["type"].is_string() && tensor["kind"].is_string());
    assert_eq!(json["rows"][0]["fits"][0]["type"], "Q1_0");
}

#[test]
fn the_table_names_parts_and_rules() {
    let report = inspect(common::tiny_moe_gguf()).unwrap();
    let short = render(&report, false);
    for expected in ["qwen3moe", "16,423,200", "experts gate", "router", "rows of 256", "Q4_K"] {
        assert!(short.contains(expected), "{expected} is missing in\n{short}");
    }
    assert!(!short.contains("blk.0."));
    assert!(render(&report, true).contains("blk.0.ffn_gate_exps.weight"));
}

#[test]
fn a_path_that_does_not_exist_is_named() {
    let error = inspect("no/such/model.gguf").unwrap_err();
    assert!(error.to_string().contains("no/such/model.gguf"), "{error}");
}
