//! Weights of a Hugging Face folder.

use std::collections::HashSet;
use std::sync::Arc;

use rco_formats::compressed_tensors::{CONFIG_KEY, ModuleSchemes};
use rco_formats::safetensors::{Dtype, HfFolder, Safetensors, TensorEntry};

use super::{PackedWeights, WeightSource, checked_start, float};
use crate::config::{Family, ModelConfig};
use crate::error::ModelError;
use crate::key::{WeightKey, WeightKind};

/// Weights of a Hugging Face folder of F32, BF16 or F16, read when asked for.
#[derive(Debug, Clone)]
pub struct HfWeights {
    folder: HfFolder,
    family: Family,
}

impl HfWeights {
    /// Takes a folder whose tensors are those that `config` describes.
    ///
    /// # Errors
    /// [`ModelError::UnexpectedWeight`] for a tensor that the model has no place for:
    /// leaving it out would make another model of it.
    pub fn new(folder: HfFolder, config: &ModelConfig) -> Result<Self, ModelError> {
        Self::with_known(folder, config, Vec::new())
    }

    /// The same for a folder that has some tensors besides.
    pub(super) fn with_known(
        folder: HfFolder,
        config: &ModelConfig,
        besides: Vec<String>,
    ) -> Result<Self, ModelError> {
        let family = config.family;
        let mut known: HashSet<String> =
            config.weights().into_iter().map(|(key, _)| family.hf_name(key)).collect();
        // A tied head may be written out, too.
        known.insert(family.hf_name(WeightKey::outer(WeightKind::Head)));
        known.extend(besides);
        // Old files hold the rotary frequencies, which follow from the configuration.
        let unknown = folder
            .tensors()
            .map(|(_, t)| &t.name)
            .find(|name| !known.contains(*name) && !name.ends_with("rotary_emb.inv_freq"));
        match unknown {
            Some(name) => Err(ModelError::UnexpectedWeight { name: name.clone() }),
            None => Ok(Self { folder, family }),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &HfFolder {
        &self.folder
    }

    fn entry(&self, key: WeightKey) -> Result<(&Safetensors, &TensorEntry), ModelError> {
        let name = self.name(key);
        self.folder.tensor(&name).ok_or(ModelError::MissingWeight { name })
    }
}

impl WeightSource for HfWeights {
    fn name(&self, key: WeightKey) -> String {
        self.family.hf_name(key)
    }

    fn shape(&self, key: WeightKey) -> Option<Vec<usize>> {
        self.folder.tensor(&self.name(key)).map(|(_, t)| shape(t))
    }

    fn read_rows(&self, key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let (file, entry) = self.entry(key)?;
        let (bytes, decode) = decoder(entry)?;
        let start = checked_start(|| self.name(key), &shape(entry), first, out)?;
        let mut buffer = vec![0; out.len() * bytes];
        file.read_at(entry, (start * bytes) as u64, &mut buffer)?;
        decode(&buffer, out);
        Ok(())
    }
}

/// Opens a Hugging Face folder with what its `config.json` says, packed by compressed-tensors
/// or not.
///
/// # Errors
/// A configuration or tensors that are not supported or do not fit together.
pub fn open_folder(folder: HfFolder) -> Result<(ModelConfig, Arc<dyn WeightSource>), ModelError> {
    let Some(quantised) = folder.config().get(CONFIG_KEY).cloned() else {
        let config = ModelConfig::from_hf(folder.config())?;
        let weights = HfWeights::new(folder, &config)?;
        return Ok((config, Arc::new(weights)));
    };
    let schemes = ModuleSchemes::parse(&quantised)?;
    let mut plain = folder.config().clone();
    if let Some(object) = plain.as_object_mut() {
        object.remove(CONFIG_KEY);
    }
    let config = ModelConfig::from_hf(&plain)?;
    let weights = PackedWeights::new(folder, &config, &schemes)?;
    Ok((config, Arc::new(weights)))
}

fn shape(entry: &TensorEntry) -> Vec<usize> {
    entry.shape.iter().map(|&d| d as usize).collect()
}

/// Widens little-endian values.
type Decoder = fn(&[u8], &mut [f32]);

/// Bytes of a value, and how values are read.
fn decoder(entry: &TensorEntry) -> Result<(usize, Decoder), ModelError> {
    match entry.dtype {
        Dtype::F32 => Ok((4, float::f32s)),
        Dtype::Bf16 => Ok((2, float::bf16s)),
        Dtype::F16 => Ok((2, float::f16s)),
        other => Err(ModelError::UnsupportedType {
            name: entry.name.clone(),
            found: other.name().to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use rco_formats::safetensors::{Dtype, TensorEntry};

    use super::decoder;

    #[test]
    fn integers_are_refused() {
        let shape = vec![2];
        let dtype = Dtype::I8;
        let entry = TensorEntry { name: "x".into(), dtype, shape, start: 0, length: 2 };
        assert!(decoder(&entry).unwrap_err().to_string().contains("I8"));
    }
}
