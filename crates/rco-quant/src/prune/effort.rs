//! How much work a search for experts takes.

use rco_core::search::SearchSettings;
use serde::{Deserialize, Serialize};

use crate::effort::Effort;

/// What a search does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneWork {
    /// Tokens of a window, the model's context permitting.
    pub window: usize,
    /// Windows that the search learns from. Every loss and gradient is taken on all of them.
    pub calibration: usize,
    /// Windows that only choose and report: more than those learned from, since only a dozen plans
    /// are measured on them, and the best differ by less than a few windows can tell.
    pub heldout: usize,
    /// Windows that run at once.
    pub together: usize,
    /// Passes over the calibration text that the sensitivities are taken from.
    pub fisher: u64,
    /// Steps of RCO, one gradient each.
    pub steps: u64,
    /// Plans measured by the polish.
    pub polish: u64,
    /// Held-out windows that are scored in the runtime as well.
    pub verified: usize,
}

/// Share of the calibration text in the final choice. A search tries some fifty plans, so that a
/// plan looks hardly better than it is on the text it was found on; held-out text alone, a few
/// thousand tokens, has chosen plans that were worse everywhere else.
pub const CHOOSE_CALIBRATION: f64 = 0.5;

/// Evaluations beside steps and polish: of known plans, and of what RCO is rounded to.
const BESIDES: u64 = 24;

impl PruneWork {
    /// The work of an effort.
    pub fn new(effort: Effort) -> Self {
        let normal = Self {
            window: 256,
            calibration: 16,
            heldout: 48,
            together: 8,
            fisher: 4,
            steps: 32,
            polish: 64,
            verified: 8,
        };
        match effort {
            Effort::Trial => Self {
                window: 64,
                calibration: 4,
                heldout: 4,
                fisher: 1,
                steps: 4,
                polish: 8,
                verified: 4,
                ..normal
            },
            Effort::Quick => Self {
                calibration: 8,
                heldout: 32,
                fisher: 2,
                steps: 16,
                polish: 32,
                verified: 4,
                ..normal
            },
            Effort::Normal => normal,
            Effort::Thorough => Self {
                calibration: 48,
                heldout: 96,
                fisher: 4,
                steps: 64,
                polish: 192,
                verified: 16,
                ..normal
            },
        }
    }

    /// The settings of a search of the portfolio.
    pub fn search(&self, seed: u64) -> SearchSettings {
        let mut out = SearchSettings { seed, ..SearchSettings::default() };
        let total = self.steps + self.polish + BESIDES;
        out.evaluations = Some(total);
        out.steps = Some(self.steps);
        out.rco.samples_per_step = 1;
        out.baselines.random.plans = 2;
        out.polish.share = self.polish as f64 / total as f64;
        // The scores are there before the search begins.
        out.baselines.scores.points = 0;
        out.polish.starts = 2;
        out.polish.batch = 8;
        out.polish.moves = 48;
        out.shortlist = 6;
        out.choose_calibration = CHOOSE_CALIBRATION;
        out
    }
}
