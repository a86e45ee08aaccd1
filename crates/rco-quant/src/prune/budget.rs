//! How many experts remain, and where, as a problem.

use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem};

use super::amount::{Amount, WHOLE, percent};
use super::error::PruneError;
use super::experts::{DROP, ExpertMap, KEEP, LayerExperts};

/// Experts that remain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the whole model.
    Total(u64),
    /// In each block with experts.
    PerLayer(Vec<u64>),
}

/// How many experts remain in all or in each block, and how many at least in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertBudget {
    /// Experts that remain.
    pub kept: Kept,
    /// Fewest that may remain in each block with experts.
    pub floors: Vec<u64>,
    /// Most that may remain in each of them.
    pub caps: Vec<u64>,
}

impl ExpertBudget {
    /// The budget after `amount` of all experts are dropped, in each block the same share if
    /// `per_layer`. A share that is no whole number of experts in all is rounded up.
    ///
    /// # Errors
    /// [`PruneError::NothingToDrop`], [`PruneError::TooMany`], [`PruneError::NotWhole`],
    /// [`PruneError::FloorTooLow`] or [`PruneError::FloorTooHigh`].
    pub fn new(
        map: &ExpertMap,
        amount: Amount,
        per_layer: bool,
        floor: Option<u64>,
    ) -> Result<Self, PruneError> {
        let floors = floors(map, floor)?;
        let kept = if per_layer {
            let kept = map.layers().iter().map(|l| kept_in(map, l, amount));
            Kept::PerLayer(kept.collect::<Result<_, _>>()?)
        } else {
            let total = map.total() as u64;
            let drop = match amount {
                Amount::Count(count) => count,
                Amount::Share(share) => {
                    (u128::from(share) * u128::from(total)).div_ceil(u128::from(WHOLE)) as u64
                }
            };
            Kept::Total(total.saturating_sub(drop))
        };
        let this = Self { kept, floors, caps: all(map) };
        this.check(map, amount)?;
        Ok(this)
    }

    /// The same budget with at most `spread` between the block that keeps most and that which
    /// keeps fewest, in every way there is: from the block that keeps fewest `n` on, for each
    /// `n`. A budget for each block has no other way than itself.
    ///
    /// # Errors
    /// [`PruneError::Spread`] if there is no way.
    pub fn spread(&self, spread: u64) -> Result<Vec<Self>, PruneError> {
        let Kept::Total(kept) = self.kept else { return Ok(vec![self.clone()]) };
        let most = self.caps.iter().copied().max().unwrap_or(0);
        let ways = (0..=most).map(|fewest| {
            let floors = self.floors.iter().map(|&floor| floor.max(fewest)).collect();
            let end = fewest.saturating_add(spread);
            let caps = self.caps.iter().map(|&cap| cap.min(end)).collect();
            Self { kept: self.kept.clone(), floors, caps }
        });
        let can_be = |way: &Self| {
            let mut both = way.floors.iter().zip(&way.caps);
            both.all(|(floor, cap)| floor <= cap)
                && (way.floors.iter().sum::<u64>()..=way.caps.iter().sum()).contains(&kept)
        };
        let ways: Vec<Self> = ways.filter(can_be).collect();
        if ways.is_empty() {
            return Err(PruneError::Spread { kept, layers: self.floors.len(), spread });
        }
        Ok(ways)
    }

    /// `kept` experts in every block, or all of a block that has fewer.
    ///
    /// # Errors
    /// [`PruneError::TooMany`] if a token needs more.
    pub fn kept_in_each(map: &ExpertMap, kept: u64) -> Result<Self, PruneError> {
        let floors = floors(map, None)?;
        let of = |l: &LayerExperts| kept.min(l.experts as u64);
        let kept = Kept::PerLayer(map.layers().iter().map(of).collect());
        let this = Self { kept, floors, caps: all(map) };
        this.check(map, Amount::Count(map.total() as u64 - this.total()))?;
        Ok(this)
    }

    fn check(&self, map: &ExpertMap, amount: Amount) -> Result<(), PruneError> {
        let total = map.total() as u64;
        if self.total() == total {
            return Err(PruneError::NothingToDrop { asked: amount.to_string(), total });
        }
        let floor: u64 = self.floors.iter().sum();
        let wrong = match &self.kept {
            Kept::Total(kept) => *kept < floor,
            Kept::PerLayer(kept) => kept.iter().zip(&self.floors).any(|(k, f)| k < f),
        } || matches!(amount, Amount::Count(count) if count > total);
        if wrong {
            let most = total - floor;
            let (asked, most_share) = (amount.to_string(), percent(most, total));
            return Err(PruneError::TooMany { asked, total, floor, most, most_share });
        }
        Ok(())
    }

    /// Experts that remain in all.
    pub fn total(&self) -> u64 {
        match &self.kept {
            Kept::Total(kept) => *kept,
            Kept::PerLayer(kept) => kept.iter().sum(),
        }
    }

    /// The number that remains in every block, if it is one and the same.
    pub fn uniform(&self) -> Option<u64> {
        match &self.kept {
            Kept::PerLayer(kept) => kept.first().copied().filter(|k| kept.iter().all(|n| n == k)),
            Kept::Total(_) => None,
        }
    }

    /// The problem: a group for each expert, which is dropped or kept. Budgets in all, and in
    /// each block that could otherwise lose or keep too many; or for each block.
    ///
    /// # Errors
    /// What the problem itself refuses.
    pub fn problem(&self, map: &ExpertMap) -> Result<Problem, PruneError> {
        // Costs of dropping and of keeping an expert of a block, for each budget.
        let mut budgets = Vec::new();
        let mut costs: Vec<Vec<[u64; 2]>> = Vec::new();
        let layers = map.layers();
        let only = |n: usize, cost: [u64; 2]| {
            let mut out = vec![[0, 0]; layers.len()];
            out[n] = cost;
            out
        };
        match &self.kept {
            Kept::Total(kept) => {
                budgets.push(Budget::exactly("experts", *kept));
                costs.push(vec![[0, 1]; layers.len()]);
                let dropped = map.total() as u64 - kept;
                for (n, (l, floor)) in layers.iter().zip(&self.floors).enumerate() {
                    let most = l.experts as u64 - floor;
                    if most < dropped {
                        let name = format!("experts dropped from layer {}", l.layer);
                        budgets.push(Budget::at_most(name, most));
                        costs.push(only(n, [1, 0]));
                    }
                    let cap = self.caps[n];
                    if cap < l.experts as u64 {
                        let name = format!("experts kept in layer {}", l.layer);
                        budgets.push(Budget::at_most(name, cap));
                        costs.push(only(n, [0, 1]));
                    }
                }
            }
            Kept::PerLayer(kept) => {
                for (n, (l, &kept)) in layers.iter().zip(kept).enumerate() {
                    let name = format!("experts of layer {}", l.layer);
                    budgets.push(Budget::exactly(name, kept));
                    costs.push(only(n, [0, 1]));
                }
            }
        }
        let mut builder = Problem::builder();
        for budget in budgets {
            builder = builder.budget(budget);
        }
        for (n, l) in layers.iter().enumerate() {
            for expert in 0..l.experts {
                let option = |name: &str, option: usize| {
                    let costs: Vec<u64> = costs.iter().map(|of| of[n][option]).collect();
                    OptionSpec::new(name, costs)
                };
                let options = [option("drop", DROP), option("keep", KEEP)];
                let name = format!("layer.{}.expert.{expert}", l.layer);
                builder = builder.group(GroupSpec::new(name, options));
            }
        }
        Ok(builder.build()?)
    }

    /// The plan that drops the experts of the smallest scores and keeps to the budget. Of
    /// equal scores the later expert goes.
    pub fn by_rank(&self, map: &ExpertMap, scores: &[f64]) -> Assignment {
        let (layers, starts) = (map.layers(), map.starts());
        let mut left: Vec<u64> = match &self.kept {
            Kept::Total(_) => {
                layers.iter().zip(&self.floors).map(|(l, f)| l.experts as u64 - f).collect()
            }
            Kept::PerLayer(kept) => {
                layers.iter().zip(kept).map(|(l, k)| l.experts as u64 - k).collect()
            }
        };
        // What each block has to lose goes first.
        let mut must: Vec<u64> = layers
            .iter()
            .zip(&self.caps)
            .map(|(l, c)| (l.experts as u64).saturating_sub(*c))
            .collect();
        let mut todo = map.total() as u64 - self.total();
        let mut order: Vec<(usize, usize)> =
            (0..layers.len()).flat_map(|n| (0..layers[n].experts).map(move |e| (n, e))).collect();
        order.sort_by(|&(n, e), &(m, f)| {
            let (a, b) = (starts[n] + e, starts[m] + f);
            scores[a].total_cmp(&scores[b]).then(b.cmp(&a))
        });
        let mut options = vec![KEEP as u32; map.total()];
        for is_forced in [true, false] {
            for &(n, e) in &order {
                let option = &mut options[starts[n] + e];
                let may = left[n] > 0 && (!is_forced || must[n] > 0);
                if todo > 0 && may && *option == KEEP as u32 {
                    *option = DROP as u32;
                    left[n] -= 1;
                    must[n] = must[n].saturating_sub(1);
                    todo -= 1;
                }
            }
        }
        Assignment::new(options)
    }
}

fn all(map: &ExpertMap) -> Vec<u64> {
    map.layers().iter().map(|l| l.experts as u64).collect()
}

fn floors(map: &ExpertMap, floor: Option<u64>) -> Result<Vec<u64>, PruneError> {
    let of = |l: &LayerExperts| {
        let (layer, needed) = (l.layer, l.per_token as u64);
        match floor {
            None => Ok(needed),
            Some(floor) if floor < needed => {
                Err(PruneError::FloorTooLow { floor, layer, per_token: needed })
            }
            Some(floor) if floor > l.experts as u64 => {
                Err(PruneError::FloorTooHigh { floor, layer, experts: l.experts as u64 })
            }
            Some(floor) => Ok(floor),
        }
    };
    map.layers().iter().map(of).collect()
}

/// Experts that remain in a block of which the same share goes as of every other.
fn kept_in(map: &ExpertMap, l: &LayerExperts, amount: Amount) -> Result<u64, PruneError> {
    let experts = l.experts as u64;
    let (times, unit) = match amount {
        Amount::Share(share) => (share, WHOLE),
        Amount::Count(count) => (count, map.total() as u64),
    };
    let product = u128::from(times) * u128::from(experts);
    let drop = (product / u128::from(unit)) as u64;
    if product.is_multiple_of(u128::from(unit)) {
        return Ok(experts.saturating_sub(drop));
    }
    let (below, above) = (percent(drop, experts), percent(drop + 1, experts));
    let found = product as f64 / unit as f64;
    let (asked, layer) = (amount.to_string(), l.layer);
    Err(PruneError::NotWhole { asked, layer, experts, found, below, above })
}
