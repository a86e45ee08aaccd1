//! Upper convex hull of the options of a decision (Sinha & Zoltners 1979, §2).

/// A move along the hull of one decision to its next dearer hull option.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Value gained per unit of reduced cost.
    pub(super) slope: f64,
    /// Reduced cost added, at least 1.
    pub(super) cost: i64,
    /// The decision.
    pub(super) decision: u32,
    /// The place that the step leads to.
    pub(super) place: u32,
}

/// Appends the steps of one decision, whose places begin at `start` with ascending
/// `cost` and with `value[flat[place]]`, and returns the place where its hull begins:
/// the best of the cheapest options. Slopes strictly decrease along the hull.
///
/// Without `descending`, only steps that gain value are appended: what is left out is
/// dominated under an `at most` budget.
pub(super) fn append_steps(
    start: usize,
    cost: &[i64],
    flat: &[u32],
    values: &[f64],
    decision: u32,
    descending: bool,
    steps: &mut Vec<Step>,
) -> u32 {
    let mut first = 0;
    let mut next = 1;
    while next < cost.len() && cost[next] == cost[0] {
        if values[flat[next] as usize] > values[flat[first] as usize] {
            first = next;
        }
        next += 1;
    }
    let bottom = steps.len();
    let (mut last_cost, mut last_value) = (cost[first], values[flat[first] as usize]);
    for k in next..cost.len() {
        let value = values[flat[k] as usize];
        if value <= last_value && (!descending || cost[k] == last_cost) {
            continue;
        }
        let (mut from_cost, mut from_value) = (last_cost, last_value);
        let mut slope;
        loop {
            let added = cost[k] - from_cost;
            slope = if added == 0 { f64::INFINITY } else { (value - from_value) / added as f64 };
            // A step that is not flatter than the one before makes that one's end concave.
            match steps[bottom..].last() {
                Some(top) if top.slope <= slope => {
                    from_cost -= top.cost;
                    steps.pop();
                    from_value = match steps[bottom..].last() {
                        Some(top) => values[flat[top.place as usize - start] as usize],
                        None => values[flat[first] as usize],
                    };
                }
                _ => break,
            }
        }
        steps.push(Step { slope, cost: cost[k] - from_cost, decision, place: (start + k) as u32 });
        (last_cost, last_value) = (cost[k], value);
    }
    (start + first) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hull(cost: &[i64], values: &[f64], descending: bool) -> (u32, Vec<(u32, f64)>) {
        let flat: Vec<u32> = (0..cost.len() as u32).collect();
        let mut steps = Vec::new();
        let first = append_steps(0, cost, &flat, values, 0, descending, &mut steps);
        (first, steps.iter().map(|step| (step.place, step.slope)).collect())
    }

    #[test]
    fn slopes_decrease_and_what_lies_below_the_hull_is_skipped() {
        // (2, 1) lies below the line from (0, 0) to (4, 8); (6, 7) is dominated.
        let (first, steps) = hull(&[0, 2, 4, 6, 8], &[0.0, 1.0, 8.0, 7.0, 10.0], false);
        assert_eq!((first, steps), (0, vec![(2, 2.0), (4, 0.5)]));
    }

    #[test]
    fn of_equal_costs_only_the_best_is_on_the_hull() {
        let (first, steps) = hull(&[0, 0, 3, 3, 3], &[1.0, 2.0, 4.0, 8.0, 5.0], false);
        assert_eq!((first, steps), (1, vec![(3, 2.0)]));
    }

    #[test]
    fn an_exactly_budget_needs_the_falling_side_too() {
        let (first, steps) = hull(&[0, 1, 2], &[0.0, 3.0, 1.0], true);
        assert_eq!((first, steps), (0, vec![(1, 3.0), (2, -2.0)]));
    }
}
