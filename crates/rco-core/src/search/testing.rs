//! Small problems and objectives for the tests of methods and driver.

use crate::Assignment;
use crate::budget::{Budget, BudgetKind};
use crate::problem::{GroupSpec, OptionSpec, Problem};
use crate::rng::{Purpose, Stream, stream};
use crate::search::{Draw, Evaluation, Objective, ObjectiveError, Split, Strain};

/// What kind of small problem to make.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) groups: usize,
    pub(crate) options: usize,
    pub(crate) seed: u64,
    pub(crate) resources: usize,
    pub(crate) kind: BudgetKind,
}

impl Default for Spec {
    fn default() -> Self {
        Self { groups: 8, options: 4, seed: 1, resources: 1, kind: BudgetKind::AtMost }
    }
}

/// Groups of different sizes whose costs rise with the option. The budgets are the
/// cost of one random plan, so that `exactly` can be met.
pub(crate) fn problem(spec: &Spec) -> Problem {
    let mut random = stream(spec.seed, Purpose::Instance, 0);
    let mut limits = vec![0_u64; spec.resources];
    let mut builder = Problem::builder();
    let mut groups = Vec::new();
    for g in 0..spec.groups {
        let size = 1 + random.below(3) as u64;
        let chosen = random.below(spec.options);
        let mut options = Vec::new();
        for k in 0..spec.options {
            let costs: Vec<u64> = (0..spec.resources)
                .map(|r| {
                    let step = if r == 0 { 2 } else { 1 + random.below(3) as u64 };
                    size * step * (k as u64 + 1)
                })
                .collect();
            if k == chosen {
                for (limit, cost) in limits.iter_mut().zip(&costs) {
                    *limit += cost;
                }
            }
            options.push(OptionSpec::new(format!("o{k}"), costs));
        }
        groups.push(GroupSpec::new(format!("g{g}"), options).size(size));
    }
    for (r, limit) in limits.into_iter().enumerate() {
        // Only the first budget is an equation.
        let budget = match spec.kind {
            BudgetKind::Exactly if r == 0 => Budget::exactly(format!("r{r}"), limit),
            _ => Budget::at_most(format!("r{r}"), limit),
        };
        builder = builder.budget(budget);
    }
    builder.groups(groups).build().unwrap()
}

/// Counts what reaches an objective, and can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Calls {
    pub(crate) gradients: u64,
    pub(crate) draws: u64,
    pub(crate) calibration: u64,
    pub(crate) heldout: u64,
}

impl Calls {
    pub(crate) fn limited(self) -> u64 {
        self.gradients + self.draws + self.calibration
    }
}

/// `Σ_i a_i(k_i) + Σ_{i<j} b_ij(k_i, k_j)`, with noise that depends on draw and plan
/// if `noise` is above 0, and a held-out split that differs a little.
#[derive(Debug, Clone)]
pub(crate) struct Synthetic {
    offsets: Vec<usize>,
    linear: Vec<f64>,
    /// Dense symmetric matrix over options; empty for a separable loss.
    pairs: Vec<f64>,
    noise: f64,
    seed: u64,
    /// Scores that are not quite the loss.
    guessed: Option<Vec<f64>>,
    pub(crate) calls: Calls,
    /// Fails once so many evaluations of any kind have been asked for.
    pub(crate) fail_after: Option<u64>,
}

impl Synthetic {
    /// A separable loss that falls with the option, plus noise.
    pub(crate) fn separable(problem: &Problem, seed: u64) -> Self {
        let mut random = stream(seed, Purpose::Instance, 1);
        let mut linear = Vec::new();
        for group in 0..problem.group_count() {
            let weight = (1.5 * random.normal()).exp();
            let count = problem.options_of(group).len();
            for k in 0..count {
                linear.push(weight * 0.25_f64.powf(k as f64) * (1.0 + 0.3 * random.uniform()));
            }
        }
        Self {
            offsets: problem.offsets().to_vec(),
            linear,
            pairs: Vec::new(),
            noise: 0.0,
            seed,
            guessed: None,
            calls: Calls::default(),
            fail_after: None,
        }
    }

    /// A separable loss whose scores are known only roughly: those of each group are wrong
    /// by a factor.
    pub(crate) fn guessed(problem: &Problem, seed: u64) -> Self {
        let mut out = Self::separable(problem, seed);
        let mut random = stream(seed, Purpose::Instance, 3);
        let mut guessed = out.linear.clone();
        for range in out.offsets.windows(2).map(|w| w[0]..w[1]) {
            let factor = (0.4 * random.normal()).exp();
            guessed[range].iter_mut().for_each(|score| *score *= factor);
        }
        out.guessed = Some(guessed);
        out
    }

    /// The same with random interactions between all groups.
    pub(crate) fn quadratic(problem: &Problem, seed: u64) -> Self {
        let mut out = Self::separable(problem, seed);
        let n = problem.option_count();
        let mut random = stream(seed, Purpose::Instance, 2);
        let scale = 0.5 / problem.group_count() as f64;
        out.pairs = vec![0.0; n * n];
        for a in 0..n {
            for b in 0..a {
                let value = scale * random.normal();
                out.pairs[a * n + b] = value;
                out.pairs[b * n + a] = value;
            }
        }
        out
    }

    /// The same seen through noisy draws.
    pub(crate) fn noisy(problem: &Problem, seed: u64) -> Self {
        Self { noise: 0.05, ..Self::quadratic(problem, seed) }
    }

    /// The same with stronger interactions, of which the scores know nothing.
    pub(crate) fn tangled(problem: &Problem, seed: u64) -> Self {
        let mut out = Self::noisy(problem, seed);
        out.pairs.iter_mut().for_each(|pair| *pair *= 8.0);
        out.guessed = Some(out.linear.clone());
        out
    }

    /// The same through draws, and on splits, that say next to nothing.
    pub(crate) fn obscure(problem: &Problem, seed: u64) -> Self {
        Self { noise: 20.0, ..Self::quadratic(problem, seed) }
    }

    fn flats(&self, assignment: &Assignment) -> Vec<usize> {
        let pairs = assignment.choices().iter().zip(&self.offsets);
        pairs.map(|(&k, start)| start + k as usize).collect()
    }

    /// The loss without noise.
    pub(crate) fn truth(&self, assignment: &Assignment) -> f64 {
        let flats = self.flats(assignment);
        let mut loss: f64 = flats.iter().map(|&a| self.linear[a]).sum();
        if !self.pairs.is_empty() {
            let n = self.linear.len();
            for (i, &a) in flats.iter().enumerate() {
                loss += flats[..i].iter().map(|&b| self.pairs[a * n + b]).sum::<f64>();
            }
        }
        loss
    }

    fn noise(&self, assignment: &Assignment, index: u64) -> f64 {
        let mut key = index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for &k in assignment.choices() {
            key = (key ^ u64::from(k + 1)).wrapping_mul(0x100_0000_01B3);
        }
        let mut random: Stream = stream(self.seed, Purpose::Draw, key);
        self.noise * random.normal()
    }

    fn count(&mut self, what: impl FnOnce(&mut Calls)) -> Result<(), ObjectiveError> {
        what(&mut self.calls);
        let total = self.calls.limited() + self.calls.heldout;
        if self.fail_after.is_some_and(|limit| total > limit) {
            return Err(ObjectiveError::new("told to fail"));
        }
        Ok(())
    }
}

impl Objective for Synthetic {
    fn evaluate(
        &mut self,
        assignment: &Assignment,
        draw: Draw,
    ) -> Result<Evaluation, ObjectiveError> {
        self.count(|calls| calls.gradients += 1)?;
        let mut gradient = self.linear.clone();
        if !self.pairs.is_empty() {
            let n = self.linear.len();
            let flats = self.flats(assignment);
            for (group, w) in self.offsets.windows(2).enumerate() {
                for (a, g) in (w[0]..w[1]).zip(&mut gradient[w[0]..w[1]]) {
                    let others = flats.iter().enumerate().filter(|&(other, _)| other != group);
                    *g += others.map(|(_, &b)| self.pairs[a * n + b]).sum::<f64>();
                }
            }
        }
        let noise = self.noise(assignment, draw.0);
        Ok(Evaluation { loss: self.truth(assignment) + noise, gradient })
    }

    /// Where the scores are guesses, they are costs in proportion to the square of a scale.
    fn strain(
        &mut self,
        assignment: &Assignment,
        draw: Draw,
    ) -> Result<Option<Strain>, ObjectiveError> {
        if self.guessed.is_none() {
            return Ok(None);
        }
        self.count(|calls| calls.gradients += 1)?;
        let loss = self.truth(assignment) + self.noise(assignment, draw.0);
        let groups = self.flats(assignment).into_iter().map(|j| 2.0 * self.linear[j]).collect();
        Ok(Some(Strain { loss, groups }))
    }

    fn loss(&mut self, assignment: &Assignment, split: Split) -> Result<f64, ObjectiveError> {
        let truth = self.truth(assignment);
        match split {
            Split::Draws { first, count } => {
                self.count(|calls| calls.draws += u64::from(count))?;
                let total: f64 =
                    (0..u64::from(count)).map(|n| self.noise(assignment, first.0 + n)).sum();
                Ok(truth + total / f64::from(count))
            }
            Split::Calibration => {
                self.count(|calls| calls.calibration += 1)?;
                Ok(truth + 0.1 * self.noise(assignment, u64::MAX))
            }
            Split::HeldOut => {
                self.count(|calls| calls.heldout += 1)?;
                Ok(truth + 0.1 * self.noise(assignment, u64::MAX - 1))
            }
        }
    }

    fn proxy_scores(&self) -> Option<&[f64]> {
        self.guessed.as_deref().or(self.pairs.is_empty().then_some(&self.linear))
    }

    fn is_separable(&self) -> bool {
        self.pairs.is_empty() && self.noise == 0.0 && self.guessed.is_none()
    }

    fn is_stochastic(&self) -> bool {
        self.noise > 0.0
    }

    fn fingerprint(&self) -> String {
        format!("synthetic {} {} {}", self.seed, self.noise, self.pairs.len())
    }
}

/// All assignments of a small problem that satisfy the budgets.
pub(crate) fn feasible(problem: &Problem) -> Vec<Assignment> {
    let mut all = vec![Vec::new()];
    for group in 0..problem.group_count() {
        let count = problem.options_of(group).len() as u32;
        all = all
            .into_iter()
            .flat_map(|prefix: Vec<u32>| {
                (0..count).map(move |k| {
                    let mut next = prefix.clone();
                    next.push(k);
                    next
                })
            })
            .collect();
    }
    all.into_iter().map(Assignment::new).filter(|a| problem.is_feasible(a)).collect()
}
