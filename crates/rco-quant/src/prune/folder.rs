//! A Hugging Face folder with fewer experts, and how any smaller folder is written.
//!
//! Experts are numbered anew, routers lose the rows of those that are gone. With one number
//! for all blocks that number replaces `num_experts`, and every loader that knows the family
//! loads the folder. With different numbers `num_experts` is the largest and
//! `per_layer_num_experts` holds the number of each block (0 for a dense one): block `l` then
//! has as many experts and router rows as entry `l` says. Our own reader follows that;
//! `transformers` does not know it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::{WriteOptions, write_bytes};
use rco_formats::safetensors::{HfFolder, SafetensorsWriter};
use rco_model::config::ModelConfig;
use rco_model::{WeightKey, WeightKind};
use serde_json::{Value, json};

use super::error::PruneError;
use super::experts::ExpertMap;
use super::gather::Gathered;
use crate::error::QuantError;
use crate::place::place_folder;

/// Bytes of tensors in a file, where the source has several.
const SHARD_BYTES: u64 = 5_000_000_000;
/// Files beside tokenizer and configuration that are taken along.
const ALONG: &[&str] = &["generation_config.json"];

/// The files of a folder that is to be written.
pub(super) struct FolderPlan {
    tensors: SafetensorsWriter,
    config: Vec<u8>,
    copied: Vec<PathBuf>,
    shard_bytes: u64,
}

/// What a tensor has to do with experts.
enum Part {
    /// Of an expert: block (among those with experts) and number.
    Expert(usize, usize, WeightKind),
    /// A row for each expert of a block.
    Router(usize),
}

impl FolderPlan {
    /// The folder that keeps these experts.
    ///
    /// # Errors
    /// A configuration without a number of experts, or tensors of another shape.
    pub(super) fn new(
        source: &HfFolder,
        config: &ModelConfig,
        map: &ExpertMap,
        kept: &[Vec<usize>],
        plan_sha256: &str,
    ) -> Result<Self, PruneError> {
        let family = config.family;
        let mut parts = HashMap::new();
        for (n, l) in map.layers().iter().enumerate() {
            let router = WeightKey::block(l.layer, WeightKind::Router);
            parts.insert(family.hf_name(router), Part::Router(n));
            for e in 0..l.experts {
                for kind in [WeightKind::Gate, WeightKind::Up, WeightKind::Down] {
                    let key = WeightKey::expert(l.layer, e, kind);
                    parts.insert(family.hf_name(key), Part::Expert(n, e, kind));
                }
            }
        }
        let mut tensors = Self::tensors(source);
        let fault = PruneError::safetensors(source.path());
        for (_, tensor) in source.tensors() {
            let data = source.data(&tensor.name)?;
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            match parts.get(&tensor.name) {
                None => tensors.add(name, tensor.dtype, shape, Arc::new(data)).map_err(&fault)?,
                Some(&Part::Expert(n, e, kind)) => {
                    let Some(place) = kept[n].iter().position(|&k| k == e) else { continue };
                    let key = WeightKey::expert(map.layers()[n].layer, place, kind);
                    let name = family.hf_name(key);
                    tensors.add(name, tensor.dtype, shape, Arc::new(data)).map_err(&fault)?;
                }
                Some(&Part::Router(n)) => {
                    let expected = map.layers()[n].experts as u64;
                    let found = shape.first().copied().unwrap_or(1);
                    let wrong = || PruneError::ExpertAxis { name: name.clone(), expected, found };
                    let mut shape = shape.clone();
                    *shape.first_mut().filter(|d| **d == expected).ok_or_else(wrong)? =
                        kept[n].len() as u64;
                    let rows = Gathered::new(data, expected, &kept[n]).ok_or_else(wrong)?;
                    tensors
                        .add(name.clone(), tensor.dtype, shape, Arc::new(rows))
                        .map_err(&fault)?;
                }
            }
        }
        let config = config_json(source, config, map, kept, plan_sha256)?;
        Ok(Self::of(source, tensors, config))
    }

    /// No tensors yet, with what the source says of its own.
    pub(super) fn tensors(source: &HfFolder) -> SafetensorsWriter {
        let metadata = source.shards().first().and_then(|s| s.header().metadata.clone());
        SafetensorsWriter::new(metadata)
    }

    /// These tensors and this configuration, with the tokenizer of the source.
    pub(super) fn of(source: &HfFolder, tensors: SafetensorsWriter, config: Vec<u8>) -> Self {
        let mut copied = source.tokenizer_files();
        copied.extend(ALONG.iter().map(|name| source.path().join(name)).filter(|p| p.is_file()));
        let shard_bytes = if source.shards().len() > 1 { SHARD_BYTES } else { u64::MAX };
        Self { tensors, config, copied, shard_bytes }
    }

    /// Bytes of all files, to the byte; `None` for a model in several files.
    ///
    /// # Errors
    /// A file that cannot be read, or a header that cannot be written.
    pub(super) fn bytes(&self, source: &Path) -> Result<Option<u64>, PruneError> {
        if self.shard_bytes != u64::MAX {
            return Ok(None);
        }
        let mut sum = self.tensors.file_size().map_err(PruneError::safetensors(source))?;
        sum += self.config.len() as u64;
        for path in &self.copied {
            let found = std::fs::metadata(path).map_err(QuantError::io(path, "reading"))?;
            sum += found.len();
        }
        Ok(Some(sum))
    }

    /// Writes the folder: whole, or not at all. One that exists is replaced only if it holds a
    /// model and `options.force` says so. Gives its bytes.
    ///
    /// # Errors
    /// What keeps it from being written.
    pub(super) fn write(&self, path: &Path, options: WriteOptions) -> Result<u64, PruneError> {
        place_folder(path, options.force, |folder| self.fill(folder))
    }

    fn fill(&self, folder: &Path) -> Result<u64, PruneError> {
        let options = WriteOptions::default();
        let files = self.tensors.write_folder(folder, self.shard_bytes, options)?;
        let mut sum: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        for path in &self.copied {
            let to = folder.join(path.file_name().unwrap_or_default());
            sum += std::fs::copy(path, &to).map_err(QuantError::io(path, "copying"))?;
        }
        write_bytes(&folder.join("config.json"), &self.config, options)?;
        Ok(sum + self.config.len() as u64)
    }
}

fn config_json(
    source: &HfFolder,
    config: &ModelConfig,
    map: &ExpertMap,
    kept: &[Vec<usize>],
    plan_sha256: &str,
) -> Result<Vec<u8>, PruneError> {
    let path = || source.path().to_owned();
    let no_field = || PruneError::NoExpertField { path: path() };
    let mut json = source.config().clone();
    let object = json.as_object_mut().ok_or_else(no_field)?;
    let most = kept.iter().map(Vec::len).max().unwrap_or(0);
    let mut known = false;
    for field in ["num_experts", "num_local_experts"] {
        if let Some(value) = object.get_mut(field) {
            *value = json!(most);
            known = true;
        }
    }
    if !known {
        return Err(no_field());
    }
    object.remove("per_layer_num_experts");
    if kept.iter().any(|k| k.len() != most) {
        let mut counts = vec![0; config.blocks.len()];
        for (l, kept) in map.layers().iter().zip(kept) {
            counts[l.layer] = kept.len();
        }
        object.insert("per_layer_num_experts".to_owned(), json!(counts));
    }
    let layers: serde_json::Map<String, Value> =
        map.layers().iter().zip(kept).map(|(l, kept)| (l.layer.to_string(), json!(kept))).collect();
    let provenance = json!({
        "version": env!("CARGO_PKG_VERSION"), "plan_sha256": plan_sha256, "kept_experts": layers,
    });
    object.insert("rco".to_owned(), provenance);
    config_bytes(source, &json)
}

/// A configuration as it is written.
pub(super) fn config_bytes(source: &HfFolder, json: &Value) -> Result<Vec<u8>, PruneError> {
    let path = || source.path().join("config.json");
    let mut bytes = serde_json::to_vec_pretty(json)
        .map_err(|source| QuantError::Json { path: path(), source })?;
    bytes.push(b'\n');
    Ok(bytes)
}
