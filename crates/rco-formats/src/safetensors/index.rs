//! `model.safetensors.index.json`: which tensor is in which file.

use serde::{Deserialize, Serialize};

use super::error::SafetensorsFault;
use crate::json::UniqueMap;

/// The index of a model in several files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardIndex {
    /// Bytes of all tensors, if given.
    pub(crate) total_size: Option<u64>,
    /// Files in the order of their first mention.
    pub(crate) shards: Vec<String>,
    /// Tensor names with positions in `shards`.
    pub(crate) entries: Vec<(String, usize)>,
}

#[derive(Deserialize)]
struct RawIndex {
    metadata: Option<RawMetadata>,
    weight_map: UniqueMap<String>,
}

#[derive(Deserialize)]
struct RawMetadata {
    total_size: Option<u64>,
}

impl ShardIndex {
    /// Parses an index and checks that it names files of its own folder only.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, SafetensorsFault> {
        let raw: RawIndex = serde_json::from_slice(json)
            .map_err(|source| SafetensorsFault::Json { what: "the index", source })?;
        let mut shards: Vec<String> = Vec::new();
        let mut positions = std::collections::HashMap::new();
        let mut entries = Vec::with_capacity(raw.weight_map.0.len());
        for (name, shard) in raw.weight_map.0 {
            if !is_plain(&shard) {
                return Err(SafetensorsFault::BadShardName { shard });
            }
            let position = *positions.entry(shard).or_insert_with_key(|shard| {
                shards.push(shard.clone());
                shards.len() - 1
            });
            entries.push((name, position));
        }
        Ok(Self { total_size: raw.metadata.and_then(|m| m.total_size), shards, entries })
    }
}

/// Whether this is the name of a file in the folder itself, on every system.
fn is_plain(name: &str) -> bool {
    name.ends_with(".safetensors")
        && !name.starts_with('.')
        && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
}

/// The index as it is written.
#[derive(Serialize)]
pub(crate) struct IndexJson<'a> {
    pub(crate) metadata: TotalSize,
    pub(crate) weight_map: std::collections::BTreeMap<&'a str, String>,
}

/// Metadata of a written index.
#[derive(Serialize)]
pub(crate) struct TotalSize {
    pub(crate) total_size: u64,
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn only_plain_names_are_followed() {
        assert!(is_plain("model-00001-of-00002.safetensors"));
        for name in [
            "../x.safetensors",
            "a/b.safetensors",
            "/etc/x.safetensors",
            "a\\b.safetensors",
            "C:x.safetensors",
            "..safetensors",
            "x.bin",
            "",
            "x\0.safetensors",
        ] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
