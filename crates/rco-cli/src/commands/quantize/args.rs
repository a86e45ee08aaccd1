//! The command line of `rco quantize` and of its steps.

use std::path::{Path, PathBuf};

use rco_formats::gguf::TensorType;
use rco_problems::file::Quantity;
use rco_quant::effort::Effort;
use rco_quant::job::{JobSettings, MeasuredIn, Order, Target};
use rco_quant::menu::TypeFilter;
use rco_quant::rules::{Pin, parse_type};
use rco_quant::size::{BitsPerWeight, KvType};
use regex::Regex;

use super::folder::FolderFlags;
use crate::error::CliError;

const EXAMPLES: &str = "\
Examples:
  rco quantize model.gguf --size 5.9GB -o small.gguf
      The best file of at most 5,900,000,000 bytes.

  rco quantize model.gguf --vram 12GB --ctx 32768 --kv-type q8_0 -o small.gguf
      The best file that leaves room for 32,768 tokens of context on a 12 GB device.

  rco quantize model.gguf --bpw 3.0,3.5,4.0 -o small-{bpw}.gguf
      Three files from one search.

  rco quantize model.gguf --size 5.9GB --text code.txt --text prose.txt -o small.gguf
      Judged on texts of your own; without any, the model writes its own.

  rco quantize mixture.gguf --size 9GB --drop-experts -o small.gguf
      One budget for types and experts: some experts may go.

  rco quantize model.gguf --size 5.9GB --options theirs-Q4_K_M.gguf -o small.gguf
      Tensors of another GGUF file of the model may be taken as they are.

  rco quantize model.gguf --size 5.9GB --no-gradients --imatrix theirs.gguf -o small.gguf
      For a model that llama.cpp runs and rco does not.

  rco quantize ./Qwen3-8B --bpw 5.5 --runtime vllm --text code.txt -o ./Qwen3-8B-packed
      A Hugging Face folder as packed integers that transformers and vLLM load.

  rco quantize model.gguf --size 5.9GB --dry-run
      What would be done, and whether it can be.

A run that was interrupted or killed goes on when the same command is started again.
Sizes: KB MB GB TB are powers of 1000, KiB MiB GiB TiB powers of 1024.";

const STEPS: &str = "\
The steps of `rco quantize`, over one run folder and with the same arguments:
  rco options   text, importance matrix, encoded tensors, sensitivities
  rco search    the plan, in plan.json of the run folder
  rco build     the file of the plan, checked in llama.cpp
Each also does what is missing of the steps before it, but for the search.";

/// Make the best GGUF file that fits, to the byte
///
/// Chooses a quantisation type for every tensor of MODEL (16 bits or Q8_0, best) so that the
/// file keeps to the budget and the model changes least: the loss is the Kullback-Leibler
/// divergence from the original on text, all choices together. Writes the file, loads it in
/// llama.cpp and compares it with the original there.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[allow(clippy::doc_markdown, reason = "the help shows what is typed")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// First step of `rco quantize`: encode the options of a model
///
/// Prepares all that a search needs in the run folder: text, importance matrix, every tensor
/// in every type, the original's states, sensitivities.
#[derive(Debug, clap::Args)]
#[command(after_help = STEPS)]
#[command(mut_arg("run", |arg| arg.required(true)))]
#[command(mut_arg("output", |arg| arg.required_unless_present("run")))]
pub(crate) struct OptionsArgs {
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// Second step of `rco quantize`: search the plan
///
/// Leaves plan.json in the run folder: the type of every tensor, for every budget.
#[derive(Debug, clap::Args)]
#[command(after_help = STEPS)]
#[command(mut_arg("run", |arg| arg.required(true)))]
#[command(mut_arg("output", |arg| arg.required_unless_present("run")))]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// Last step of `rco quantize`: write the file of the plan and check it
///
/// Takes plan.json of the run folder as it is, changed by hand or not, as long as it keeps to
/// the budget.
#[derive(Debug, clap::Args)]
#[command(after_help = STEPS)]
#[command(mut_arg("run", |arg| arg.required(true)))]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) flags: Flags,
}

// What all of them take. A doc comment would become the help of the commands.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("budget").required(true)
    .args(["size", "bpw", "vram", "linear_bpw"]))]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[allow(clippy::doc_markdown, reason = "the help shows what is typed")]
pub(crate) struct Flags {
    /// The model: a GGUF file, the first part of a split one, or a Hugging Face folder
    pub(super) model: PathBuf,

    /// Largest size of the whole file; several make several files
    #[arg(short, long, value_name = "SIZE", value_delimiter = ',')]
    pub(super) size: Vec<Quantity>,

    /// Bits per weight of the whole file; several make several files
    #[arg(long, value_name = "BITS", value_delimiter = ',')]
    pub(super) bpw: Vec<BitsPerWeight>,

    /// Memory of the device that holds file, key-value cache and buffers
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub(super) vram: Vec<Quantity>,

    /// Tokens of context that have to fit besides
    #[arg(long, value_name = "TOKENS", default_value_t = 4096, requires = "vram")]
    ctx: u64,

    /// Type of the key-value cache: f32, f16, q8_0, q5_0 or q4_0
    #[arg(long, value_name = "TYPE", default_value = "f16", requires = "vram")]
    kv_type: KvType,

    /// Sequences at once, each with its context
    #[arg(long, value_name = "N", default_value_t = 1, requires = "vram")]
    parallel: u64,

    /// The file to write; {bpw} and {size} stand for the budget
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    pub(super) output: Option<PathBuf>,

    /// Text to judge by, a file for each domain; without any the model writes its own
    #[arg(short, long, value_name = "FILE")]
    pub(super) text: Vec<PathBuf>,

    /// Importance matrix of llama.cpp; without one it is computed
    #[arg(long, value_name = "FILE")]
    pub(super) imatrix: Option<PathBuf>,

    /// GGUF file of the same model whose tensors may be taken too, such as somebody else's
    /// Q4_K_M; for a Hugging Face folder another one of compressed-tensors. Can be given several
    /// times
    #[arg(long, value_name = "PATH")]
    pub(super) options: Vec<PathBuf>,

    /// Types to encode beside that of the source, such as Q4_K,Q6_K
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = parse_type)]
    pub(super) types: Vec<TensorType>,

    /// Types never to be used
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = parse_type)]
    pub(super) exclude: Vec<TensorType>,

    /// A type for the tensors whose names match, such as 'token_embd=Q6_K'
    #[arg(long, value_name = "REGEX=TYPE")]
    pub(super) pin: Vec<Pin>,

    /// Tensors whose names match take the same type within a layer
    #[arg(long, value_name = "REGEX")]
    pub(super) tie: Vec<Regex>,

    /// Gate and up projections take the same type, which llama.cpp runs faster
    #[arg(long)]
    pub(super) fuse_friendly: bool,

    /// Drop experts as well, where that costs less than smaller types: the same number in every
    /// layer, as GGUF has it. Only for mixtures of experts
    #[arg(long, conflicts_with = "no_gradients")]
    pub(super) drop_experts: bool,

    /// Do without gradients: plans are ranked by weight errors and measured in llama.cpp. For
    /// architectures that llama.cpp runs and rco does not; finds less, keeps to the budget all
    /// the same. Give --imatrix: none can be computed
    #[arg(long)]
    pub(super) no_gradients: bool,

    /// How much work to spend: trial, quick, normal or thorough
    #[arg(long, value_name = "LEVEL", default_value = "normal", value_parser = parse_effort)]
    pub(super) effort: Effort,

    /// Steps in which the scales of the plan are fitted to the loss of the whole model, a gradient
    /// each; it adds no byte. 0 keeps the scales that rounding chose [default: by effort, 192 at
    /// normal, less where there is little text]
    #[arg(long, value_name = "N", conflicts_with = "no_gradients")]
    pub(super) tuning_steps: Option<u64>,

    /// Seed of all random numbers; equal seeds give equal files on any number of threads
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,

    /// Memory that the computation may take, such as 8GB: refused before it starts if it
    /// cannot do with that
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<Quantity>,

    /// Threads; 0 takes all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) threads: usize,

    /// Folder of the run, kept afterwards: encoded tensors, samples, history. Without it
    /// the folder is beside the output and is deleted in the end
    #[arg(long, value_name = "DIR")]
    pub(super) run: Option<PathBuf>,

    /// Write parts with at most so much tensor data each, as OUTPUT-00001-of-00003.gguf and so
    /// on; the budget holds for all together
    #[arg(long, value_name = "SIZE")]
    pub(super) split_size: Option<Quantity>,

    /// Where the model fits as it is, copy it; without this that is an error
    #[arg(long)]
    pub(super) copy: bool,

    /// Overwrite the output
    #[arg(long)]
    pub(super) force: bool,

    /// Do not load the file in llama.cpp
    #[arg(long)]
    pub(super) no_verify: bool,

    /// Write the plan for `llama-quantize --tensor-type-file`
    #[arg(long, value_name = "FILE")]
    pub(super) tensor_types_file: Option<PathBuf>,

    /// Print the type of every tensor
    #[arg(long)]
    pub(super) plan: bool,

    /// Say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Print one JSON object instead of text
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json: bool,

    /// Print errors only
    #[arg(short, long)]
    pub(super) quiet: bool,

    #[command(flatten)]
    pub(super) folder: FolderFlags,
}

pub(crate) fn parse_effort(text: &str) -> Result<Effort, String> {
    let found = Effort::ALL.into_iter().find(|(_, name)| *name == text);
    found
        .map(|(effort, _)| effort)
        .ok_or_else(|| "expected trial, quick, normal or thorough".to_owned())
}

impl Flags {
    /// The job.
    pub(super) fn settings(&self) -> Result<JobSettings, CliError> {
        let bytes = |q: &Quantity| (Target::Size(q.value), q.value.to_string());
        let bits = |b: &BitsPerWeight| (Target::Bpw(*b), b.to_string());
        let memory = |q: &Quantity| {
            let (context, kv, parallel) = (self.ctx, self.kv_type, self.parallel);
            (Target::Memory { bytes: q.value, context, kv, parallel }, q.value.to_string())
        };
        let targets: Vec<(Target, String)> = self
            .size
            .iter()
            .map(bytes)
            .chain(self.bpw.iter().map(bits))
            .chain(self.vram.iter().map(memory))
            .collect();
        let template = self.output.clone().unwrap_or_else(|| PathBuf::from("out.gguf"));
        let mut orders = Vec::with_capacity(targets.len());
        for (target, word) in targets {
            let name = template.to_string_lossy().replace("{bpw}", &word).replace("{size}", &word);
            let output = PathBuf::from(name);
            if orders.iter().any(|o: &Order| o.output == output) {
                return Err(CliError::SameOutput { path: output });
            }
            orders.push(Order { target, output });
        }
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        Ok(JobSettings {
            model: self.model.clone(),
            orders,
            texts: self.text.clone(),
            imatrix: self.imatrix.clone(),
            options: self.options.clone(),
            filter: TypeFilter {
                only: self.types.clone(),
                without: self.exclude.clone(),
                ..TypeFilter::default()
            },
            pins: self.pin.clone(),
            ties: self.tie.clone(),
            fuse_friendly: self.fuse_friendly,
            drop_experts: self.drop_experts,
            measured_in: if self.no_gradients { MeasuredIn::Runtime } else { MeasuredIn::Engine },
            split: self.split_size.as_ref().map(|q| q.value.max(1)),
            effort: self.effort,
            seed: self.seed,
            memory: self.memory.as_ref().map(|q| q.value),
            threads,
            force: self.force,
            verify: !self.no_verify,
            tuning: self.tuning_steps,
        })
    }

    /// The folder of the run, and whether it is kept.
    pub(super) fn folder(&self, settings: &JobSettings) -> (PathBuf, bool) {
        if let Some(dir) = &self.run {
            return (dir.clone(), true);
        }
        let first = settings.orders.first().map_or(Path::new("out.gguf"), |o| &o.output);
        let mut name = first.file_name().unwrap_or_default().to_owned();
        name.push(".rco");
        (first.with_file_name(name), false)
    }
}
