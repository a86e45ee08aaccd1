//! A GGUF file with fewer experts: rows of routers, matrices of stacks and the metadata cut
//! alike, everything else as it was.

use std::path::Path;
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{Array, GgufModel, GgufWriter, Metadata, Text, Value};

use super::error::PruneError;
use super::experts::ExpertMap;
use super::gather::Gathered;

/// Length of a SHA-256 in hexadecimal.
const HASH_LENGTH: usize = 64;

/// The file that keeps these experts, the same number in every block. `plan_sha256` names the
/// plan; without one its place is held, so that the file has the same size.
///
/// # Errors
/// [`PruneError::UnevenGguf`], or a tensor of experts of another shape.
pub(super) fn writer(
    source: &GgufModel,
    map: &ExpertMap,
    kept: &[Vec<usize>],
    plan_sha256: Option<&str>,
    seed: u64,
) -> Result<GgufWriter, PruneError> {
    let mut metadata = kept_metadata(source, kept)?;
    let text = |value: &str| Value::String(Text(value.as_bytes().to_vec()));
    metadata.set("rco.version", text(env!("CARGO_PKG_VERSION")))?;
    metadata.set("rco.plan_sha256", text(plan_sha256.unwrap_or(&"0".repeat(HASH_LENGTH))))?;
    metadata.set("rco.seed", Value::U64(seed))?;
    let mut writer = GgufWriter::new(metadata);
    add_kept(&mut writer, source, map, kept)?;
    Ok(writer)
}

/// A model that keeps these experts, the same number in every block, read where it lies.
///
/// # Errors
/// [`PruneError::UnevenGguf`], or a tensor of experts of another shape.
pub(crate) fn model_with(
    source: &GgufModel,
    map: &ExpertMap,
    kept: &[Vec<usize>],
) -> Result<GgufModel, PruneError> {
    unwritten(source, kept_metadata(source, kept)?, map, kept)
}

/// The same of a file that holds tensors of the model, such as an option database does.
///
/// # Errors
/// A tensor of experts of another shape.
pub(crate) fn tensors_with(
    file: &GgufModel,
    map: &ExpertMap,
    kept: &[Vec<usize>],
) -> Result<GgufModel, PruneError> {
    let mut metadata = file.metadata().clone();
    metadata.remove_split();
    unwritten(file, metadata, map, kept)
}

fn unwritten(
    source: &GgufModel,
    metadata: Metadata,
    map: &ExpertMap,
    kept: &[Vec<usize>],
) -> Result<GgufModel, PruneError> {
    let mut writer = GgufWriter::new(metadata);
    add_kept(&mut writer, source, map, kept)?;
    let name = source.parts().first().map_or("", |part| part.name());
    let name = format!("{name} without some experts");
    Ok(GgufModel::from_parts(vec![writer.open_unwritten(name)?])?)
}

/// The metadata of the source with the numbers of experts that remain.
fn kept_metadata(source: &GgufModel, kept: &[Vec<usize>]) -> Result<Metadata, PruneError> {
    let count = kept.first().map_or(0, Vec::len);
    if kept.iter().any(|k| k.len() != count) {
        return Err(PruneError::UnevenGguf);
    }
    let mut metadata = source.metadata().clone();
    // The output is one file.
    metadata.remove_split();
    let architecture = metadata.architecture().unwrap_or_default().to_owned();
    metadata.set(&format!("{architecture}.expert_count"), Value::U32(count as u32))?;
    let numbers = kept.iter().flatten().map(|&e| e as u32).collect();
    metadata.set("rco.kept_experts", Value::Array(Array::U32(numbers)))?;
    Ok(metadata)
}

/// Adds all tensors of `source` to a file, those of experts with the parts that remain.
fn add_kept(
    writer: &mut GgufWriter,
    source: &GgufModel,
    map: &ExpertMap,
    kept: &[Vec<usize>],
) -> Result<(), PruneError> {
    for (_, info) in source.tensors() {
        let data = source.data(&info.spec.name)?;
        let place = layer_of(&info.spec.name);
        let place = place.and_then(|layer| map.layers().iter().position(|l| l.layer == layer));
        let Some(n) = place else {
            writer.add(info.spec.clone(), Arc::new(data))?;
            continue;
        };
        let expected = map.layers()[n].experts as u64;
        let mut spec = info.spec.clone();
        let found = spec.shape.last().copied().unwrap_or(1);
        let wrong = || PruneError::ExpertAxis { name: info.spec.name.clone(), expected, found };
        let axis = spec.shape.last_mut().filter(|d| **d == expected).ok_or_else(wrong)?;
        *axis = kept[n].len() as u64;
        let data = Gathered::new(data, expected, &kept[n]).ok_or_else(wrong)?;
        writer.add(spec, Arc::new(data))?;
    }
    Ok(())
}

/// The block of a tensor whose slowest dimension goes over experts: rows of a router and
/// what is added to them, stacks of matrices, their biases and scales.
fn layer_of(name: &str) -> Option<usize> {
    let (layer, tail) = name.strip_prefix("blk.")?.split_once('.')?;
    let stem = tail.split('.').next()?;
    let by_expert = matches!(stem, "ffn_gate_inp" | "exp_probs_b") || stem.ends_with("_exps");
    if by_expert { layer.parse().ok() } else { None }
}

/// Writes the file; gives its size.
///
/// # Errors
/// What keeps a file from being written; nothing is left under the final name.
pub(super) fn write(
    writer: &GgufWriter,
    path: &Path,
    options: WriteOptions,
) -> Result<u64, PruneError> {
    Ok(writer.write(path, options)?)
}

#[cfg(test)]
mod tests {
    use super::layer_of;

    #[test]
    fn tensors_of_experts_are_told_from_shared_ones() {
        for name in [
            "blk.3.ffn_gate_inp.weight",
            "blk.3.ffn_gate_inp.bias",
            "blk.3.exp_probs_b.bias",
            "blk.3.ffn_down_exps.weight",
            "blk.3.ffn_up_exps.bias",
            "blk.3.ffn_gate_up_exps.scale",
        ] {
            assert_eq!(layer_of(name), Some(3), "{name}");
        }
        for name in [
            "blk.3.ffn_gate_inp_shexp.weight",
            "blk.3.ffn_gate_shexp.weight",
            "blk.3.ffn_down.weight",
            "blk.3.attn_q.weight",
            "output.weight",
            "blk.x.ffn_up_exps.weight",
        ] {
            assert_eq!(layer_of(name), None, "{name}");
        }
    }
}
