//! The compressed file: the tensors of a plan, stitched from the files that hold them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::atomic::WriteOptions;
use rco_formats::gguf::{GgufModel, GgufWriter, Metadata, TensorSpec, TensorType, Text, Value};
use rco_formats::source::ReadAt;

use rco_ggml::{Preset, ScaledBlocks};

use crate::database::OptionDatabase;
use crate::error::QuantError;
use crate::groups::Groups;
use crate::hash::sha256;
use crate::job::TunedBlocks;
use crate::menu::{Form, Menu};

/// Version of the quantised formats, as ggml counts it.
const QUANTIZATION_VERSION: u32 = 2;
/// Length of a SHA-256 in hexadecimal.
const HASH_LENGTH: usize = 64;

/// Where a file comes from; noted in its metadata under `rco.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provenance {
    /// Budget in bytes.
    pub budget: u64,
    /// Seed of the search.
    pub seed: u64,
}

/// The metadata of a compressed file but for what depends on the plan, whose place is held
/// by values of the same length.
///
/// # Errors
/// Keys that cannot be written.
pub fn metadata(source: &GgufModel, provenance: Provenance) -> Result<Metadata, QuantError> {
    let mut out = source.metadata().clone();
    // The output is one file.
    out.remove_split();
    out.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION))?;
    out.set("general.file_type", Value::U32(0))?;
    out.set("rco.version", text(env!("CARGO_PKG_VERSION")))?;
    out.set("rco.plan_sha256", text(&"0".repeat(HASH_LENGTH)))?;
    out.set("rco.budget_bytes", Value::U64(provenance.budget))?;
    out.set("rco.seed", Value::U64(provenance.seed))?;
    Ok(out)
}

fn text(value: &str) -> Value {
    Value::String(Text(value.as_bytes().to_vec()))
}

/// SHA-256 of a plan: of a line `tensor form` for each tensor of the menu, in its order; and
/// before that, if some experts are gone, of a line of those that remain for each block; after
/// that, of one for `scales` that were tuned.
pub fn plan_sha256(menu: &Menu, forms: &[Form], scales: Option<&str>) -> String {
    let experts = menu.experts.iter().map(|kept| format!("experts {kept:?}\n"));
    let lines = menu.choices.iter().zip(forms);
    let lines = lines.map(|(c, &form)| format!("{} {}\n", c.tensor.name, menu.named(form)));
    let scales = scales.map(|scales| format!("scales {scales}\n"));
    sha256(experts.chain(lines).chain(scales).collect::<String>().as_bytes())
}

/// The tensors of the source, in their order.
pub fn tensors(source: &GgufModel) -> Vec<TensorSpec> {
    source.tensors().map(|(_, t)| t.spec.clone()).collect()
}

/// The file of a plan, yet to be written.
#[derive(Debug, Clone, Copy)]
pub struct PlanFile<'a> {
    /// What is decided on.
    pub groups: &'a Groups,
    /// Where the tensors lie.
    pub database: &'a OptionDatabase,
    /// The form of each tensor that is decided on.
    pub forms: &'a [Form],
    /// What the file says of where it comes from.
    pub provenance: Provenance,
    /// Scales that were tuned, if any were.
    pub tuned: Option<&'a TunedBlocks>,
}

impl PlanFile<'_> {
    /// Writes the file; returns its size in bytes.
    ///
    /// # Errors
    /// An existing file without `options.force`, a full disk, and whatever else ends a write:
    /// nothing is left under the final name.
    pub fn write(&self, path: &Path, options: WriteOptions) -> Result<u64, QuantError> {
        Ok(self.writer()?.write(path, options)?)
    }

    /// Writes the file in parts of at most `part` bytes of tensor data each (but at least one
    /// tensor); returns the first part and the bytes of all. A model that fits one part is one
    /// file.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_split(
        &self,
        path: &Path,
        part: u64,
        options: WriteOptions,
    ) -> Result<(PathBuf, u64), QuantError> {
        let written = self.writer()?.write_split(path, part, options)?;
        let bytes = written.iter().map(|(_, bytes)| bytes).sum();
        let first = written.into_iter().next().map_or_else(|| path.to_owned(), |(first, _)| first);
        Ok((first, bytes))
    }

    /// Bytes of all parts that [`Self::write_split`] would write.
    ///
    /// # Errors
    /// Too many parts.
    pub fn split_bytes(&self, part: u64) -> Result<u64, QuantError> {
        let mut sum = 0_u64;
        for part in self.writer()?.split(part)? {
            sum = sum.saturating_add(part.file_size()?);
        }
        Ok(sum)
    }

    fn writer(&self) -> Result<GgufWriter, QuantError> {
        let Self { groups, database, forms, provenance, tuned } = *self;
        let source = database.source();
        let menu = groups.menu();
        let mut metadata = metadata(source, provenance)?;
        metadata.set("general.file_type", Value::U32(file_type(menu, forms)))?;
        let scales = tuned.and_then(TunedBlocks::sha256);
        metadata.set("rco.plan_sha256", text(&plan_sha256(menu, forms, scales)))?;
        let mut writer = GgufWriter::new(metadata);
        for (_, info) in source.tensors() {
            let name = &info.spec.name;
            let group = menu.choices.iter().position(|c| c.tensor.name == *name);
            let (spec, file) = match group {
                None => (info.spec.clone(), source),
                Some(g) => {
                    let choice = &menu.choices[g];
                    let file = database.file(choice, forms[g]).ok_or_else(|| {
                        let problem = format!("it has no {} of {name}", menu.named(forms[g]));
                        QuantError::ForeignOptions {
                            path: "the option database".to_owned(),
                            problem,
                        }
                    })?;
                    (choice.in_type(forms[g].ty), file)
                }
            };
            let mut data: Arc<dyn ReadAt> = Arc::new(file.data(name)?);
            if let Some(factors) = tuned.and_then(|tuned| tuned.factors(name)) {
                let scaled = ScaledBlocks::new(spec.ty, data, Arc::clone(factors));
                data = Arc::new(scaled.ok_or_else(|| {
                    let problem = format!("{name} has not {} blocks with scales", factors.len());
                    QuantError::ForeignOptions { path: "the option database".to_owned(), problem }
                })?);
            }
            writer.add(spec, data)?;
        }
        Ok(writer)
    }
}

/// Bytes of the headers that parts of a model of `total` bytes have beyond that of one file, at
/// most.
///
/// # Errors
/// Metadata that cannot be written.
pub fn split_reserve(metadata: &Metadata, total: u64, part: u64) -> Result<u64, QuantError> {
    // A header without tensors but with the keys of a part, and its padding.
    let mut empty = GgufWriter::new(Metadata::new());
    if let Some(alignment) = metadata.get("general.alignment") {
        empty.metadata_mut().set("general.alignment", alignment.clone())?;
    }
    for (key, value) in [
        ("split.no", Value::U16(0)),
        ("split.count", Value::U16(0)),
        ("split.tensors.count", Value::I32(0)),
    ] {
        empty.metadata_mut().set(key, value)?;
    }
    let layout = empty.layout()?;
    let each = layout.file_size.saturating_add(layout.alignment);
    // Two neighbouring parts hold more than `part` together, or they would be one.
    let parts = (total / part.max(1)).saturating_mul(2).saturating_add(1);
    Ok(parts.saturating_mul(each))
}

/// The first file that is there of what would be written to `path`: the file itself, or the
/// first part of any number.
pub fn existing(path: &Path, split: bool) -> Option<PathBuf> {
    if path.exists() {
        return Some(path.to_owned());
    }
    if !split {
        return None;
    }
    let stem = path.with_extension("");
    let start = format!("{}-00001-of-", stem.file_name()?.to_string_lossy());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&start) && name.ends_with(".gguf")
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

/// `general.file_type`: the number that llama.cpp has for files made mostly of the type that
/// holds most weights.
fn file_type(menu: &Menu, forms: &[Form]) -> u32 {
    let mut weights: Vec<(TensorType, u64)> = Vec::new();
    for (choice, &Form { ty, .. }) in menu.choices.iter().zip(forms) {
        match weights.iter_mut().find(|(t, _)| *t == ty) {
            Some((_, sum)) => *sum += choice.weights,
            None => weights.push((ty, choice.weights)),
        }
    }
    let most = weights.into_iter().max_by_key(|&(ty, sum)| (sum, ty)).map(|(ty, _)| ty);
    // Of several recipes with the same type the middle one has its name.
    let recipes: Vec<u32> = Preset::all()
        .filter(|preset| Some(preset.default_type()) == most)
        .map(Preset::file_type)
        .collect();
    // A type without a number of its own counts as the middle of the road.
    recipes.get(recipes.len() / 2).copied().unwrap_or_else(|| Preset::Q4_K_M.file_type())
}
