//! A Hugging Face folder with some weights set to zero.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use rco_core::Assignment;
use rco_formats::safetensors::HfFolder;
use rco_formats::source::{ReadAt, Slice};
use rco_model::WeightKey;
use rco_model::config::ModelConfig;
use rco_model::weights::WeightSource;
use serde_json::json;

use super::levels::{Levels, Matrix};
use crate::prune::PruneError;
use crate::prune::folder::{FolderPlan, config_bytes};

/// A matrix in which the weights that `masked` has as zero are zero.
struct MaskedTensor {
    raw: Slice,
    masked: Arc<dyn WeightSource>,
    key: WeightKey,
    columns: usize,
    /// Bytes of a value.
    width: usize,
}

impl std::fmt::Debug for MaskedTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MaskedTensor({})", self.key)
    }
}

impl ReadAt for MaskedTensor {
    fn size(&self) -> u64 {
        self.raw.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.raw.read_exact_at(buf, offset)?;
        // Rows that have a part in the buffer.
        let row = self.columns as u64 * self.width as u64;
        let (mut at, end) = (offset, offset + buf.len() as u64);
        let mut values = vec![0.0_f32; self.columns];
        while at < end && row > 0 {
            let (n, next) = (at / row, (at / row + 1) * row);
            let first = usize::try_from(n).map_err(io::Error::other)?;
            self.masked.read_rows(self.key, first, &mut values).map_err(io::Error::other)?;
            let start = (at - offset) as usize;
            let part = &mut buf[start..(next.min(end) - offset) as usize];
            for (i, byte) in part.iter_mut().enumerate() {
                let value = ((at % row) as usize + i) / self.width;
                if values[value] == 0.0 {
                    *byte = 0;
                }
            }
            at = next.min(end);
        }
        Ok(())
    }
}

/// The folder of a plan, whose weights are those of `masked`.
///
/// # Errors
/// Tensors that cannot be read.
pub(super) fn plan(
    source: &HfFolder,
    config: &ModelConfig,
    levels: &Levels,
    plan: &Assignment,
    masked: &Arc<dyn WeightSource>,
    plan_sha256: &str,
) -> Result<FolderPlan, PruneError> {
    let mut json = source.config().clone();
    if let Some(object) = json.as_object_mut() {
        let provenance = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "plan_sha256": plan_sha256,
            "zeros": levels.dropped(plan),
        });
        object.insert("rco".to_owned(), provenance);
    }
    let changed = levels.matrices.iter().enumerate().filter(|(n, _)| plan.option(*n) != 0);
    let changed: HashMap<String, &Matrix> =
        changed.map(|(_, m)| (config.family.hf_name(m.key), m)).collect();
    let mut tensors = FolderPlan::tensors(source);
    let fault = PruneError::safetensors(source.path());
    for (_, tensor) in source.tensors() {
        let raw = source.data(&tensor.name)?;
        let data: Arc<dyn ReadAt> = match changed.get(&tensor.name) {
            None => Arc::new(raw),
            Some(m) => Arc::new(MaskedTensor {
                raw,
                masked: Arc::clone(masked),
                key: m.key,
                columns: m.columns,
                width: (tensor.dtype.bits() / 8) as usize,
            }),
        };
        tensors
            .add(tensor.name.clone(), tensor.dtype, tensor.shape.clone(), data)
            .map_err(&fault)?;
    }
    Ok(FolderPlan::of(source, tensors, config_bytes(source, &json)?))
}
