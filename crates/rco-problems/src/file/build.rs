//! From the document to the problem and its objective.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rco_core::search::Objective;
use rco_core::{Budget, BudgetKind, GroupSpec, OptionSpec, Problem, ProblemError};

use super::document::{BudgetEntry, OptionEntry, ProblemFile};
use super::error::{FileErrorKind, names};
use super::quantity::{BudgetOverride, Quantity, QuantityError};
use super::scalar::{Integer, Limit, Real, Scalar};
use crate::objectives::{Pair, Quadratic, Separable};

/// Largest number of budgets: the work grows with its cube.
const MAX_BUDGETS: usize = 64;

/// A problem with its objective, as read from a file.
pub struct Instance {
    /// Name of the problem, if the file gives one.
    pub name: Option<String>,
    /// Description, if the file gives one.
    pub description: Option<String>,
    /// The validated problem.
    pub problem: Problem,
    /// The loss: [`Separable`], or [`Quadratic`] if the file has pairs.
    pub objective: Box<dyn Objective + Send>,
    /// Number of pair terms.
    pub pairs: usize,
    /// Whether the file has held-out losses.
    pub heldout: bool,
    /// SHA-256 of the file, in hexadecimal digits; empty if it was not read from one.
    pub sha256: String,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("name", &self.name)
            .field("problem", &self.problem)
            .field("objective", &self.objective.fingerprint())
            .finish_non_exhaustive()
    }
}

impl ProblemFile {
    /// Checks every value and builds the problem and its objective. `budgets` replace
    /// or complete those of the file.
    ///
    /// # Errors
    /// What is wrong, by the names of groups and options.
    pub fn into_instance(self, budgets: &[BudgetOverride]) -> Result<Instance, FileErrorKind> {
        let budgets = merge_budgets(&self.budgets, budgets)?;
        let mut losses = Losses::default();
        let mut interned: HashSet<Arc<str>> = HashSet::new();
        let mut groups = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let mut options = Vec::with_capacity(group.options.len());
            for option in &group.options {
                let place = Place { group: &group.name, option };
                let costs = place.costs(&budgets)?;
                losses.push(&place)?;
                let name = interned.get(option.name.as_str()).cloned().unwrap_or_else(|| {
                    let name: Arc<str> = option.name.as_str().into();
                    interned.insert(name.clone());
                    name
                });
                options.push(OptionSpec::new(name, costs));
            }
            let size = group
                .size
                .as_ref()
                .map(|size| integer(size, || format!("size of group `{}`", group.name)));
            groups.push(
                GroupSpec::new(group.name.as_str(), options).size(size.transpose()?.unwrap_or(1)),
            );
        }
        losses.check_complete(&self)?;

        let mut builder = Problem::builder().groups(groups);
        for budget in budgets {
            builder = builder.budget(budget);
        }
        for tie in &self.ties {
            builder = builder.tie(tie.iter().cloned());
        }
        for (group, option) in &self.fixed.0 {
            builder = builder.fix(group.clone(), option.clone());
        }
        let problem = builder.build()?;

        let pairs = resolve_pairs(&problem, &self)?;
        let pair_count = pairs.len();
        let heldout = !losses.heldout.is_empty();
        let objective: Box<dyn Objective + Send> = if pairs.is_empty() {
            let separable = Separable::new(&problem, losses.calibration)?;
            Box::new(if heldout {
                separable.with_heldout(&problem, losses.heldout)?
            } else {
                separable
            })
        } else {
            let quadratic = Quadratic::new(&problem, losses.calibration, pairs)?;
            Box::new(if heldout {
                quadratic.with_heldout(&problem, losses.heldout)?
            } else {
                quadratic
            })
        };
        let (name, description) = (self.name, self.description);
        Ok(Instance {
            name,
            description,
            problem,
            objective,
            pairs: pair_count,
            heldout,
            sha256: String::new(),
        })
    }
}

/// An option and where it stands.
struct Place<'a> {
    group: &'a str,
    option: &'a OptionEntry,
}

impl Place<'_> {
    fn of(&self, what: &str) -> String {
        format!("{what} of option `{}` of group `{}`", self.option.name, self.group)
    }

    fn names(&self) -> (String, String) {
        (self.group.to_owned(), self.option.name.clone())
    }

    /// One cost for each budget, in their order.
    fn costs(&self, budgets: &[Budget]) -> Result<Vec<u64>, FileErrorKind> {
        let (group, option) = self.names();
        match (&self.option.cost, &self.option.costs) {
            (Some(_), Some(_)) => Err(FileErrorKind::CostAndCosts { group, option }),
            (Some(cost), None) if budgets.len() == 1 => {
                Ok(vec![integer(cost, || self.of("cost"))?])
            }
            (Some(_), None) => {
                Err(FileErrorKind::AmbiguousCost { group, option, budgets: budgets.len() })
            }
            (None, None) => {
                let resource = budgets.first().map(|b| b.resource.clone()).unwrap_or_default();
                Err(FileErrorKind::MissingCost { group, option, resource })
            }
            (None, Some(entries)) => {
                let mut costs = vec![None; budgets.len()];
                for (resource, cost) in &entries.0 {
                    let resource = resource.clone();
                    let Some(r) = budgets.iter().position(|b| b.resource == resource) else {
                        let known = names(budgets.iter().map(|b| b.resource.as_str()));
                        return Err(FileErrorKind::CostWithoutBudget {
                            group,
                            option,
                            resource,
                            known,
                        });
                    };
                    let value = integer(cost, || self.of(&format!("cost in `{resource}`")))?;
                    if costs[r].replace(value).is_some() {
                        return Err(FileErrorKind::DuplicateCost { group, option, resource });
                    }
                }
                let missing = costs.iter().position(Option::is_none);
                if let Some(r) = missing {
                    let resource = budgets[r].resource.clone();
                    return Err(FileErrorKind::MissingCost { group, option, resource });
                }
                Ok(costs.into_iter().flatten().collect())
            }
        }
    }
}

#[derive(Default)]
struct Losses {
    calibration: Vec<f64>,
    /// Empty, or one entry per option.
    heldout: Vec<f64>,
}

impl Losses {
    fn push(&mut self, place: &Place<'_>) -> Result<(), FileErrorKind> {
        self.calibration.push(real(&place.option.loss, || place.of("loss"))?);
        if let Some(loss) = &place.option.heldout_loss {
            self.heldout.push(real(loss, || place.of("held-out loss"))?);
        }
        Ok(())
    }

    fn check_complete(&self, file: &ProblemFile) -> Result<(), FileErrorKind> {
        if self.heldout.is_empty() || self.heldout.len() == self.calibration.len() {
            return Ok(());
        }
        let first = file.groups.iter().find_map(|group| {
            let option = group.options.iter().find(|o| o.heldout_loss.is_none())?;
            Some((group.name.clone(), option.name.clone()))
        });
        let (group, option) = first.unwrap_or_default();
        Err(FileErrorKind::HeldOutIncomplete { group, option })
    }
}

fn integer(value: &Integer, what: impl FnOnce() -> String) -> Result<u64, FileErrorKind> {
    let found = value.0.to_string();
    Err(match &value.0 {
        Scalar::Unsigned(v) if i64::try_from(*v).is_ok() => return Ok(*v),
        Scalar::Unsigned(_) => FileErrorKind::NumberTooLarge { what: what(), found },
        Scalar::Negative(_) => FileErrorKind::NegativeNumber { what: what(), found },
        // A whole number above 2⁶⁴ arrives as a float.
        Scalar::Float(v) if *v < 0.0 => FileErrorKind::NegativeNumber { what: what(), found },
        Scalar::Float(v) if *v >= i64::MAX as f64 => {
            FileErrorKind::NumberTooLarge { what: what(), found }
        }
        Scalar::Float(_) => FileErrorKind::FractionalNumber { what: what(), found },
        Scalar::Text(_) => FileErrorKind::NumberAsText { what: what(), found },
    })
}

fn real(value: &Real, what: impl FnOnce() -> String) -> Result<f64, FileErrorKind> {
    match &value.0 {
        Scalar::Unsigned(v) => Ok(*v as f64),
        Scalar::Negative(v) => Ok(*v as f64),
        Scalar::Float(v) => Ok(*v),
        Scalar::Text(_) => {
            Err(FileErrorKind::NumberAsText { what: what(), found: value.0.to_string() })
        }
    }
}

fn limit(entry: &BudgetEntry) -> Result<u64, FileErrorKind> {
    let Limit(scalar) = &entry.limit;
    let Scalar::Text(text) = scalar else {
        return integer(&Integer(scalar.clone()), || format!("limit of `{}`", entry.resource));
    };
    let wrong = |source| FileErrorKind::Limit { resource: entry.resource.clone(), source };
    let quantity: Quantity = text.parse().map_err(wrong)?;
    if BudgetKind::from(entry.kind) == BudgetKind::Exactly && !quantity.exact {
        return Err(wrong(QuantityError::Fraction { text: text.clone() }));
    }
    Ok(quantity.value)
}

/// The budgets of the file with those from outside put in their places.
fn merge_budgets(
    entries: &[BudgetEntry],
    given: &[BudgetOverride],
) -> Result<Vec<Budget>, FileErrorKind> {
    let found = entries.len().max(given.len());
    if found > MAX_BUDGETS {
        return Err(FileErrorKind::TooManyBudgets { found, limit: MAX_BUDGETS });
    }
    let mut budgets = entries
        .iter()
        .map(|entry| {
            let (resource, limit) = (entry.resource.clone(), limit(entry)?);
            Ok(Budget { resource, limit, kind: entry.kind.into() })
        })
        .collect::<Result<Vec<Budget>, FileErrorKind>>()?;
    // Checked here and not with the rest of the problem: the costs are read by resource.
    let mut seen = HashSet::new();
    if let Some(twice) = budgets.iter().find(|b| !seen.insert(b.resource.as_str())) {
        return Err(ProblemError::DuplicateResource { resource: twice.resource.clone() }.into());
    }
    for new in given {
        let at = match &new.resource {
            Some(resource) => budgets.iter().position(|b| b.resource == *resource),
            None => (budgets.len() == 1).then_some(0),
        };
        let known = || names(entries.iter().map(|b| b.resource.as_str()));
        let limit = new.limit;
        match (at, &new.resource) {
            (Some(at), _) => {
                budgets[at].limit = limit;
                budgets[at].kind = new.kind.unwrap_or(budgets[at].kind);
            }
            (None, Some(resource)) if entries.is_empty() => budgets.push(Budget {
                resource: resource.clone(),
                limit,
                kind: new.kind.unwrap_or_default(),
            }),
            (None, Some(resource)) => {
                let resource = resource.clone();
                return Err(FileErrorKind::UnknownBudget { resource, known: known() });
            }
            (None, None) if entries.is_empty() => {
                budgets.push(Budget {
                    resource: "cost".into(),
                    limit,
                    kind: new.kind.unwrap_or_default(),
                });
            }
            (None, None) => {
                return Err(FileErrorKind::AmbiguousBudget { limit, known: known() });
            }
        }
    }
    Ok(budgets)
}

fn resolve_pairs(problem: &Problem, file: &ProblemFile) -> Result<Vec<Pair>, FileErrorKind> {
    if file.pairs.is_empty() {
        return Ok(Vec::new());
    }
    let index: HashMap<&str, usize> =
        (0..problem.group_count()).map(|g| (problem.group_name(g), g)).collect();
    let mut options: HashMap<(usize, &str), usize> = HashMap::new();
    for group in 0..problem.group_count() {
        let flat = problem.options_of(group);
        options.extend(
            flat.enumerate().map(|(k, flat)| ((group, problem.option_name(group, k)), flat)),
        );
    }
    let mut seen = HashSet::with_capacity(file.pairs.len());
    let mut pairs = Vec::with_capacity(file.pairs.len());
    for (number, entry) in file.pairs.iter().enumerate() {
        let mut flat = [0_usize; 2];
        for ((name, option), flat) in entry.groups.iter().zip(&entry.options).zip(&mut flat) {
            let &group = index.get(name.as_str()).ok_or_else(|| {
                FileErrorKind::PairUnknownGroup { pair: number, group: name.clone() }
            })?;
            *flat = *options.get(&(group, option.as_str())).ok_or_else(|| {
                FileErrorKind::PairUnknownOption {
                    pair: number,
                    group: name.clone(),
                    option: option.clone(),
                }
            })?;
        }
        let [first, second] = &entry.groups;
        if first == second {
            return Err(FileErrorKind::PairSameGroup { pair: number, group: first.clone() });
        }
        if !seen.insert((flat[0].min(flat[1]), flat[0].max(flat[1]))) {
            return Err(FileErrorKind::DuplicatePair {
                first: first.clone(),
                first_option: entry.options[0].clone(),
                second: second.clone(),
                second_option: entry.options[1].clone(),
            });
        }
        let what = || format!("loss of pair number {number}");
        let loss = real(&entry.loss, what)?;
        let heldout = entry.heldout_loss.as_ref().map(|loss| real(loss, what)).transpose()?;
        pairs.push(Pair { options: flat, loss, heldout_loss: heldout });
    }
    Ok(pairs)
}
