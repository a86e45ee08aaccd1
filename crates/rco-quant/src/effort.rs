//! How much work a search takes.

use crate::prune::effort::PruneWork;
use rco_core::search::{DescendSettings, RescoreSettings, SearchSettings};
use serde::{Deserialize, Serialize};

/// How much work to spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// Just enough to see that everything works; the plan is hardly searched for.
    Trial,
    /// About a third of the default.
    Quick,
    /// The default.
    #[default]
    Normal,
    /// About three times the default.
    Thorough,
}

impl Effort {
    /// Every effort, with its name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Trial, "trial"),
        (Self::Quick, "quick"),
        (Self::Normal, "normal"),
        (Self::Thorough, "thorough"),
    ];

    /// The numbers behind it.
    pub fn plan(self) -> WorkPlan {
        let normal = WorkPlan {
            window: 256,
            calibration: 32,
            moments: 128,
            heldout: 16,
            measured: 6,
            per_gradient: 2,
            fisher: 24,
            packed: 72,
            strains: 6,
            descend: 3,
            draws: 10,
            tuned: 192,
            steps: 8,
            refine: 40,
            polish: 16,
            verified: 8,
        };
        match self {
            Self::Trial => WorkPlan {
                window: 64,
                calibration: 8,
                moments: 8,
                heldout: 4,
                measured: 2,
                fisher: 4,
                packed: 8,
                strains: 2,
                descend: 1,
                draws: 3,
                tuned: 16,
                steps: 3,
                refine: 4,
                polish: 4,
                verified: 4,
                ..normal
            },
            Self::Quick => WorkPlan {
                calibration: 24,
                moments: 64,
                heldout: 12,
                measured: 4,
                fisher: 16,
                packed: 24,
                strains: 4,
                descend: 2,
                draws: 8,
                tuned: 64,
                steps: 4,
                refine: 20,
                polish: 6,
                verified: 4,
                ..normal
            },
            Self::Normal => normal,
            Self::Thorough => WorkPlan {
                calibration: 96,
                moments: 512,
                heldout: 32,
                measured: 24,
                fisher: 64,
                packed: 96,
                strains: 8,
                descend: 4,
                draws: 10,
                tuned: 768,
                steps: 64,
                refine: 160,
                polish: 96,
                verified: 16,
                ..normal
            },
        }
    }
}

impl Effort {
    /// The search for the experts that remain at one number of them, where several numbers are
    /// tried for a budget that types share. Types and experts are chosen together in the end, so
    /// that there is less to be chosen here.
    pub(crate) fn experts(self) -> PruneWork {
        let work = PruneWork::new(self);
        let (steps, polish) = (work.steps / 4, work.polish / 4);
        PruneWork { fisher: 1, steps, polish, heldout: self.plan().heldout, ..work }
    }
}

/// What a search does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkPlan {
    /// Tokens of a window, the model's context permitting.
    pub window: usize,
    /// Windows that the search learns from.
    pub calibration: usize,
    /// Windows that second moments of inputs are of, besides.
    pub moments: usize,
    /// Windows that only choose and report.
    pub heldout: usize,
    /// Calibration windows that a plan is measured on.
    pub measured: usize,
    /// Windows of one gradient.
    pub per_gradient: usize,
    /// Samples of the Fisher matrix, a window each.
    pub fisher: u64,
    /// Windows that the search for packed matrices learns from.
    pub packed: usize,
    /// Gradients by which sensitivities of packed matrices are measured anew at their plan.
    pub strains: u64,
    /// Knapsacks on gradients at the plan, for packed matrices.
    pub descend: u64,
    /// Gradients that are taken for each of them.
    pub draws: u64,
    /// Steps in which scales of packed matrices are tuned, one gradient on one window each.
    pub tuned: u64,
    /// Steps of RCO, one gradient each.
    pub steps: u64,
    /// Plans measured to correct the sensitivities.
    pub refine: u64,
    /// Plans measured by the polish.
    pub polish: u64,
    /// Held-out windows that are scored in the runtime as well.
    pub verified: usize,
}

/// A plan whose loss on the calibration windows is so many times the best one's is not measured
/// on the held-out windows: all plans are measured on the same windows, on which plans differ
/// by far less than windows do.
const WITHIN: f64 = 1.1;

/// Evaluations beside steps and polish: of known plans, and of what RCO is rounded to.
pub(crate) const BESIDES: u64 = 20;

impl WorkPlan {
    /// Batches of the calibration text that a plan is measured on.
    pub fn measured_batches(&self) -> usize {
        self.measured.div_ceil(self.per_gradient)
    }

    /// Samples of the Fisher matrix for packed matrices: taken in parts, which makes one worth more
    /// than two others ([`crate::fisher::sample_in_parts`]).
    pub(crate) fn fisher_packed(&self) -> u64 {
        self.fisher.div_ceil(2)
    }

    /// The settings of a search of the portfolio for one budget.
    pub fn search(&self, seed: u64) -> SearchSettings {
        let mut out = SearchSettings { seed, ..SearchSettings::default() };
        let total = self.steps + self.refine + self.polish + BESIDES;
        out.evaluations = Some(total);
        out.steps = Some(self.steps);
        out.rco.samples_per_step = 1;
        out.baselines.random.plans = 1;
        out.refine.plans = self.refine;
        out.polish.share = self.polish as f64 / total as f64;
        // The scores are there before the search begins.
        out.baselines.scores.points = 0;
        out.polish.starts = 2;
        out.polish.batch = 4;
        out.polish.moves = 24;
        out.polish.draws = 4;
        out.shortlist = 4;
        out.choose_within = Some(WITHIN);
        out
    }

    /// The same for packed matrices, with sensitivities measured anew at the plan and knapsacks on
    /// the gradients there.
    ///
    /// Widths are far apart and plans lose much, so that there is more to be measured than among
    /// the types of GGUF.
    pub fn search_packed(&self, seed: u64) -> SearchSettings {
        let mut out = self.search(seed);
        out.rescore =
            RescoreSettings { rounds: 1, draws: self.strains, ..RescoreSettings::default() };
        out.descend = DescendSettings {
            rounds: self.descend,
            draws: self.draws,
            ..DescendSettings::default()
        };
        let more = (self.strains + 1) + self.descend * (self.draws + 1) + 1;
        let total = out.evaluations.unwrap_or(0) + more;
        out.evaluations = Some(total);
        out.polish.share = self.polish as f64 / total as f64;
        out
    }

    /// The same for a loss without gradients, whose scores are errors of weights: what they
    /// say of one tensor against another is wrong by more than sensitivities are.
    pub fn search_without_gradients(&self, seed: u64) -> SearchSettings {
        let mut out = self.search(seed);
        out.refine.plans = self.refine + self.polish;
        out.refine.spread = 1.0;
        out.refine.rescale = true;
        out
    }
}
