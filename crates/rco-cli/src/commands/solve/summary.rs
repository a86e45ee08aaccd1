//! Summaries of a plan: by option, and by groups of like names.

use std::collections::HashMap;

use rco_core::Problem;
use rco_core::search::SearchOutcome;

/// The groups that chose an option of one name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct OptionUse {
    pub(super) option: String,
    pub(super) groups: u64,
    /// Sum of sizes.
    pub(super) size: u64,
    /// Total cost in every resource.
    pub(super) costs: Vec<u64>,
}

/// How often each option was chosen, cheapest per unit of size first.
pub(super) fn by_option(problem: &Problem, outcome: &SearchOutcome) -> Vec<OptionUse> {
    let resources = problem.budgets().len();
    let mut uses: Vec<OptionUse> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for group in 0..problem.group_count() {
        let choice = outcome.assignment.option(group);
        let name = problem.option_name(group, choice);
        let at = *index.entry(name).or_insert_with(|| {
            uses.push(OptionUse {
                option: name.to_owned(),
                costs: vec![0; resources],
                ..OptionUse::default()
            });
            uses.len() - 1
        });
        let flat = problem.options_of(group).start + choice;
        uses[at].groups += 1;
        uses[at].size += problem.size(group);
        for (r, cost) in uses[at].costs.iter_mut().enumerate() {
            *cost += problem.costs(r)[flat];
        }
    }
    let ratio = |u: &OptionUse| u.costs[0] as f64 / u.size as f64;
    uses.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)).then_with(|| a.option.cmp(&b.option)));
    uses
}

/// Groups whose names differ in their numbers only.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    /// The name with `*` for each number.
    pub(super) pattern: String,
    pub(super) groups: u64,
    /// Options chosen and how often, most frequent first.
    pub(super) options: Vec<(String, u64)>,
}

/// The plan by families of groups, in the order of their first group; empty if the
/// names are of no help.
pub(super) fn by_family(problem: &Problem, outcome: &SearchOutcome) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for group in 0..problem.group_count() {
        let pattern = pattern_of(problem.group_name(group));
        let at = *index.entry(pattern.clone()).or_insert_with(|| {
            families.push(Family { pattern, groups: 0, options: Vec::new() });
            families.len() - 1
        });
        let family = &mut families[at];
        family.groups += 1;
        let name = problem.option_name(group, outcome.assignment.option(group));
        match family.options.iter_mut().find(|(option, _)| option == name) {
            Some((_, count)) => *count += 1,
            None => family.options.push((name.to_owned(), 1)),
        }
    }
    for family in &mut families {
        family.options.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    }
    if families.len() < 2 || families.len() * 2 > problem.group_count() {
        families.clear();
    }
    families
}

/// The name with each run of digits replaced by `*`.
fn pattern_of(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if !c.is_ascii_digit() {
            pattern.push(c);
        } else if !pattern.ends_with('*') {
            pattern.push('*');
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_become_stars() {
        assert_eq!(pattern_of("blk.12.ffn_down.weight"), "blk.*.ffn_down.weight");
        assert_eq!(pattern_of("l3.e127"), "l*.e*");
        assert_eq!(pattern_of("output"), "output");
    }
}
