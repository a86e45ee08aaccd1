//! The folder of a plan.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::{WriteOptions, write_bytes};
use rco_formats::compressed_tensors::{CONFIG_KEY, quantization_config};
use rco_formats::safetensors::SafetensorsWriter;
use rco_formats::source::ReadAt;
use rco_model::weights::PackedMatrix;
use serde_json::json;

use super::error::PackedError;
use super::menu::{Form, Linear, Menu};
use super::settings::{Output, PackSettings};
use super::sizes::metadata;
use super::source::Source;
use crate::error::QuantError;
use crate::place::{PlaceError, place_folder};

/// Bytes of tensors in a file, where the source has several.
const SHARD_BYTES: u64 = 5_000_000_000;
/// Files beside tokenizer and configuration that are taken along.
const ALONG: &[&str] = &["generation_config.json"];
/// What `config.json` says of where the folder comes from.
const PROVENANCE: &str = "rco";

/// The files of a folder that is to be written.
#[derive(Debug)]
pub(super) struct FolderPlan {
    tensors: SafetensorsWriter,
    config: Vec<u8>,
    copied: Vec<PathBuf>,
    shard: u64,
}

/// Most bytes of tensors in a file; `None` for one file.
pub(super) fn shard_bytes(source: &Source, settings: &PackSettings) -> Option<u64> {
    let several = source.folder().shards().len() > 1;
    settings.shard.or(several.then_some(SHARD_BYTES))
}

impl FolderPlan {
    /// The folder with matrices in these forms, each as `matrix_of` has it.
    ///
    /// # Errors
    /// A form that it lacks.
    pub(super) fn new<'a>(
        source: &Source,
        menu: &Menu,
        matrix_of: &dyn Fn(&Linear, Form) -> Option<&'a PackedMatrix>,
        forms: &[Form],
        settings: &PackSettings,
        plan_sha256: &str,
    ) -> Result<Self, PackedError> {
        let folder = source.folder();
        let fault = PackedError::safetensors(folder.path());
        let mut tensors = SafetensorsWriter::new(metadata(source));
        let mut packed = Vec::new();
        let mut plain = vec!["lm_head".to_owned()];
        let chosen: std::collections::HashMap<&str, usize> =
            menu.linears.iter().enumerate().map(|(n, l)| (l.module.as_str(), n)).collect();
        for (_, tensor) in folder.tensors() {
            let module = tensor.name.strip_suffix(".weight");
            let at = module.and_then(|module| chosen.get(module));
            let form = at.map_or(Form::Source, |&n| forms[n]);
            let (Some(module), Some(&n), Form::Grid(scheme, _)) = (module, at, form) else {
                let embedding = module.is_some_and(|module| module.ends_with("embed_tokens"));
                if let Some(module) = module
                    && tensor.shape.len() == 2
                    && !embedding
                    && module != "lm_head"
                {
                    plain.push(module.to_owned());
                }
                let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
                let data = Arc::new(folder.data(&tensor.name)?);
                tensors.add(name, tensor.dtype, shape, data).map_err(&fault)?;
                continue;
            };
            let linear = &menu.linears[n];
            let missing = || PackedError::Options {
                path: module.into(),
                problem: format!("there is no form {form}"),
            };
            let matrix = matrix_of(linear, form).ok_or_else(missing)?;
            match settings.format {
                Output::FakeQuant => {
                    let values = Values::new(matrix.clone());
                    let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
                    tensors.add(name, tensor.dtype, shape, Arc::new(values)).map_err(&fault)?;
                }
                Output::CompressedTensors => {
                    let parts = scheme.tensors(linear.rows, linear.columns, linear.dtype);
                    for (part, dtype, shape) in parts.unwrap_or_default() {
                        let name = format!("{module}.{}", part.suffix());
                        let data = matrix.part(part).ok_or_else(missing)?;
                        tensors.add(name, dtype, shape, data).map_err(&fault)?;
                    }
                    packed.push((module.to_owned(), scheme));
                }
            }
        }
        tensors.align();
        let mut json = folder.config().clone();
        if let Some(object) = json.as_object_mut() {
            if settings.format == Output::CompressedTensors {
                let act_order = settings.factor.act_order;
                let value = quantization_config(&packed, &plain, act_order);
                object.insert(CONFIG_KEY.to_owned(), value);
            }
            let provenance =
                json!({ "version": env!("CARGO_PKG_VERSION"), "plan_sha256": plan_sha256 });
            object.insert(PROVENANCE.to_owned(), provenance);
        }
        let path = || folder.path().join("config.json");
        let mut config = serde_json::to_vec_pretty(&json)
            .map_err(|source| QuantError::Json { path: path(), source })?;
        config.push(b'\n');
        let mut copied = folder.tokenizer_files();
        copied.extend(ALONG.iter().map(|name| folder.path().join(name)).filter(|p| p.is_file()));
        let shard = shard_bytes(source, settings).unwrap_or(u64::MAX);
        Ok(Self { tensors, config, copied, shard })
    }

    /// Bytes of the files of tensors, to the byte.
    ///
    /// # Errors
    /// A header that cannot be written.
    pub(super) fn tensor_bytes(&self, path: &Path) -> Result<u64, PackedError> {
        self.tensors.folder_size(self.shard).map_err(PackedError::safetensors(path))
    }

    /// Writes the folder: whole, or not at all. Gives the bytes of the files of tensors.
    ///
    /// # Errors
    /// What keeps it from being written.
    pub(super) fn write(&self, path: &Path, force: bool) -> Result<u64, PackedError> {
        place_folder(path, force, |folder| {
            let options = WriteOptions::default();
            let files = self.tensors.write_folder(folder, self.shard, options)?;
            for path in &self.copied {
                let to = folder.join(path.file_name().unwrap_or_default());
                std::fs::copy(path, &to).map_err(PlaceError::io(path, "copying"))?;
            }
            write_bytes(&folder.join("config.json"), &self.config, options)?;
            Ok(files.iter().map(|(_, bytes)| bytes).sum())
        })
    }
}

/// SHA-256 of the plan that a folder of ours was made by; `None` for any other.
pub fn written_plan(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path.join("config.json")).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    Some(json.get(PROVENANCE)?.get("plan_sha256")?.as_str()?.to_owned())
}

/// The values of a packed matrix in the type of its scales, computed as they are read.
#[derive(Debug)]
struct Values {
    matrix: PackedMatrix,
    /// Bytes of a row.
    row: u64,
}

impl Values {
    fn new(matrix: PackedMatrix) -> Self {
        let row = matrix.shape()[1] as u64 * (matrix.dtype().bits() / 8);
        Self { matrix, row }
    }
}

impl ReadAt for Values {
    fn size(&self) -> u64 {
        self.matrix.shape()[0] as u64 * self.row
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.size());
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let (first, last) = (offset / self.row, end.div_ceil(self.row));
        let mut values = vec![0.0; (last - first) as usize * self.matrix.shape()[1]];
        self.matrix.read_rows(first as usize, &mut values).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(values.len() * 4);
        // The values have been rounded to the type: nothing is lost here.
        self.matrix.float().narrow(&values, &mut bytes);
        let skip = (offset - first * self.row) as usize;
        buf.copy_from_slice(&bytes[skip..skip + buf.len()]);
        Ok(())
    }
}
