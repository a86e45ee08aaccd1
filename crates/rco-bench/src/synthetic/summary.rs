//! Means over instances, as a table.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Row;

/// One family and one contender, over all sizes, budgets and seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The family.
    pub family: String,
    /// The contender.
    pub method: String,
    /// Instances.
    pub instances: usize,
    /// Mean score in per cent: 100 is the optimum, 0 a random feasible plan.
    pub score: f64,
    /// Standard error of the mean score.
    pub standard_error: f64,
    /// Smallest score of all instances.
    pub worst: f64,
    /// Mean value divided by the optimal value, in per cent (separable families,
    /// whose values are positive).
    pub value_ratio: Option<f64>,
    /// Instances in which the optimum was found, to a relative 1e-9.
    pub solved: usize,
    /// Instances in which the plan of the method itself, before it is made feasible,
    /// exceeds the budget.
    pub raw_over_budget: usize,
    /// Mean cost of that plan relative to the budget, in per cent.
    pub raw_cost: Option<f64>,
    /// Returned plans over budget. Must be 0.
    pub over_budget: usize,
    /// Mean evaluations used.
    pub evaluations: f64,
    /// Mean seconds of one run.
    pub seconds: f64,
}

/// Groups rows by family and method; order of first appearance.
pub fn summarise(rows: &[Row]) -> Vec<Summary> {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut groups: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let key = (row.family.as_str(), row.method.as_str());
        groups
            .entry(key)
            .or_insert_with(|| {
                order.push(key);
                Vec::new()
            })
            .push(row);
    }
    order
        .into_iter()
        .map(|key| {
            let rows = &groups[&key];
            let n = rows.len() as f64;
            let mean = |value: &dyn Fn(&Row) -> f64| rows.iter().map(|r| value(r)).sum::<f64>() / n;
            let score = mean(&|r| r.score);
            let square = rows.iter().map(|r| (r.score - score).powi(2)).sum::<f64>();
            let some_mean = |values: Vec<f64>| {
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            Summary {
                family: key.0.to_owned(),
                method: key.1.to_owned(),
                instances: rows.len(),
                score,
                standard_error: if n > 1.0 { (square / (n - 1.0) / n).sqrt() } else { 0.0 },
                worst: rows.iter().map(|r| r.score).fold(f64::INFINITY, f64::min),
                value_ratio: some_mean(rows.iter().filter_map(|r| r.value_ratio).collect()),
                solved: rows.iter().filter(|r| r.score >= 100.0 - 1e-7).count(),
                raw_over_budget: rows.iter().filter(|r| r.raw_over_budget == Some(true)).count(),
                raw_cost: some_mean(rows.iter().filter_map(|r| r.raw_cost).collect()),
                over_budget: rows.iter().filter(|r| r.over_budget).count(),
                evaluations: mean(&|r| r.evaluations as f64),
                seconds: mean(&|r| r.seconds),
            }
        })
        .collect()
}
