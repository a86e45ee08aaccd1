//! A Hugging Face folder without some blocks.

use std::sync::Arc;

use rco_formats::safetensors::HfFolder;
use rco_model::config::ModelConfig;
use serde_json::{Value, json};

use crate::prune::PruneError;
use crate::prune::folder::{FolderPlan, config_bytes};

/// Lists of `config.json` with one entry for each block.
const BY_BLOCK: &[&str] = &["layer_types", "per_layer_num_experts", "no_rope_layers"];

/// The folder that keeps these blocks, numbered anew in their order.
///
/// # Errors
/// A configuration that has no words for what remains, tensors that cannot be read.
pub(super) fn plan(
    source: &HfFolder,
    config: &ModelConfig,
    kept: &[usize],
    plan_sha256: &str,
) -> Result<FolderPlan, PruneError> {
    let mut json = kept_config(source, config, kept)?.0;
    if let Some(object) = json.as_object_mut() {
        let provenance = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "plan_sha256": plan_sha256,
            "kept_layers": kept,
        });
        object.insert("rco".to_owned(), provenance);
    }
    let mut tensors = FolderPlan::tensors(source);
    let fault = PruneError::safetensors(source.path());
    for (_, tensor) in source.tensors() {
        let name = match block_of(&tensor.name) {
            None => tensor.name.clone(),
            Some((before, block, after)) => match kept.iter().position(|&k| k == block) {
                None => continue,
                Some(new) => format!("{before}{new}{after}"),
            },
        };
        let data = Arc::new(source.data(&tensor.name)?);
        tensors.add(name, tensor.dtype, tensor.shape.clone(), data).map_err(&fault)?;
    }
    Ok(FolderPlan::of(source, tensors, config_bytes(source, &json)?))
}

/// `config.json` for these blocks, and what our reader makes of it: the same blocks.
///
/// # Errors
/// [`PruneError::LayersConfig`] if it has no words for what remains.
pub(super) fn kept_config(
    source: &HfFolder,
    config: &ModelConfig,
    kept: &[usize],
) -> Result<(Value, ModelConfig), PruneError> {
    let wrong = || PruneError::LayersConfig { path: source.path().to_owned() };
    let mut json = source.config().clone();
    let object = json.as_object_mut().ok_or_else(wrong)?;
    object.insert("num_hidden_layers".to_owned(), json!(kept.len()));
    for field in BY_BLOCK {
        if let Some(Value::Array(list)) = object.get_mut(*field) {
            let of = kept.iter().filter_map(|&block| list.get(block).cloned());
            *list = of.collect();
        }
    }
    let blocks: Vec<_> = kept.iter().filter_map(|&block| config.blocks.get(block)).collect();
    // What follows from a block's number has to be said once that number changes.
    let slides: Vec<bool> = blocks.iter().map(|block| block.window.is_some()).collect();
    let is_mixed = config.blocks.iter().any(|b| b.window != config.blocks[0].window);
    if is_mixed && !object.contains_key("layer_types") {
        let kind = |slides: &bool| if *slides { "sliding_attention" } else { "full_attention" };
        let kinds: Vec<&str> = slides.iter().map(kind).collect();
        object.insert("layer_types".to_owned(), json!(kinds));
    }
    if object.contains_key("mlp_only_layers") || object.contains_key("decoder_sparse_step") {
        let is_dense =
            |n: &usize| matches!(blocks[*n].mlp, rco_model::config::MlpConfig::Dense { .. });
        let dense: Vec<usize> = (0..blocks.len()).filter(is_dense).collect();
        object.insert("mlp_only_layers".to_owned(), json!(dense));
        object.insert("decoder_sparse_step".to_owned(), json!(1));
    }
    let found = ModelConfig::from_hf(&json)?;
    if found.blocks.iter().ne(blocks) {
        return Err(wrong());
    }
    Ok((json, found))
}

/// The block of a tensor, with what stands before and after its number.
pub(super) fn block_of(name: &str) -> Option<(&str, usize, &str)> {
    const BEFORE: &str = "layers.";
    let start = name.find(BEFORE)? + BEFORE.len();
    let end = start + name[start..].find('.')?;
    Some((&name[..start], name[start..end].parse().ok()?, &name[end..]))
}

#[cfg(test)]
mod tests {
    use super::block_of;

    #[test]
    fn the_number_of_a_block_is_found_in_a_name() {
        let found = block_of("model.layers.12.mlp.up_proj.weight");
        assert_eq!(found, Some(("model.layers.", 12, ".mlp.up_proj.weight")));
        for name in ["model.norm.weight", "model.layers.x.a", "model.layers.1", "lm_head.weight"] {
            assert_eq!(block_of(name), None, "{name}");
        }
    }
}
