//! The files that both sides of the contest read.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{Gguf, GgufModel, GgufWriter, TensorSpec, TensorType};
use rco_model::weights::{GgufWeights, WeightSource};
use rco_model::{Batch, Model, ModelConfig, Settings, WeightKey};
use rco_quant::compare::Opened;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// Types that stand for the options: all that fit rows of whole blocks of 32. The first is
/// what the model at hand is stored in.
const TYPES: [TensorType; 6] = [
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::IQ4_NL,
];

/// What both sides have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Index {
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens of each.
    pub length: usize,
    /// Number of options of each matrix.
    pub options: usize,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    norm_eps: f64,
    rope_base: f64,
    /// Name and shape of every weight, in the order of `student.f32`.
    weights: Vec<(String, Vec<usize>)>,
    /// Names of the matrices that have options, in the order of `option-K.f32`.
    pub matrices: Vec<String>,
}

/// The matrices inside the blocks.
pub(super) fn matrices(config: &ModelConfig) -> Vec<WeightKey> {
    let weights = config.weights().into_iter();
    weights.filter(|(key, shape)| key.layer.is_some() && shape.len() == 2).map(|w| w.0).collect()
}

pub(super) fn open(path: &Path) -> Result<(Arc<ModelConfig>, Arc<GgufWeights>), BenchError> {
    let file = Arc::new(GgufModel::open(path)?);
    let config = Arc::new(ModelConfig::from_gguf(&file)?);
    let weights = Arc::new(GgufWeights::new(file, &config)?);
    Ok((config, weights))
}

/// Writes everything into `folder`: the model with its matrices in each type, the tokens,
/// the states of the original, and all weights as plain f32 for the other side.
///
/// # Errors
/// A model that cannot be read, a text that is too short, a disk that is full.
pub fn write(
    folder: &Path,
    model: &Path,
    text: &Path,
    (sequences, length, options): (usize, usize, usize),
) -> Result<Index, BenchError> {
    let options = options.clamp(1, TYPES.len());
    let (config, source) = open(model)?;
    let content = std::fs::read_to_string(text).map_err(BenchError::io(text))?;
    let name = text.display().to_string();
    let windows = Opened::new(model)?.windows(&name, &content, length, sequences)?;
    let batch = Batch::new(&windows)?;
    let keys = matrices(&config);
    for (k, &ty) in TYPES[..options].iter().enumerate() {
        let path = folder.join(format!("option-{k}.gguf"));
        retyped(model, &keys, &*source, ty)?.write(&path, WriteOptions::force())?;
        let (_, weights) = open(&path)?;
        dump(&folder.join(format!("option-{k}.f32")), &*weights, &keys)?;
    }
    let all: Vec<WeightKey> = config.weights().into_iter().map(|(key, _)| key).collect();
    let (_, student) = open(&folder.join("option-0.gguf"))?;
    dump(&folder.join("student.f32"), &*student, &all)?;

    let teacher = Model::new(Arc::clone(&config), source, Settings::default())?;
    let states = teacher.hidden(&batch)?.values()?;
    let bytes: Vec<u8> = states.iter().flat_map(|x| x.to_le_bytes()).collect();
    save(&folder.join("teacher.f32"), &bytes)?;
    let bytes: Vec<u8> = batch.tokens().iter().flat_map(|t| t.to_le_bytes()).collect();
    save(&folder.join("tokens.u32"), &bytes)?;
    let index = Index {
        sequences: batch.sequences(),
        length,
        options,
        layers: config.blocks.len(),
        hidden: config.hidden,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        vocabulary: config.vocabulary,
        norm_eps: config.norm_eps,
        rope_base: config.blocks[0].rope.base,
        weights: config.weights().into_iter().map(|(k, s)| (k.to_string(), s)).collect(),
        matrices: keys.iter().map(ToString::to_string).collect(),
    };
    save(&folder.join("index.json"), &serde_json::to_vec_pretty(&index).unwrap_or_default())?;
    Ok(index)
}

/// The index in a folder.
///
/// # Errors
/// A file that cannot be read.
pub fn index(folder: &Path) -> Result<Index, BenchError> {
    let path = folder.join("index.json");
    let bytes = std::fs::read(&path).map_err(BenchError::io(&path))?;
    serde_json::from_slice(&bytes).map_err(|e| BenchError::io(&path)(e.into()))
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    std::fs::write(path, bytes).map_err(BenchError::io(path))
}

/// The model with some matrices in another type.
fn retyped(
    model: &Path,
    keys: &[WeightKey],
    source: &dyn WeightSource,
    ty: TensorType,
) -> Result<GgufWriter, BenchError> {
    let file = Gguf::open(model)?;
    let mut writer = GgufWriter::new(file.metadata().clone());
    for tensor in file.tensors() {
        let name = &tensor.spec.name;
        let key = keys.iter().find(|&&key| GgufWeights::tensor_name(key).0 == *name);
        let Some(&key) = key else {
            writer.add_from(&file, name)?;
            continue;
        };
        let weight = source.load(key)?;
        let bytes = rco_ggml::encode(ty, &weight.values, weight.shape[1], None)?;
        let spec = TensorSpec::new(name.clone(), tensor.spec.shape.clone(), ty);
        writer.add(spec, Arc::new(bytes))?;
    }
    Ok(writer)
}

/// Writes weights one after the other as plain f32.
fn dump(path: &Path, source: &dyn WeightSource, keys: &[WeightKey]) -> Result<(), BenchError> {
    let mut out = BufWriter::new(File::create(path).map_err(BenchError::io(path))?);
    for &key in keys {
        let values = source.load(key)?.values;
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        out.write_all(&bytes).map_err(BenchError::io(path))?;
    }
    out.flush().map_err(BenchError::io(path))
}
