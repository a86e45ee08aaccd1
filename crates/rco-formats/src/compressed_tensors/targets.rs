//! Names of modules as few patterns.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Patterns (`re:…`) that match these modules and no other of a model: modules that differ in
/// the numbers of layer and expert share one. Each is anchored at both ends.
pub fn patterns<'a>(modules: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // Name with a gap for each number; then, for all but the first number, those of it.
    let mut shapes: BTreeMap<String, BTreeMap<Vec<String>, BTreeSet<Number>>> = BTreeMap::new();
    for module in modules {
        let (mut shape, mut numbers) = (String::new(), Vec::new());
        for part in module.split('.') {
            if !shape.is_empty() {
                shape.push('.');
            }
            if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
                shape.push('#');
                numbers.push(part.to_owned());
            } else {
                shape.push_str(part);
            }
        }
        let last = numbers.pop().unwrap_or_default();
        shapes.entry(shape).or_default().entry(numbers).or_default().insert(Number(last));
    }
    let mut out = Vec::new();
    for (shape, rows) in shapes {
        // Rows (layers) with the same last numbers (experts) go together.
        let mut sets: BTreeMap<(Vec<String>, BTreeSet<Number>), BTreeSet<Number>> = BTreeMap::new();
        for (mut first, last) in rows {
            let row = first.pop();
            sets.entry((first, last)).or_default().extend(row.map(Number));
        }
        for ((first, last), row) in sets {
            let row = (!row.is_empty()).then(|| any_of(&row));
            let mut numbers = first.into_iter().chain(row).chain([any_of(&last)]);
            let mut pattern = String::from("re:^");
            for c in shape.chars() {
                match c {
                    '#' => pattern.push_str(&numbers.next().unwrap_or_default()),
                    c if c.is_ascii_alphanumeric() || c == '_' => pattern.push(c),
                    c => {
                        let _ = write!(pattern, "\\{c}");
                    }
                }
            }
            pattern.push('$');
            out.push(pattern);
        }
    }
    out
}

/// Digits, in the order of their values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Number(String);

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn any_of(numbers: &BTreeSet<Number>) -> String {
    let all: Vec<&str> = numbers.iter().map(|n| n.0.as_str()).collect();
    match all.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("({})", several.join("|")),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::patterns;

    #[test]
    fn patterns_match_these_modules_and_no_others() {
        let all: Vec<String> = (0..12)
            .flat_map(|l| {
                let expert = move |e| format!("model.layers.{l}.mlp.experts.{e}.up_proj");
                (0..4).map(expert).chain([
                    format!("model.layers.{l}.self_attn.q_proj"),
                    format!("model.layers.{l}.self_attn.k_proj"),
                ])
            })
            .chain(["lm_head".to_owned()])
            .collect();
        for step in 1..7 {
            let chosen: Vec<&str> =
                all.iter().enumerate().filter(|(n, _)| n % step == 0).map(|(_, m)| &**m).collect();
            let found = patterns(chosen.iter().copied());
            let regexes: Vec<Regex> =
                found.iter().map(|p| Regex::new(p.strip_prefix("re:").unwrap()).unwrap()).collect();
            for module in &all {
                let matched = regexes.iter().filter(|r| r.is_match(module)).count();
                assert_eq!(matched, usize::from(chosen.contains(&&**module)), "{module} {found:?}");
            }
        }
        let whole = patterns(["a.0.b", "a.1.b", "a.10.b"]);
        assert_eq!(whole, ["re:^a\\.(0|1|10)\\.b$"]);
    }
}
