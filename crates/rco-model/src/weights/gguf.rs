//! Weights of a GGUF model, or of one put together from several.

use std::collections::HashMap;
use std::sync::Arc;

use rco_formats::gguf::{Gguf, GgufModel, TensorInfo, TensorType};
use rco_formats::source::Slice;

use super::block_scales::BlockScales;
use super::{WeightSource, checked_start, float};
use crate::config::{DIVISORS, ModelConfig};
use crate::error::ModelError;
use crate::key::{WeightKey, WeightKind};
use crate::ops::ActivationRounding;

/// Weights of a GGUF model, read and decoded when asked for. Each tensor may come from a
/// file of its own: a plan takes each from the file of its chosen type.
///
/// The queries and keys of `llama` stay in the order of the file; the configuration says
/// how their heads are rotated.
#[derive(Debug, Clone)]
pub struct GgufWeights {
    layout: Arc<Layout>,
    /// The file of each tensor.
    files: Vec<Arc<GgufModel>>,
}

/// The tensors of a model and the weights in them.
#[derive(Debug)]
struct Layout {
    /// Name and weights of each tensor, in the order of the file.
    tensors: Vec<(String, Vec<WeightKey>)>,
    /// Tensor and position in it of each weight.
    places: HashMap<WeightKey, (usize, usize)>,
    by_name: HashMap<String, usize>,
}

impl GgufWeights {
    /// Takes a model whose tensors are those that `config` describes.
    ///
    /// # Errors
    /// [`ModelError::UnexpectedWeight`] for a tensor that the model has no place for:
    /// leaving it out would make another model of it. [`ModelError::WrongShape`] for a stack
    /// with another number of experts, [`ModelError::UnsupportedType`].
    pub fn new(model: Arc<GgufModel>, config: &ModelConfig) -> Result<Self, ModelError> {
        let mut known: HashMap<String, Vec<WeightKey>> = HashMap::new();
        for (key, _) in config.weights() {
            // Experts come in their order.
            known.entry(Self::tensor_name(key).0).or_default().push(key);
        }
        let divided = config.blocks.iter().any(|b| b.rope.scaling.has_divisors());
        let mut layout =
            Layout { tensors: Vec::new(), places: HashMap::new(), by_name: HashMap::new() };
        for (_, tensor) in model.tensors() {
            let name = &tensor.spec.name;
            if divided && name == DIVISORS {
                continue;
            }
            let Some(keys) = known.remove(name) else {
                return Err(ModelError::UnexpectedWeight { name: name.clone() });
            };
            check(tensor, &keys)?;
            let index = layout.tensors.len();
            layout.places.extend(keys.iter().enumerate().map(|(e, &key)| (key, (index, e))));
            layout.by_name.insert(name.clone(), index);
            layout.tensors.push((name.clone(), keys));
        }
        let files = vec![model; layout.tensors.len()];
        Ok(Self { layout: Arc::new(layout), files })
    }

    /// The same weights with some tensors, by name, taken from other files: those of a plan.
    /// Tensors that are not named stay where they are.
    ///
    /// # Errors
    /// [`ModelError::MissingWeight`] for a name that the model or the other file does not
    /// have, [`ModelError::WrongShape`] if the shapes differ,
    /// [`ModelError::UnsupportedType`].
    pub fn with_choices<'a>(
        &self,
        choices: impl IntoIterator<Item = (&'a str, Arc<GgufModel>)>,
    ) -> Result<Self, ModelError> {
        let mut files = self.files.clone();
        for (name, file) in choices {
            let missing = || ModelError::MissingWeight { name: name.to_owned() };
            let &index = self.layout.by_name.get(name).ok_or_else(missing)?;
            let (_, current) = files[index].tensor(name).ok_or_else(missing)?;
            let (_, tensor) = file.tensor(name).ok_or_else(missing)?;
            if tensor.spec.shape != current.spec.shape {
                return Err(ModelError::WrongShape {
                    name: name.to_owned(),
                    expected: dimensions(current),
                    found: dimensions(tensor),
                });
            }
            check(tensor, &self.layout.tensors[index].1)?;
            files[index] = file;
        }
        Ok(Self { layout: Arc::clone(&self.layout), files })
    }

    /// Name of the tensor that holds a weight, and the expert's position in it if the
    /// tensor is a stack.
    pub fn tensor_name(key: WeightKey) -> (String, Option<usize>) {
        let tail = match (key.kind, key.expert) {
            (WeightKind::Embedding, _) => "token_embd.weight",
            (WeightKind::FinalNorm, _) => "output_norm.weight",
            (WeightKind::Head, _) => "output.weight",
            (WeightKind::AttentionNorm, _) => "attn_norm.weight",
            (WeightKind::Query, _) => "attn_q.weight",
            (WeightKind::Key, _) => "attn_k.weight",
            (WeightKind::Value, _) => "attn_v.weight",
            (WeightKind::QueryBias, _) => "attn_q.bias",
            (WeightKind::KeyBias, _) => "attn_k.bias",
            (WeightKind::ValueBias, _) => "attn_v.bias",
            (WeightKind::QueryNorm, _) => "attn_q_norm.weight",
            (WeightKind::KeyNorm, _) => "attn_k_norm.weight",
            (WeightKind::Output, _) => "attn_output.weight",
            (WeightKind::OutputBias, _) => "attn_output.bias",
            (WeightKind::PostAttentionNorm, _) => "post_attention_norm.weight",
            (WeightKind::MlpNorm, _) => "ffn_norm.weight",
            (WeightKind::PostMlpNorm, _) => "post_ffw_norm.weight",
            (WeightKind::Router, _) => "ffn_gate_inp.weight",
            (WeightKind::Gate, None) => "ffn_gate.weight",
            (WeightKind::Up, None) => "ffn_up.weight",
            (WeightKind::Down, None) => "ffn_down.weight",
            (WeightKind::Gate, Some(_)) => "ffn_gate_exps.weight",
            (WeightKind::Up, Some(_)) => "ffn_up_exps.weight",
            (WeightKind::Down, Some(_)) => "ffn_down_exps.weight",
        };
        let name = match key.layer {
            Some(layer) => format!("blk.{layer}.{tail}"),
            None => tail.to_owned(),
        };
        (name, key.expert)
    }

    /// The tensors in the order of the file, each with the weights that it holds: one, or
    /// one for each expert of a stack. `rope_freqs.weight` is no weight and not among them.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[WeightKey])> {
        self.layout.tensors.iter().map(|(name, keys)| (name.as_str(), keys.as_slice()))
    }

    /// The scales of a weight; `None` if it is not there, or in a type whose blocks have no floats.
    pub fn block_scales(&self, key: WeightKey) -> Option<BlockScales> {
        let (file, tensor, expert) = self.place(key)?;
        let floats = rco_ggml::scale_floats(tensor.spec.ty)?.len();
        let layout = tensor.spec.ty.layout()?;
        let (tensor, shape) = (tensor.clone(), matrix(tensor, key));
        let block = [layout.block as usize, layout.bytes as usize];
        // Rows are whole blocks, which the reader has checked.
        let length = (shape.iter().product::<usize>() / block[0] * block[1]) as u64;
        let data = file.data(&tensor.spec.name).ok()?;
        let data = Slice::new(Arc::new(data), expert as u64 * length, length)?;
        let name = self.name(key);
        Some(BlockScales { name, tensor, data: Arc::new(data), shape, block, floats })
    }

    /// Name, file and description of the tensor of a weight, and its position in it.
    fn place(&self, key: WeightKey) -> Option<(&Gguf, &TensorInfo, usize)> {
        let &(index, expert) = self.layout.places.get(&key)?;
        let (file, tensor) = self.files[index].tensor(&self.layout.tensors[index].0)?;
        Some((file, tensor, expert))
    }
}

impl WeightSource for GgufWeights {
    fn name(&self, key: WeightKey) -> String {
        match Self::tensor_name(key) {
            (name, Some(expert)) => format!("{name}, expert {expert}"),
            (name, None) => name,
        }
    }

    fn shape(&self, key: WeightKey) -> Option<Vec<usize>> {
        self.place(key).map(|(_, tensor, _)| matrix(tensor, key))
    }

    fn read_rows(&self, key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let missing = || ModelError::MissingWeight { name: self.name(key) };
        let (file, tensor, expert) = self.place(key).ok_or_else(missing)?;
        let shape = matrix(tensor, key);
        let start = checked_start(|| self.name(key), &shape, first, out)?;
        let start = start + expert * shape.iter().product::<usize>();
        let Some(layout) = tensor.spec.ty.layout() else { return Err(unsupported(tensor)) };
        // Rows are whole blocks, which the reader has checked.
        let (block, bytes) = (layout.block as usize, layout.bytes as usize);
        let mut buffer = vec![0; out.len() / block * bytes];
        file.read_at(tensor, (start / block * bytes) as u64, &mut buffer)?;
        decode(tensor, &buffer, out)
    }

    fn activation_rounding(&self, key: WeightKey) -> ActivationRounding {
        self.place(key)
            .map_or(ActivationRounding::Exact, |(_, tensor, _)| rounding_of(tensor.spec.ty))
    }
}

/// What llama.cpp's CPU backend makes of the activations that meet weights of a type.
pub(super) fn rounding_of(ty: TensorType) -> ActivationRounding {
    match ty {
        TensorType::F16 => ActivationRounding::Half,
        TensorType::BF16 => ActivationRounding::BFloat,
        ty => match ty.layout() {
            Some(layout) if layout.block >= 256 => ActivationRounding::Blocks256,
            Some(layout) if layout.block > 1 => ActivationRounding::Blocks32,
            _ => ActivationRounding::Exact,
        },
    }
}

/// Dimensions of a tensor, slowest first.
fn dimensions(tensor: &TensorInfo) -> Vec<usize> {
    tensor.spec.shape.iter().rev().map(|&d| d as usize).collect()
}

/// Dimensions of one weight of a tensor.
fn matrix(tensor: &TensorInfo, key: WeightKey) -> Vec<usize> {
    let mut shape = dimensions(tensor);
    if key.expert.is_some() && shape.len() == 3 {
        shape.remove(0);
    }
    shape
}

/// Checks the type of a tensor, and that a stack has one matrix for each key.
fn check(tensor: &TensorInfo, keys: &[WeightKey]) -> Result<(), ModelError> {
    if !can_decode(tensor.spec.ty) {
        return Err(unsupported(tensor));
    }
    let found = dimensions(tensor);
    let stacked = keys.first().is_some_and(|key| key.expert.is_some());
    if stacked && (found.len() != 3 || found[0] != keys.len()) {
        let mut expected = found.clone();
        expected.truncate(2);
        expected.insert(0, keys.len());
        return Err(ModelError::WrongShape { name: tensor.spec.name.clone(), expected, found });
    }
    Ok(())
}

pub(super) fn unsupported(tensor: &TensorInfo) -> ModelError {
    let (name, found) = (tensor.spec.name.clone(), tensor.spec.ty.to_string());
    ModelError::UnsupportedType { name, found }
}

pub(super) fn can_decode(ty: TensorType) -> bool {
    matches!(ty, TensorType::F32 | TensorType::F16 | TensorType::BF16) || rco_ggml::can_decode(ty)
}

pub(super) fn decode(tensor: &TensorInfo, bytes: &[u8], out: &mut [f32]) -> Result<(), ModelError> {
    match tensor.spec.ty {
        TensorType::F32 => float::f32s(bytes, out),
        TensorType::F16 => float::f16s(bytes, out),
        TensorType::BF16 => float::bf16s(bytes, out),
        ty => {
            rco_ggml::decode(ty, bytes, out).map_err(|source| {
                let name = tensor.spec.name.clone();
                ModelError::Decode { name, source: Box::new(source) }
            })?;
        }
    }
    Ok(())
}
