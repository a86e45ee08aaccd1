//! The committed schema.

use super::*;

#[test]
fn the_committed_schema_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/problem.schema.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    assert!(committed == current, "run `rco schema > schemas/problem.schema.json`");
}
