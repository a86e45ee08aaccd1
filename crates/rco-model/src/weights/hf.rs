//! Weights of a Hugging Face folder.

use std::collections::HashSet;

use half::f16;
use rco_formats::safetensors::{Dtype, HfFolder, Safetensors, TensorEntry};

use super::{HostWeight, WeightSource, no_such_row};
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
        let family = config.family;
        let mut known: HashSet<String> =
            config.weights().into_iter().map(|(key, _)| family.hf_name(key)).collect();
        // A tied head may be written out, too.
        known.insert(family.hf_name(WeightKey::outer(WeightKind::Head)));
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

    fn load(&self, key: WeightKey) -> Result<HostWeight, ModelError> {
        let (file, entry) = self.entry(key)?;
        let decode = decoder(entry)?;
        let mut values = Vec::new();
        decode(&file.read(&entry.name)?, &mut values);
        Ok(HostWeight { shape: shape(entry), values })
    }

    fn load_rows(&self, key: WeightKey, rows: &[u32]) -> Result<HostWeight, ModelError> {
        let (file, entry) = self.entry(key)?;
        let decode = decoder(entry)?;
        let height = entry.shape.first().copied().unwrap_or(0);
        let bytes = entry.length.checked_div(height).unwrap_or(0);
        let mut row_bytes = vec![0; bytes as usize];
        let mut values = Vec::new();
        for &row in rows {
            if u64::from(row) >= height {
                return Err(no_such_row(row, &shape(entry)));
            }
            file.read_at(entry, u64::from(row) * bytes, &mut row_bytes)?;
            decode(&row_bytes, &mut values);
        }
        let width = entry.shape.iter().skip(1).product::<u64>() as usize;
        Ok(HostWeight { shape: vec![rows.len(), width], values })
    }
}

fn shape(entry: &TensorEntry) -> Vec<usize> {
    entry.shape.iter().map(|&d| d as usize).collect()
}

/// Appends the values of little-endian bytes.
type Decoder = fn(&[u8], &mut Vec<f32>);

fn decoder(entry: &TensorEntry) -> Result<Decoder, ModelError> {
    match entry.dtype {
        Dtype::F32 => Ok(|bytes, out| {
            out.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)));
        }),
        Dtype::Bf16 => Ok(|bytes, out| {
            let word = |&b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
            out.extend(bytes.as_chunks().0.iter().map(word));
        }),
        Dtype::F16 => Ok(|bytes, out| {
            out.extend(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()));
        }),
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

    fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
        let shape = vec![2];
        let entry = TensorEntry { name: "x".into(), dtype, shape, start: 0, length: 4 };
        let mut values = Vec::new();
        decoder(&entry).unwrap()(bytes, &mut values);
        values
    }

    #[test]
    fn each_float_type_is_widened_exactly() {
        assert_eq!(decode(Dtype::Bf16, &[0x80, 0x3f, 0x20, 0xc0]), [1.0, -2.5]);
        assert_eq!(decode(Dtype::F16, &[0x00, 0x3c, 0x00, 0xc1]), [1.0, -2.5]);
        let bytes = [1.0_f32.to_le_bytes(), (-2.5_f32).to_le_bytes()].concat();
        assert_eq!(decode(Dtype::F32, &bytes), [1.0, -2.5]);
    }

    #[test]
    fn integers_are_refused() {
        let shape = vec![2];
        let dtype = Dtype::I8;
        let entry = TensorEntry { name: "x".into(), dtype, shape, start: 0, length: 2 };
        assert!(decoder(&entry).unwrap_err().to_string().contains("I8"));
    }
}
