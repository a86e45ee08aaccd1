//! Plans that others use: experts ranked by how they are used.

use rco_core::Assignment;
use rco_core::rng::{Purpose, stream};
use rco_model::{Batch, ExpertUse, Model};

use super::budget::ExpertBudget;
use super::error::PruneError;
use super::experts::ExpertMap;

/// A ranking: its name, and the score of every group; small ones go first.
pub type Ranking = (&'static str, Vec<f64>);

/// How all experts are used on batches, in the order of groups.
///
/// # Errors
/// Whatever the model meets.
pub fn expert_use<'b>(
    original: &Model,
    map: &ExpertMap,
    batches: impl Iterator<Item = &'b Batch>,
) -> Result<Vec<ExpertUse>, PruneError> {
    let mut sums = vec![ExpertUse::default(); map.total()];
    for batch in batches {
        let found = original.expert_use(batch)?;
        let all = map.layers().iter().flat_map(|l| &found[l.layer]);
        for (sum, found) in sums.iter_mut().zip(all) {
            sum.add(found);
        }
    }
    Ok(sums)
}

/// The rankings: by tokens sent to an expert, by its probability in the router, by its mean
/// contribution (REAP), and by chance.
pub fn rankings(uses: &[ExpertUse], seed: u64) -> Vec<Ranking> {
    let mut random = stream(seed, Purpose::Feasible, u64::MAX);
    vec![
        ("router frequency", uses.iter().map(|u| u.tokens as f64).collect()),
        ("router mass", uses.iter().map(|u| u.probability).collect()),
        ("REAP saliency", uses.iter().map(ExpertUse::saliency).collect()),
        ("random", uses.iter().map(|_| random.uniform()).collect()),
    ]
}

/// The plan of every ranking.
pub fn plans(
    map: &ExpertMap,
    budget: &ExpertBudget,
    rankings: &[Ranking],
) -> Vec<(String, Assignment)> {
    let plan = |(name, scores): &Ranking| ((*name).to_owned(), budget.by_rank(map, scores));
    rankings.iter().map(plan).collect()
}
