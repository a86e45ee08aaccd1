//! A GGUF model without some blocks.

use std::sync::Arc;

use rco_formats::gguf::{Array, GgufModel, GgufWriter, Metadata, TensorSpec, Text, Value};

use crate::prune::PruneError;

/// Length of a SHA-256 in hexadecimal.
const HASH_LENGTH: usize = 64;

/// Blocks of a model, by its metadata.
///
/// # Errors
/// [`PruneError::NoBlocks`].
pub fn blocks(source: &GgufModel) -> Result<usize, PruneError> {
    let architecture = source.metadata().architecture().unwrap_or_default();
    let key = format!("{architecture}.block_count");
    let found = source.metadata().u64(&key).and_then(|n| usize::try_from(n).ok());
    found.filter(|&n| n > 0).ok_or(PruneError::NoBlocks { key })
}

/// The file that keeps these blocks, numbered anew in their order. Arrays of the metadata with
/// one entry for each block lose those of dropped blocks.
/// `plan_sha256` names the plan; without one its place is held, so that the file has the same
/// size.
///
/// # Errors
/// Metadata that cannot be written, tensors that cannot be read.
pub fn writer(
    source: &GgufModel,
    kept: &[usize],
    plan_sha256: Option<&str>,
    seed: u64,
) -> Result<GgufWriter, PruneError> {
    let mut metadata = kept_metadata(source, kept)?;
    let text = |value: &str| Value::String(Text(value.as_bytes().to_vec()));
    metadata.set("rco.version", text(env!("CARGO_PKG_VERSION")))?;
    metadata.set("rco.plan_sha256", text(plan_sha256.unwrap_or(&"0".repeat(HASH_LENGTH))))?;
    metadata.set("rco.seed", Value::U64(seed))?;
    let numbers = kept.iter().map(|&l| l as u32).collect();
    metadata.set("rco.kept_layers", Value::Array(Array::U32(numbers)))?;
    let mut writer = GgufWriter::new(metadata);
    for (_, info) in source.tensors() {
        let name = &info.spec.name;
        let renamed = match block_of(name) {
            None => name.clone(),
            Some((block, rest)) => match kept.iter().position(|&k| k == block) {
                None => continue,
                Some(new) => format!("blk.{new}.{rest}"),
            },
        };
        let spec = TensorSpec { name: renamed, ..info.spec.clone() };
        writer.add(spec, Arc::new(source.data(name)?))?;
    }
    Ok(writer)
}

/// The model that [`writer`] would write, without writing it.
///
/// # Errors
/// As [`writer`].
pub fn model(source: &GgufModel, kept: &[usize]) -> Result<GgufModel, PruneError> {
    let name = source.parts().first().map_or("", |part| part.name());
    let name = format!("{name} without some layers");
    Ok(GgufModel::from_parts(vec![writer(source, kept, None, 0)?.open_unwritten(name)?])?)
}

fn kept_metadata(source: &GgufModel, kept: &[usize]) -> Result<Metadata, PruneError> {
    let count = blocks(source)?;
    let mut metadata = source.metadata().clone();
    metadata.remove_split();
    let architecture = metadata.architecture().unwrap_or_default().to_owned();
    let own = format!("{architecture}.");
    // Numbers of heads, widths, windows: some architectures have one for each block.
    let by_block: Vec<(String, Array)> = metadata
        .iter()
        .filter(|(key, _)| key.starts_with(&own))
        .filter_map(|(key, value)| Some((key.to_owned(), value.as_array()?.clone())))
        .filter(|(_, array)| array.len() == count)
        .collect();
    for (key, array) in by_block {
        metadata.set(&key, Value::Array(array.gathered(kept)))?;
    }
    metadata.set(&format!("{own}block_count"), Value::U32(kept.len() as u32))?;
    Ok(metadata)
}

/// The block of a tensor, and the rest of its name.
pub(super) fn block_of(name: &str) -> Option<(usize, &str)> {
    let (block, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((block.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rco_formats::gguf::TensorType;

    fn source() -> GgufModel {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", Value::String(Text(b"some".to_vec()))).unwrap();
        metadata.set("some.block_count", Value::U32(3)).unwrap();
        let heads = Value::Array(Array::U32(vec![4, 5, 6]));
        metadata.set("some.attention.head_count", heads).unwrap();
        metadata.set("some.others", Value::Array(Array::U32(vec![1, 2]))).unwrap();
        let mut writer = GgufWriter::new(metadata);
        let names = ["token_embd.weight", "blk.0.a.weight", "blk.1.a.weight", "blk.2.a.weight"];
        for (n, name) in names.into_iter().enumerate() {
            let spec = TensorSpec::new(name, [32], TensorType::F32);
            writer.add(spec, Arc::new(vec![n as u8; 128])).unwrap();
        }
        GgufModel::from_parts(vec![writer.open_unwritten("source").unwrap()]).unwrap()
    }

    #[test]
    fn what_remains_is_numbered_anew_with_its_own_metadata() {
        let source = source();
        assert_eq!(blocks(&source).unwrap(), 3);
        let model = model(&source, &[0, 2]).unwrap();
        assert_eq!(blocks(&model).unwrap(), 2);
        let names: Vec<&str> = model.tensors().map(|(_, t)| t.spec.name.as_str()).collect();
        assert_eq!(names, ["token_embd.weight", "blk.0.a.weight", "blk.1.a.weight"]);
        assert_eq!(model.read("blk.0.a.weight").unwrap(), [1; 128]);
        assert_eq!(model.read("blk.1.a.weight").unwrap(), [3; 128]);
        let array = |key: &str| model.metadata().get(key).cloned().unwrap();
        assert_eq!(array("some.attention.head_count"), Value::Array(Array::U32(vec![4, 6])));
        assert_eq!(array("some.others"), Value::Array(Array::U32(vec![1, 2])));
        assert_eq!(array("rco.kept_layers"), Value::Array(Array::U32(vec![0, 2])));
    }

    #[test]
    fn a_model_without_a_number_of_blocks_is_refused() {
        let file = GgufWriter::new(Metadata::new()).open_unwritten("none").unwrap();
        let empty = GgufModel::from_parts(vec![file]).unwrap();
        assert!(matches!(blocks(&empty), Err(PruneError::NoBlocks { .. })));
    }
}
