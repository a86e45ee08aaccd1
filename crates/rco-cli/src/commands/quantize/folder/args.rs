//! Arguments of `rco quantize` for Hugging Face folders.

use std::path::{Path, PathBuf};

use rco_problems::file::Quantity;
use rco_quant::grid::FactorSettings;
use rco_quant::packed::{Limit, Order, Output, PackSettings, Runtime, Zeros};
use rco_quant::size::BitsPerWeight;

use crate::commands::quantize::Step;
use crate::commands::quantize::args::Flags;
use crate::error::CliError;

/// What only folders have.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Hugging Face folders")]
#[allow(clippy::doc_markdown, reason = "the help shows what is typed")]
pub(crate) struct FolderFlags {
    /// Bits per weight of the matrices that are decided on, scales and zero points included;
    /// embedding, head, norms and routers stay as they are and do not count
    #[arg(long, value_name = "BITS", value_delimiter = ',')]
    linear_bpw: Vec<BitsPerWeight>,

    /// What to write: compressed-tensors (packed integers), or fake-quant (the same values in
    /// 16 bits, for any loader) [default: compressed-tensors]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Output>,

    /// Runtime whose rules the plan keeps to: vllm, transformers or any [default:
    /// transformers]
    #[arg(long, value_name = "NAME")]
    runtime: Option<Runtime>,

    /// Widths of codes, such as 3,4,8 [default: all that the runtime unpacks]
    #[arg(long, value_name = "BITS", value_delimiter = ',')]
    widths: Vec<u8>,

    /// Columns that share a scale: 32, 64 or 128 [default: the largest that divides the rows]
    #[arg(long, value_name = "N")]
    group_size: Option<u32>,

    /// Grids with zero points: never, always, or auto (an option up to 4 bits, where the
    /// runtime reads them) [default: auto]
    #[arg(long, value_name = "WHEN")]
    zero_points: Option<Zeros>,

    /// What is added to the diagonal of GPTQ's second moments, as a share of its mean
    /// [default: 0.01]
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    damping: Option<f64>,

    /// GPTQ takes columns in the order of their second moments
    #[arg(long)]
    act_order: bool,

    /// Rounding to the nearest is an option beside GPTQ
    #[arg(long)]
    nearest: bool,

    /// Write files with at most so much tensor data each, and an index
    #[arg(long, value_name = "SIZE")]
    shard_size: Option<Quantity>,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share >= 0.0 && *share <= 1.0);
    share.ok_or_else(|| format!("`{text}` is no share from 0 to 1"))
}

impl FolderFlags {
    /// The first of these that was given.
    fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--linear-bpw", !self.linear_bpw.is_empty()),
            ("--format", self.format.is_some()),
            ("--runtime", self.runtime.is_some()),
            ("--widths", !self.widths.is_empty()),
            ("--group-size", self.group_size.is_some()),
            ("--zero-points", self.zero_points.is_some()),
            ("--damping", self.damping.is_some()),
            ("--act-order", self.act_order),
            ("--nearest", self.nearest),
            ("--shard-size", self.shard_size.is_some()),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

impl Flags {
    /// Whether the model is a folder.
    pub(in crate::commands::quantize) fn is_folder(&self) -> bool {
        self.model.is_dir()
    }

    /// Refuses what only folders have.
    pub(in crate::commands::quantize) fn check_gguf(&self) -> Result<(), CliError> {
        match self.folder.given() {
            Some(flag) => Err(CliError::OtherModel { flag, wanted: "a Hugging Face folder" }),
            None => Ok(()),
        }
    }

    /// Refuses what only GGUF files have.
    fn check_folder(&self, step: Step) -> Result<(), CliError> {
        let flags = [
            ("a step of `rco quantize`", step != Step::All),
            ("--vram", !self.vram.is_empty()),
            ("--imatrix", self.imatrix.is_some()),
            ("--types", !self.types.is_empty()),
            ("--exclude", !self.exclude.is_empty()),
            ("--pin", !self.pin.is_empty()),
            ("--tie", !self.tie.is_empty()),
            ("--fuse-friendly", self.fuse_friendly),
            ("--drop-experts", self.drop_experts),
            ("--copy", self.copy),
            ("--no-gradients", self.no_gradients),
            ("--memory", self.memory.is_some()),
            ("--split-size", self.split_size.is_some()),
            ("--no-verify", self.no_verify),
            ("--tensor-types-file", self.tensor_types_file.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(CliError::OtherModel { flag, wanted: "a GGUF file" }),
            None => Ok(()),
        }
    }

    /// The job of a folder.
    pub(super) fn pack_settings(&self, step: Step) -> Result<PackSettings, CliError> {
        self.check_folder(step)?;
        let bytes = |q: &Quantity| (Limit::Bytes(q.value), q.value.to_string());
        let bits = |b: &BitsPerWeight| (Limit::Bpw(*b), b.to_string());
        let linear = |b: &BitsPerWeight| (Limit::LinearBpw(*b), b.to_string());
        let limits = self.size.iter().map(bytes).chain(self.bpw.iter().map(bits));
        let limits = limits.chain(self.folder.linear_bpw.iter().map(linear));
        let template = self.output.clone().unwrap_or_else(|| PathBuf::from("packed"));
        let mut orders: Vec<Order> = Vec::new();
        for (limit, word) in limits {
            let name = template.to_string_lossy().replace("{bpw}", &word).replace("{size}", &word);
            let output = PathBuf::from(name);
            if orders.iter().any(|order| order.output == output) {
                return Err(CliError::SameOutput { path: output });
            }
            orders.push(Order { limit, output });
        }
        let folder = &self.folder;
        Ok(PackSettings {
            model: self.model.clone(),
            orders,
            texts: self.text.clone(),
            widths: folder.widths.clone(),
            group: folder.group_size,
            zeros: folder.zero_points.unwrap_or_default(),
            factor: FactorSettings {
                damping: folder.damping.unwrap_or(FactorSettings::default().damping),
                act_order: folder.act_order,
            },
            nearest: folder.nearest,
            options: self.options.clone(),
            runtime: folder.runtime.unwrap_or_default(),
            tuning: self.tuning_steps,
            format: folder.format.unwrap_or_default(),
            shard: folder.shard_size.as_ref().map(|q| q.value.max(1)),
            effort: self.effort,
            seed: self.seed,
            force: self.force,
        })
    }

    /// The folder of the run, and whether it is kept.
    pub(super) fn pack_folder(&self, settings: &PackSettings) -> (PathBuf, bool) {
        if let Some(dir) = &self.run {
            return (dir.clone(), true);
        }
        let first = settings.orders.first().map_or(Path::new("packed"), |order| &order.output);
        let mut name = first.file_name().unwrap_or_default().to_owned();
        name.push(".rco");
        (first.with_file_name(name), false)
    }
}
