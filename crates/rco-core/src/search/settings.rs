//! Settings of a search.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::SearchError;
use super::name::MethodName;
use crate::baselines::{
    AugmentedSettings, EvolutionSettings, LagrangianSettings, PenaltySettings, RandomSettings,
    ReinforceSettings, ScoreSettings,
};
use crate::optimizer::RcoSettings;

/// Settings of [`super::search`]. Checked once when the search starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchSettings {
    /// What to run.
    pub method: MethodName,
    /// Seed of every random number; overrides the seed of [`RcoSettings`].
    pub seed: u64,
    /// Steps of the iterative method, instead of the method's own number.
    pub steps: Option<u64>,
    /// Limit of evaluations of the objective over all stages together: gradients,
    /// draws and calibration losses (see [`super::Counts::limited`]). It is never
    /// exceeded. Iterative methods shorten or, where `steps` is not set, stretch
    /// their schedule to it.
    pub evaluations: Option<u64>,
    /// Limit of time, checked between steps. A run that it cuts short depends on
    /// the speed of the machine: it is not reproducible to the bit.
    pub time_limit: Option<Duration>,
    /// The iterative method ends after so many steps without a better plan (a
    /// smaller smoothed loss, if the objective is stochastic).
    pub patience: Option<u64>,
    /// Threads of the search itself; 0 takes all cores. The outcome does not depend
    /// on it. An objective decides about its own threads.
    pub threads: usize,
    /// Plans kept in memory besides the results of the methods, at least 1.
    pub memory: usize,
    /// Plans of the memory that enter the held-out choice besides the results of
    /// the methods.
    pub shortlist: usize,
    /// Leaves plans out of the held-out choice whose calibration loss is more than so many
    /// times the smallest, where that is above 0: for losses that are 0 at best, such as
    /// divergences. `None`, the default, leaves out none.
    pub choose_within: Option<f64>,
    /// Share of the calibration loss in the final choice, from 0 (the default: the held-out
    /// loss alone) to 1. What was searched on the calibration split looks better there than it
    /// is; but where few plans were tried and both splits are small, their mean is the less
    /// noisy judge.
    pub choose_calibration: f64,
    /// The RCO optimiser.
    pub rco: RcoSettings,
    /// How RCO starts.
    pub warm_start: WarmStartSettings,
    /// Separable scores measured anew at the plan that they lead to.
    pub rescore: RescoreSettings,
    /// Knapsacks on option gradients at the plan.
    pub descend: DescendSettings,
    /// Correction of separable scores by measured losses.
    pub refine: RefineSettings,
    /// Discrete polish.
    pub polish: PolishSettings,
    /// The baselines.
    pub baselines: BaselineSettings,
    /// Where and how often to save the state; `None` saves nothing.
    pub checkpoint: Option<CheckpointSettings>,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            method: MethodName::default(),
            seed: 0,
            steps: None,
            evaluations: None,
            time_limit: None,
            patience: None,
            threads: 0,
            memory: 64,
            shortlist: 8,
            choose_within: None,
            choose_calibration: 0.0,
            rco: RcoSettings::default(),
            warm_start: WarmStartSettings::default(),
            rescore: RescoreSettings::default(),
            descend: DescendSettings::default(),
            refine: RefineSettings::default(),
            polish: PolishSettings::default(),
            baselines: BaselineSettings::default(),
            checkpoint: None,
        }
    }
}

/// How RCO starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmStartSettings {
    /// Start from `−score / s`, retracted along the cost; otherwise from equal logits.
    pub enabled: bool,
    /// The scale `s` is chosen so that the mean standard deviation of the start
    /// logits within a decision is this. Small values explore more.
    pub spread: f64,
}

impl Default for WarmStartSettings {
    fn default() -> Self {
        Self { enabled: true, spread: 1.0 }
    }
}

/// Separable scores measured anew at the plan that they lead to: for objectives that know how the
/// loss answers to the scale of what a choice changes ([`super::Objective::strain`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RescoreSettings {
    /// Plans that scores are measured at, one after the other; 0, the default, leaves the stage
    /// out.
    pub rounds: u64,
    /// Gradients taken at each of them, at least 1.
    pub draws: u64,
    /// What the scores of a decision are wrong by, all alike, as a share of them: the standard
    /// deviation that is assumed beforehand.
    pub spread: f64,
}

impl Default for RescoreSettings {
    fn default() -> Self {
        Self { rounds: 0, draws: 6, spread: 0.5 }
    }
}

/// Exact knapsacks on option gradients at the plan, one after the other: for objectives with
/// gradients that allow for the curvature of a change, and with separable scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DescendSettings {
    /// Knapsacks to solve; 0, the default, leaves the stage out.
    pub rounds: u64,
    /// Gradients taken before each, at least 1.
    pub draws: u64,
    /// What a change of a decision is charged for, as a share of the mean of the scores of what
    /// goes and what comes.
    pub charge: f64,
}

impl Default for DescendSettings {
    fn default() -> Self {
        Self { rounds: 0, draws: 8, charge: 1.0 }
    }
}

/// Correction of separable scores by measured losses: for objectives whose scores are known
/// to be rough estimates and whose loss is nearly a sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefineSettings {
    /// Plans to measure; 0, the default, leaves the stage out.
    pub plans: u64,
    /// Plans measured at once, at least 1.
    pub batch: usize,
    /// What the scores of a decision are wrong by, all alike, as a share of them: the standard
    /// deviation that is assumed beforehand.
    pub spread: f64,
    /// Scores are no losses but only in proportion to them, as errors of weights are: they are
    /// scaled so that the sums of measured plans agree with their losses in the median.
    pub rescale: bool,
}

impl Default for RefineSettings {
    fn default() -> Self {
        Self { plans: 0, batch: 4, spread: 0.25, rescale: false }
    }
}

/// When to polish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum PolishWhen {
    /// At the end of the portfolio only: a single method shows its own result.
    #[default]
    Portfolio,
    /// After any method.
    Always,
    /// Never.
    Never,
}

/// Discrete polish: moves of one decision and swaps of two, ranked by option
/// gradients, accepted on measured loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolishSettings {
    /// When to polish.
    pub when: PolishWhen,
    /// Accepted changes at most, for each start.
    pub rounds: u64,
    /// Plans to start from, best first, at least 1.
    pub starts: usize,
    /// Moves that are measured before a plan counts as a local optimum, at least 1.
    pub moves: usize,
    /// Moves measured at once, at least 1.
    pub batch: usize,
    /// Draws that an option gradient is averaged over if the objective is
    /// stochastic, at least 1.
    pub draws: u64,
    /// Share of the limit of evaluations kept for the polish of the portfolio, in 0..1.
    pub share: f64,
}

impl Default for PolishSettings {
    fn default() -> Self {
        Self {
            when: PolishWhen::Portfolio,
            rounds: 200,
            starts: 2,
            moves: 96,
            batch: 16,
            draws: 8,
            share: 0.3,
        }
    }
}

/// Settings of the baselines.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BaselineSettings {
    /// Random feasible plans.
    pub random: RandomSettings,
    /// Separable scores from option gradients, for greedy, proxy and the warm start.
    pub scores: ScoreSettings,
    /// Quadratic penalty.
    pub penalty: PenaltySettings,
    /// Lagrangian.
    pub lagrangian: LagrangianSettings,
    /// Augmented Lagrangian.
    pub augmented: AugmentedSettings,
    /// Evolutionary search.
    pub evolution: EvolutionSettings,
    /// REINFORCE.
    pub reinforce: ReinforceSettings,
}

/// Where and how often to save the state of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSettings {
    /// Folder of the run. It is created if need be and holds `checkpoint.json`.
    pub dir: PathBuf,
    /// Least time between two checkpoints. It grows by itself where writing one
    /// takes more than a twentieth of it. Stage ends are saved in any case.
    #[serde(default = "default_every")]
    pub every: Duration,
}

fn default_every() -> Duration {
    Duration::from_secs(10)
}

impl CheckpointSettings {
    /// A checkpoint in `dir`, every ten seconds.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), every: default_every() }
    }
}

impl SearchSettings {
    /// Settings for one method, the rest at its default.
    pub fn for_method(method: MethodName) -> Self {
        Self { method, ..Self::default() }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`SearchError::Setting`] names the first setting that is out of range,
    /// [`SearchError::Optimizer`] one of the optimiser.
    pub fn validate(&self) -> Result<(), SearchError> {
        if self.method == MethodName::Polish {
            return Err(SearchError::Setting {
                setting: "method",
                expected: "a method (polish is a stage: use polish.when)",
                found: self.method.to_string(),
            });
        }
        at_least_one("memory", self.memory as u64)?;
        at_least_one("rescore.draws", self.rescore.draws)?;
        positive("rescore.spread", self.rescore.spread)?;
        at_least_one("descend.draws", self.descend.draws)?;
        positive("descend.charge", self.descend.charge)?;
        at_least_one("refine.batch", self.refine.batch as u64)?;
        at_least_one("polish.starts", self.polish.starts as u64)?;
        at_least_one("polish.moves", self.polish.moves as u64)?;
        at_least_one("polish.batch", self.polish.batch as u64)?;
        at_least_one("polish.draws", self.polish.draws)?;
        if let Some(steps) = self.steps {
            at_least_one("steps", steps)?;
        }
        if let Some(evaluations) = self.evaluations {
            at_least_one("evaluations", evaluations)?;
        }
        if let Some(patience) = self.patience {
            at_least_one("patience", patience)?;
        }
        positive("warm_start.spread", self.warm_start.spread)?;
        if !(0.0..1.0).contains(&self.polish.share) {
            return Err(SearchError::Setting {
                setting: "polish.share",
                expected: "at least 0 and below 1",
                found: self.polish.share.to_string(),
            });
        }
        if !(0.0..=1.0).contains(&self.choose_calibration) {
            return Err(SearchError::Setting {
                setting: "choose_calibration",
                expected: "from 0 to 1",
                found: self.choose_calibration.to_string(),
            });
        }
        self.rco.validate()?;
        self.baselines.random.validate()?;
        self.baselines.penalty.validate()?;
        self.baselines.lagrangian.validate()?;
        self.baselines.augmented.validate()?;
        self.baselines.evolution.validate()?;
        self.baselines.reinforce.validate()
    }

    /// Whether the run ends with a polish.
    pub(crate) fn polishes(&self) -> bool {
        match self.polish.when {
            PolishWhen::Portfolio => self.method == MethodName::Portfolio,
            PolishWhen::Always => true,
            PolishWhen::Never => false,
        }
    }
}

/// Refuses 0.
pub(crate) fn at_least_one(setting: &'static str, found: u64) -> Result<(), SearchError> {
    if found == 0 {
        return Err(SearchError::Setting { setting, expected: "at least 1", found: "0".into() });
    }
    Ok(())
}

/// Refuses what is not a finite number above 0.
pub(crate) fn positive(setting: &'static str, found: f64) -> Result<(), SearchError> {
    if found > 0.0 && found.is_finite() {
        return Ok(());
    }
    Err(SearchError::Setting {
        setting,
        expected: "a finite number above 0",
        found: found.to_string(),
    })
}
