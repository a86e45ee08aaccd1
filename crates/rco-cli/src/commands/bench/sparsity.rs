//! `rco bench sparsity`: the search for shares of zeros against what else there is.

use std::path::PathBuf;

use rco_bench::sparsity::run as measure;
use rco_quant::QuantError;
use rco_quant::prune::effort::PruneWork;
use rco_quant::prune::sparsity::{SparsityJob, SparsitySettings};
use rco_quant::prune::{Amount, CommonSettings, JudgedText};

use super::contest::ContestFlags;
use crate::error::CliError;

/// `rco prune --sparsity` against the same share everywhere, knapsacks and evolution, at equal
/// numbers of zeros
///
/// For a share of a matrix all plans set the same weights to zero; all see the same calibration
/// text and are measured on texts that none has seen.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, a Hugging Face folder
    model: PathBuf,

    /// Weights to set to zero, as shares of all weights of the blocks
    #[arg(short, long, value_name = "SHARE", value_delimiter = ',', required = true)]
    sparsity: Vec<Amount>,

    /// Texts to calibrate on
    #[arg(short, long, value_name = "FILE", required = true)]
    text: Vec<PathBuf>,

    #[command(flatten)]
    contest: ContestFlags,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let job = |amount: Amount| {
        SparsityJob::open(SparsitySettings {
            common: CommonSettings {
                model: args.model.clone(),
                output: None,
                text: JudgedText::alike(args.text.clone()),
                work: PruneWork::new(args.contest.effort),
                seed: args.contest.seed,
                threads: std::thread::available_parallelism().map_or(1, usize::from),
                force: false,
                verify: false,
            },
            effort: args.contest.effort,
            amount,
        })
    };
    let jobs = args.sparsity.iter().copied().map(job).collect::<Result<Vec<_>, _>>()?;
    let settings = args.contest.settings();
    args.contest.show(|stages, report| {
        let mut rows = Vec::new();
        for (job, amount) in jobs.iter().zip(&args.sparsity) {
            let folder = args.contest.run.join(amount.to_string());
            std::fs::create_dir_all(&folder)
                .map_err(QuantError::io(&folder, "creating the folder"))?;
            rows.extend(measure(job, &settings, &folder, stages, report)?);
        }
        Ok(rows)
    })
}
