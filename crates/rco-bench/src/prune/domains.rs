//! Experts chosen for one domain, judged on each.

use rco_quant::job::Reporter;
use rco_quant::prune::{PruneError, PruneJob};
use serde::Serialize;

use crate::error::BenchError;

/// A plan on the held-out text of a domain.
#[derive(Debug, Clone, Serialize)]
pub struct DomainRow {
    /// Domains that the plan was chosen for.
    pub chosen_for: String,
    /// Experts that go.
    pub dropped: u64,
    /// Domain of the held-out text.
    pub text: String,
    /// Mean KL from the original in nats.
    pub kl: f64,
    /// Its standard error.
    pub error: f64,
}

/// Searches one plan with each job and judges all on the held-out text of the last one, whose
/// texts are those of all others.
///
/// # Errors
/// Whatever any of them meets.
pub fn domains(
    jobs: &[(String, PruneJob)],
    folder: &std::path::Path,
    reporter: &mut dyn Reporter,
) -> Result<Vec<DomainRow>, BenchError> {
    let Some((_, all)) = jobs.last() else { return Ok(Vec::new()) };
    let judge = all.prepare(&folder.join("judge"), reporter)?;
    let mut rows = Vec::new();
    for (n, (name, job)) in jobs.iter().enumerate() {
        let dir = folder.join(format!("domain-{n}"));
        let prepared = job.prepare(&dir, reporter)?;
        let found = job.search(&prepared, &dir, reporter)?;
        let config = judge.reference.original.config();
        let dropped = job.map().dropped(config, &found.assignment).map_err(PruneError::from)?;
        let model = judge.reference.original.clone().without_experts(dropped);
        let (scores, _) = judge.reference.score(&model, reporter)?;
        for score in scores {
            rows.push(DomainRow {
                chosen_for: name.clone(),
                dropped: job.map().total() as u64 - job.budget().total(),
                text: score.domain,
                kl: score.summary.kl_mean.value,
                error: score.summary.kl_mean.error,
            });
        }
    }
    Ok(rows)
}
