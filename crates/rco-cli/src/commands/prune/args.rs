//! The command line of `rco prune`.

use std::path::PathBuf;

use rco_quant::effort::Effort;
use rco_quant::prune::effort::PruneWork;
use rco_quant::prune::sparsity::SparsitySettings;
use rco_quant::prune::{Amount, CommonSettings, JudgedText, PruneSettings};

use crate::commands::quantize::parse_effort;

const EXAMPLES: &str = "\
Examples:
  rco prune model.gguf --experts 25% --per-layer -o small.gguf
      A quarter of the experts of every layer; loads in llama.cpp as it is.

  rco prune Qwen3-30B-A3B/ --experts 25% --per-layer --text code.txt -o small/
      The same for a Hugging Face folder, chosen for code; loads in transformers as it is.

  rco prune Qwen3-30B-A3B/ --experts 25% --text code.txt --text prose.txt -o small/
      A quarter of all experts, wherever they hurt least. Layers then have different numbers
      of experts, which `per_layer_num_experts` of config.json holds: rco reads that, stock
      loaders and GGUF files do not know it.

  rco prune Qwen3-30B-A3B/ --experts 25% --per-layer -o small/ \\
      --text code.txt --text prose.txt --weights 3,1 --protect german.txt --protect-kl 0.05
      For code above all, but German may lose 0.05 nats at most.

  rco prune model.gguf --layers 3 --text prose.txt -o small.gguf
      Three whole layers, those that are missed least together; loads in llama.cpp as it is,
      a folder in transformers.

  rco prune Qwen3-8B/ --sparsity 50% --text prose.txt -o sparse/
      Half of the weights of all matrices set to zero, more where they are missed least. The
      folder keeps its size and loads everywhere; it is for runtimes that use zeros.

  rco prune model.gguf --experts 8 --per-layer --dry-run
      What would be done, and whether it can be.

A run with --run that was interrupted or killed goes on when the same command is started again.";

/// Drop experts of a mixture, whole layers, or single weights, exactly as many as asked for
///
/// Chooses which experts, layers or weights of MODEL to keep so that the model changes least: the
/// loss is the Kullback-Leibler divergence from the original on text. Tokens are routed as they
/// will be without the dropped experts, all choices together, and the rankings in use (router
/// frequency and mass, REAP) are among the candidates, so that the result is never worse than
/// theirs on the text that decides. Writes the model without them, reads it again and scores it;
/// a GGUF file in llama.cpp as well.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("amount").required(true).args(["experts", "layers", "sparsity"]))]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[allow(clippy::doc_markdown, reason = "the help shows what is typed")]
pub(crate) struct Args {
    /// The model: a GGUF file, the first part of a split one, or a Hugging Face folder
    model: PathBuf,

    /// Experts to drop: a share of all, such as 25%, or a number
    #[arg(short, long, value_name = "AMOUNT")]
    experts: Option<Amount>,

    /// Whole layers to drop, of any model
    #[arg(short, long, value_name = "N")]
    pub(super) layers: Option<u64>,

    /// Share of the weights of all matrices that are set to zero, of a Hugging Face folder; each
    /// matrix loses the share that hurts least
    #[arg(short, long, value_name = "SHARE", conflicts_with_all = ["weights", "protect"])]
    pub(super) sparsity: Option<Amount>,

    /// The same number of experts in each layer, which stock runtimes need
    #[arg(long, requires = "experts")]
    per_layer: bool,

    /// Fewest experts that remain in a layer; without it as many as a token is sent to
    #[arg(long, value_name = "N", requires = "experts")]
    min_experts: Option<u64>,

    /// Most experts by which one layer may have more than another, for an amount of all layers
    #[arg(long, value_name = "N", requires = "experts", conflicts_with = "per_layer")]
    max_spread: Option<u64>,

    /// The file or folder to write, of the same kind as MODEL
    #[arg(short, long, value_name = "PATH", required_unless_present = "dry_run")]
    pub(super) output: Option<PathBuf>,

    /// Text to judge by, a file for each domain; without any a GGUF model writes its own
    #[arg(short, long, value_name = "FILE")]
    text: Vec<PathBuf>,

    /// What each text counts, in their order, such as 3,1; without it all count alike
    #[arg(long, value_name = "W,...", value_delimiter = ',', requires = "text")]
    weights: Vec<f64>,

    /// Text that counts for nothing, but whose loss is limited; may be given several times
    #[arg(long, value_name = "FILE", requires = "protect_kl")]
    protect: Vec<PathBuf>,

    /// Mean KL in nats that each protected text may lose at most on its held-out part
    #[arg(long, value_name = "NATS", requires = "protect")]
    protect_kl: Option<f64>,

    /// How much work to spend: trial, quick, normal or thorough
    #[arg(long, value_name = "LEVEL", default_value = "normal", value_parser = parse_effort)]
    effort: Effort,

    /// Seed of all random numbers; equal seeds give equal files on any number of threads
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Threads; 0 takes all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Folder of the run, kept afterwards: plan, samples, history. Without it the folder is
    /// beside the output and is deleted in the end
    #[arg(long, value_name = "DIR")]
    pub(super) run: Option<PathBuf>,

    /// Overwrite the output
    #[arg(long)]
    pub(super) force: bool,

    /// Do not load a GGUF file in llama.cpp
    #[arg(long)]
    no_verify: bool,

    /// Say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Print one JSON object instead of text
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json: bool,

    /// Print errors only
    #[arg(short, long)]
    pub(super) quiet: bool,
}

impl Args {
    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }

    pub(super) fn common(&self) -> CommonSettings {
        CommonSettings {
            model: self.model.clone(),
            output: self.output.clone(),
            text: JudgedText {
                files: self.text.clone(),
                weights: self.weights.clone(),
                protected: self.protect.clone(),
                limit: self.protect_kl,
            },
            work: PruneWork::new(self.effort),
            seed: self.seed,
            threads: self.threads(),
            force: self.force,
            verify: !self.no_verify,
        }
    }

    /// The job that drops single weights.
    pub(super) fn sparsity_settings(&self, amount: Amount) -> SparsitySettings {
        SparsitySettings { common: self.common(), effort: self.effort, amount }
    }

    /// The job that drops experts.
    pub(super) fn settings(&self) -> PruneSettings {
        PruneSettings {
            common: self.common(),
            // One of the two amounts is required.
            amount: self.experts.unwrap_or(Amount::Count(0)),
            per_layer: self.per_layer,
            min_experts: self.min_experts,
            max_spread: self.max_spread,
        }
    }

    /// The folder of the run, and whether it is kept.
    pub(super) fn folder(&self) -> (PathBuf, bool) {
        if let Some(dir) = &self.run {
            return (dir.clone(), true);
        }
        let output = self.output.clone().unwrap_or_else(|| PathBuf::from("pruned"));
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(".rco");
        (output.with_file_name(name), false)
    }
}
