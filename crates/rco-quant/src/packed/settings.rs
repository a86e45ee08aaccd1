//! What a packing job is asked to do.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use crate::effort::Effort;
use crate::grid::FactorSettings;
use crate::size::BitsPerWeight;

/// The runtime whose rules a plan keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// vLLM: widths with kernels, one scheme for matrices that it fuses.
    Vllm,
    /// transformers with compressed-tensors: no zero points, and one scheme for the experts of
    /// all layers.
    #[default]
    Transformers,
    /// No rules.
    Any,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// Packed integers with scales.
    #[default]
    CompressedTensors,
    /// The values of the plan in the types of the source, for any loader.
    FakeQuant,
}

/// Whether grids have zero points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Zeros {
    /// Never.
    Never,
    /// Up to 4 bits both are options, where the runtime has both; above, none.
    #[default]
    Auto,
    /// Always.
    Always,
}

macro_rules! names {
    ($type:ty, $what:literal, $($variant:ident = $name:literal),*) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(format!(concat!("`{}` is no ", $what, "; there are {}"), text, [$($name),*].join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name,)* })
            }
        }
    };
}

names!(Runtime, "runtime", Vllm = "vllm", Transformers = "transformers", Any = "any");
names!(
    Output,
    "format of folders",
    CompressedTensors = "compressed-tensors",
    FakeQuant = "fake-quant"
);
names!(Zeros, "choice of zero points", Never = "never", Auto = "auto", Always = "always");

/// How large the output may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of all files of tensors.
    Bytes(u64),
    /// Bits of all files of tensors for each weight.
    Bpw(BitsPerWeight),
    /// Bits for each weight of the matrices that are decided on: codes, scales, zero points
    /// and shapes.
    LinearBpw(BitsPerWeight),
}

/// A folder that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// How large it may be.
    pub limit: Limit,
    /// Where it goes.
    pub output: PathBuf,
}

impl PackSettings {
    /// Steps in which the scales of the plan are fitted to the loss.
    pub fn tuning_steps(&self) -> u64 {
        self.tuning.unwrap_or_else(|| self.effort.plan().tuned)
    }
}

/// What a job is asked to do.
#[derive(Debug, Clone)]
pub struct PackSettings {
    /// The folder of the model.
    pub model: PathBuf,
    /// What is to be made.
    pub orders: Vec<Order>,
    /// Texts, one for each domain.
    pub texts: Vec<PathBuf>,
    /// Widths of codes in bits; empty takes all that the runtime has.
    pub widths: Vec<u8>,
    /// Columns of a group; `None` takes the largest of 32, 64 and 128 that divides the rows.
    pub group: Option<u32>,
    /// Whether grids have zero points.
    pub zeros: Zeros,
    /// How second moments are prepared.
    pub factor: FactorSettings,
    /// Rounding to the nearest is an option beside GPTQ.
    pub nearest: bool,
    /// Packed folders of the same model, whose matrices are options.
    pub options: Vec<PathBuf>,
    /// The runtime.
    pub runtime: Runtime,
    /// Steps in which the scales of the plan are fitted to the loss, 0 for none; `None` takes what
    /// the effort says.
    pub tuning: Option<u64>,
    /// What is written.
    pub format: Output,
    /// Most bytes of tensors in a file; `None` writes several only where the source has
    /// several.
    pub shard: Option<u64>,
    /// How much work to spend.
    pub effort: Effort,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Overwrite the output.
    pub force: bool,
}
