//! Validates the parts of a problem and puts them together.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Blocker, Problem, ProblemError};
use crate::budget::{Budget, BudgetKind};
use crate::decisions::Decisions;

/// Largest number of options of all groups together.
const MAX_OPTIONS: usize = u32::MAX as usize;
/// Groups named by an infeasibility error.
const BLOCKERS_NAMED: usize = 3;

/// One way to store or drop a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionSpec {
    /// Name, unique within the group.
    pub name: Arc<str>,
    /// One cost for each budget, in the order of the budgets.
    pub costs: Vec<u64>,
}

impl OptionSpec {
    /// An option with one cost for each budget.
    pub fn new(name: impl Into<Arc<str>>, costs: impl Into<Vec<u64>>) -> Self {
        Self { name: name.into(), costs: costs.into() }
    }
}

/// A thing to decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// Name, unique within the problem.
    pub name: Arc<str>,
    /// Number of weights, at least 1. Only the retraction per weight uses it.
    pub size: u64,
    /// The options; at least one.
    pub options: Vec<OptionSpec>,
}

impl GroupSpec {
    /// A group of size 1.
    pub fn new(name: impl Into<Arc<str>>, options: impl Into<Vec<OptionSpec>>) -> Self {
        Self { name: name.into(), size: 1, options: options.into() }
    }

    /// Sets the number of weights.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = size;
        self
    }
}

/// Collects groups, budgets, ties and fixed choices; [`ProblemBuilder::build`] validates.
#[derive(Debug, Clone, Default)]
pub struct ProblemBuilder {
    budgets: Vec<Budget>,
    groups: Vec<GroupSpec>,
    ties: Vec<Vec<String>>,
    fixed: Vec<(String, String)>,
}

impl ProblemBuilder {
    /// Adds a budget. The order of budgets is the order of an option's costs.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budgets.push(budget);
        self
    }

    /// Adds a group.
    #[must_use]
    pub fn group(mut self, group: GroupSpec) -> Self {
        self.groups.push(group);
        self
    }

    /// Adds groups.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = GroupSpec>) -> Self {
        self.groups.extend(groups);
        self
    }

    /// Makes groups choose alike. Ties that share a group are joined.
    #[must_use]
    pub fn tie<S: Into<String>>(mut self, groups: impl IntoIterator<Item = S>) -> Self {
        self.ties.push(groups.into_iter().map(Into::into).collect());
        self
    }

    /// Fixes the choice of a group.
    #[must_use]
    pub fn fix(mut self, group: impl Into<String>, option: impl Into<String>) -> Self {
        self.fixed.push((group.into(), option.into()));
        self
    }

    /// Validates everything and builds the problem.
    ///
    /// # Errors
    /// Any variant of [`ProblemError`] that is not about an assignment.
    pub fn build(self) -> Result<Problem, ProblemError> {
        check_budgets(&self.budgets)?;
        let index = check_groups(&self.groups, &self.budgets)?;
        let fixed = resolve_fixed(&self.groups, &index, &self.fixed)?;
        let root = join_ties(&self.groups, &index, &self.ties)?;

        let mut problem = Problem {
            group_names: self.groups.iter().map(|g| g.name.clone()).collect(),
            sizes: self.groups.iter().map(|g| g.size).collect(),
            offsets: Vec::with_capacity(self.groups.len() + 1),
            option_names: Vec::new(),
            costs: vec![Vec::new(); self.budgets.len()],
            fixed,
            decisions: Decisions {
                offsets: vec![0],
                costs: vec![Vec::new(); self.budgets.len()],
                sizes: Vec::new(),
                member_offsets: vec![0],
                members: Vec::new(),
                option_index: Vec::new(),
            },
            budgets: self.budgets,
        };
        problem.offsets.push(0);
        for group in &self.groups {
            for option in &group.options {
                problem.option_names.push(option.name.clone());
                for (costs, &cost) in problem.costs.iter_mut().zip(&option.costs) {
                    costs.push(cost);
                }
            }
            problem.offsets.push(problem.option_names.len());
        }
        check_sums(&problem)?;
        problem.decisions = merge(&problem, &root)?;
        check_feasible(&problem)?;
        Ok(problem)
    }
}

fn check_budgets(budgets: &[Budget]) -> Result<(), ProblemError> {
    if budgets.is_empty() {
        return Err(ProblemError::NoBudgets);
    }
    for (i, budget) in budgets.iter().enumerate() {
        if budget.resource.is_empty() {
            return Err(ProblemError::EmptyName { what: "budget".into(), index: i });
        }
        if budgets[..i].iter().any(|b| b.resource == budget.resource) {
            return Err(ProblemError::DuplicateResource { resource: budget.resource.clone() });
        }
    }
    Ok(())
}

fn check_groups<'a>(
    groups: &'a [GroupSpec],
    budgets: &[Budget],
) -> Result<HashMap<&'a str, usize>, ProblemError> {
    if groups.is_empty() {
        return Err(ProblemError::NoGroups);
    }
    let total: usize = groups.iter().map(|g| g.options.len()).sum();
    if total > MAX_OPTIONS {
        return Err(ProblemError::TooManyOptions { found: total, limit: MAX_OPTIONS });
    }
    let mut index = HashMap::with_capacity(groups.len());
    let mut total_size = 0_u64;
    let mut seen = HashMap::new();
    for (i, group) in groups.iter().enumerate() {
        if group.name.is_empty() {
            return Err(ProblemError::EmptyName { what: "group".into(), index: i });
        }
        if index.insert(&*group.name, i).is_some() {
            return Err(ProblemError::DuplicateGroup { group: group.name.to_string() });
        }
        if group.options.is_empty() {
            return Err(ProblemError::EmptyGroup { group: group.name.to_string() });
        }
        if group.size == 0 {
            return Err(ProblemError::ZeroSize { group: group.name.to_string() });
        }
        total_size = total_size
            .checked_add(group.size)
            .ok_or_else(|| ProblemError::SizeOverflow { group: group.name.to_string() })?;
        seen.clear();
        for (k, option) in group.options.iter().enumerate() {
            if option.name.is_empty() {
                return Err(ProblemError::EmptyName {
                    what: format!("option of group `{}`", group.name),
                    index: k,
                });
            }
            if seen.insert(&*option.name, k).is_some() {
                return Err(ProblemError::DuplicateOption {
                    group: group.name.to_string(),
                    option: option.name.to_string(),
                });
            }
            if option.costs.len() != budgets.len() {
                return Err(ProblemError::CostCount {
                    group: group.name.to_string(),
                    option: option.name.to_string(),
                    expected: budgets.len(),
                    found: option.costs.len(),
                });
            }
        }
    }
    Ok(index)
}

fn lookup(
    place: &'static str,
    name: &str,
    groups: &[GroupSpec],
    index: &HashMap<&str, usize>,
) -> Result<usize, ProblemError> {
    index.get(name).copied().ok_or_else(|| {
        let lower = name.to_lowercase();
        let near = groups.iter().find(|g| {
            let other = g.name.to_lowercase();
            other == lower || other.contains(&lower) || lower.contains(&*other)
        });
        ProblemError::UnknownGroup {
            place,
            group: name.to_owned(),
            hint: near.map(|g| format!(": did you mean `{}`?", g.name)).unwrap_or_default(),
        }
    })
}

fn resolve_fixed(
    groups: &[GroupSpec],
    index: &HashMap<&str, usize>,
    fixed: &[(String, String)],
) -> Result<Vec<Option<u32>>, ProblemError> {
    let mut out: Vec<Option<u32>> = vec![None; groups.len()];
    let mut names: HashMap<usize, HashMap<&str, u32>> = HashMap::new();
    for (name, option) in fixed {
        let group = lookup("a fixed choice", name, groups, index)?;
        let options = &groups[group].options;
        let by_name = names.entry(group).or_insert_with(|| {
            options.iter().enumerate().map(|(k, option)| (&*option.name, k as u32)).collect()
        });
        let k =
            by_name.get(option.as_str()).copied().ok_or_else(|| ProblemError::UnknownOption {
                group: name.clone(),
                option: option.clone(),
                available: options
                    .iter()
                    .map(|o| format!("`{}`", o.name))
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        if let Some(first) = out[group]
            && first != k
        {
            return Err(ProblemError::FixedTwice {
                group: name.clone(),
                first: options[first as usize].name.to_string(),
                second: option.clone(),
            });
        }
        out[group] = Some(k);
    }
    Ok(out)
}

/// Joins ties that share groups; returns for each group the smallest group it is tied to.
fn join_ties(
    groups: &[GroupSpec],
    index: &HashMap<&str, usize>,
    ties: &[Vec<String>],
) -> Result<Vec<usize>, ProblemError> {
    fn find(root: &mut [usize], mut i: usize) -> usize {
        while root[i] != i {
            root[i] = root[root[i]];
            i = root[i];
        }
        i
    }
    let mut root: Vec<usize> = (0..groups.len()).collect();
    for (number, tie) in ties.iter().enumerate() {
        if tie.len() < 2 {
            return Err(ProblemError::TieTooSmall { index: number, found: tie.len() });
        }
        let first = lookup("a tie", &tie[0], groups, index)?;
        for name in &tie[1..] {
            let other = lookup("a tie", name, groups, index)?;
            let (x, y) = (find(&mut root, first), find(&mut root, other));
            if x == y {
                continue;
            }
            let (a, b) = (&groups[first], &groups[other]);
            let differs = (0..a.options.len().max(b.options.len()))
                .find(|&k| a.options.get(k).map(|o| &o.name) != b.options.get(k).map(|o| &o.name));
            if let Some(k) = differs {
                let option = a.options.get(k).or_else(|| b.options.get(k));
                return Err(ProblemError::TieOptions {
                    group: a.name.to_string(),
                    other: b.name.to_string(),
                    option: option.map(|o| o.name.to_string()).unwrap_or_default(),
                });
            }
            root[x.max(y)] = x.min(y);
        }
    }
    for i in 0..root.len() {
        root[i] = find(&mut root, i);
    }
    Ok(root)
}

/// The sum of the largest costs must fit into 63 bits, so that every later sum
/// and every difference of two sums does.
fn check_sums(problem: &Problem) -> Result<(), ProblemError> {
    for (r, budget) in problem.budgets.iter().enumerate() {
        let mut sum = 0_u64;
        for group in 0..problem.group_count() {
            let largest = problem.costs[r][problem.options_of(group)].iter().max();
            sum = sum
                .checked_add(largest.copied().unwrap_or(0))
                .filter(|&s| i64::try_from(s).is_ok())
                .ok_or_else(|| ProblemError::CostOverflow {
                    resource: budget.resource.clone(),
                    group: problem.group_name(group).to_owned(),
                })?;
        }
    }
    Ok(())
}

fn merge(problem: &Problem, root: &[usize]) -> Result<Decisions, ProblemError> {
    let mut members_of: Vec<Vec<u32>> = vec![Vec::new(); root.len()];
    for (group, &r) in root.iter().enumerate() {
        members_of[r].push(group as u32);
    }
    let mut out = problem.decisions.clone();
    for members in members_of.iter().filter(|m| !m.is_empty()) {
        let mut fixed: Option<(u32, u32)> = None;
        for &group in members {
            let Some(option) = problem.fixed[group as usize] else { continue };
            match fixed {
                Some((first, other)) if other != option => {
                    let name =
                        |g: u32, k: u32| problem.option_name(g as usize, k as usize).to_owned();
                    return Err(ProblemError::TieFixed {
                        group: problem.group_name(first as usize).to_owned(),
                        option: name(first, other),
                        other: problem.group_name(group as usize).to_owned(),
                        other_option: name(group, option),
                    });
                }
                _ => fixed = Some((group, option)),
            }
        }
        let count = problem.options_of(members[0] as usize).len() as u32;
        let available = match fixed {
            Some((_, option)) => option..option + 1,
            None => 0..count,
        };
        for option in available {
            out.option_index.push(option);
            for (costs, all) in out.costs.iter_mut().zip(&problem.costs) {
                let start = |&g: &u32| problem.offsets[g as usize] + option as usize;
                costs.push(members.iter().map(|g| all[start(g)]).sum());
            }
        }
        out.offsets.push(out.option_index.len());
        out.sizes.push(members.iter().map(|&g| problem.sizes[g as usize]).sum());
        out.members.extend_from_slice(members);
        out.member_offsets.push(out.members.len());
    }
    Ok(out)
}

fn check_feasible(problem: &Problem) -> Result<(), ProblemError> {
    for (r, budget) in problem.budgets.iter().enumerate() {
        let (smallest, largest) = problem.cost_range(r);
        if smallest > budget.limit {
            return Err(ProblemError::BudgetTooSmall {
                resource: budget.resource.clone(),
                limit: budget.limit,
                smallest,
                blockers: blockers(problem, r),
            });
        }
        if budget.kind == BudgetKind::Exactly && largest < budget.limit {
            return Err(ProblemError::BudgetTooLarge {
                resource: budget.resource.clone(),
                limit: budget.limit,
                largest,
            });
        }
    }
    Ok(())
}

/// The groups that hold the smallest total up: first those held up by a fixed
/// choice or a tie, then those with the largest cheapest option.
fn blockers(problem: &Problem, resource: usize) -> Vec<Blocker> {
    let decisions = &problem.decisions;
    let mut all: Vec<Blocker> = (0..decisions.len())
        .flat_map(|d| {
            let cheapest = decisions.options_of(d).min_by_key(|&j| decisions.costs[resource][j]);
            let option = cheapest.map_or(0, |j| decisions.option_index[j] as usize);
            decisions.members(d).iter().map(move |&g| {
                let group = g as usize;
                let costs = &problem.costs[resource][problem.options_of(group)];
                let free = costs.iter().min().copied().unwrap_or(0);
                Blocker {
                    group: problem.group_name(group).to_owned(),
                    option: problem.option_name(group, option).to_owned(),
                    cost: costs[option],
                    held_up: costs[option] - free,
                }
            })
        })
        .collect();
    all.sort_by(|a, b| {
        (b.held_up, b.cost).cmp(&(a.held_up, a.cost)).then_with(|| a.group.cmp(&b.group))
    });
    all.truncate(BLOCKERS_NAMED);
    all
}
