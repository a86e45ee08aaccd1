//! One test for each way in which a problem can be wrong, named after it.

use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem, ProblemBuilder, ProblemError};

fn group(name: &str, costs: &[u64]) -> GroupSpec {
    let options: Vec<OptionSpec> = costs
        .iter()
        .enumerate()
        .map(|(k, &cost)| OptionSpec::new(format!("o{k}"), [cost]))
        .collect();
    GroupSpec::new(name, options)
}

fn bytes(limit: u64) -> ProblemBuilder {
    Problem::builder().budget(Budget::at_most("bytes", limit))
}

fn error(builder: ProblemBuilder) -> ProblemError {
    builder.build().expect_err("the problem must be refused")
}

#[test]
fn no_groups() {
    assert_eq!(error(bytes(1)), ProblemError::NoGroups);
}

#[test]
fn no_budget() {
    let builder = Problem::builder().group(GroupSpec::new("a", [OptionSpec::new("x", [])]));
    assert_eq!(error(builder), ProblemError::NoBudgets);
}

#[test]
fn empty_group() {
    let found = error(bytes(1).group(group("a", &[])));
    assert_eq!(found, ProblemError::EmptyGroup { group: "a".into() });
}

#[test]
fn empty_names() {
    for builder in [
        bytes(9).group(group("", &[1])),
        bytes(9).group(GroupSpec::new("a", [OptionSpec::new("", [1])])),
        Problem::builder().budget(Budget::at_most("", 1)).group(group("a", &[1])),
    ] {
        assert!(matches!(error(builder), ProblemError::EmptyName { index: 0, .. }));
    }
}

#[test]
fn duplicate_group() {
    let found = error(bytes(9).group(group("a", &[1])).group(group("a", &[1])));
    assert_eq!(found, ProblemError::DuplicateGroup { group: "a".into() });
}

#[test]
fn duplicate_option() {
    let twice = [OptionSpec::new("x", [1]), OptionSpec::new("x", [2])];
    let found = error(bytes(9).group(GroupSpec::new("a", twice)));
    assert_eq!(found, ProblemError::DuplicateOption { group: "a".into(), option: "x".into() });
}

#[test]
fn duplicate_resource() {
    let builder = bytes(9).budget(Budget::exactly("bytes", 3));
    let found = error(builder.group(GroupSpec::new("a", [OptionSpec::new("x", [1, 1])])));
    assert_eq!(found, ProblemError::DuplicateResource { resource: "bytes".into() });
}

#[test]
fn wrong_number_of_costs() {
    let found = error(bytes(9).group(GroupSpec::new("a", [OptionSpec::new("x", [1, 2])])));
    assert!(matches!(found, ProblemError::CostCount { expected: 1, found: 2, .. }));
}

#[test]
fn costs_overflow() {
    let half = 1_u64 << 62;
    let found = error(bytes(9).group(group("a", &[half])).group(group("b", &[half])));
    assert_eq!(found, ProblemError::CostOverflow { resource: "bytes".into(), group: "b".into() });
    assert!(matches!(
        error(bytes(u64::MAX).group(group("a", &[u64::MAX]))),
        ProblemError::CostOverflow { .. }
    ));
}

#[test]
fn sizes_overflow() {
    let builder = bytes(9).group(group("a", &[1]).size(u64::MAX)).group(group("b", &[1]));
    assert_eq!(error(builder), ProblemError::SizeOverflow { group: "b".into() });
}

#[test]
fn size_zero() {
    let found = error(bytes(9).group(group("a", &[1]).size(0)));
    assert_eq!(found, ProblemError::ZeroSize { group: "a".into() });
}

#[test]
fn tie_with_unknown_group() {
    let found = error(bytes(9).group(group("ffn_up", &[1])).tie(["ffn_up", "UP"]));
    let text = found.to_string();
    assert!(matches!(found, ProblemError::UnknownGroup { .. }));
    assert!(text.contains("a tie") && text.contains("did you mean `ffn_up`"), "{text}");
}

#[test]
fn tie_of_one() {
    let found = error(bytes(9).group(group("a", &[1])).tie(["a"]));
    assert_eq!(found, ProblemError::TieTooSmall { index: 0, found: 1 });
}

#[test]
fn tie_with_different_options() {
    let found = error(bytes(9).group(group("a", &[1])).group(group("b", &[1, 2])).tie(["a", "b"]));
    assert_eq!(
        found,
        ProblemError::TieOptions { group: "a".into(), other: "b".into(), option: "o1".into() }
    );
}

#[test]
fn fixed_unknown_group() {
    let found = error(bytes(9).group(group("a", &[1])).fix("zzz", "o0"));
    assert!(matches!(found, ProblemError::UnknownGroup { place: "a fixed choice", .. }));
}

#[test]
fn fixed_unknown_option() {
    let found = error(bytes(9).group(group("a", &[1, 2])).fix("a", "Q9"));
    let text = found.to_string();
    assert!(matches!(found, ProblemError::UnknownOption { .. }));
    assert!(text.contains("`o0`, `o1`"), "{text}");
}

#[test]
fn fixed_twice() {
    let found = error(bytes(9).group(group("a", &[1, 2])).fix("a", "o0").fix("a", "o1"));
    assert!(matches!(found, ProblemError::FixedTwice { .. }));
    assert!(bytes(9).group(group("a", &[1, 2])).fix("a", "o0").fix("a", "o0").build().is_ok());
}

#[test]
fn tied_groups_fixed_differently() {
    let builder = bytes(9).group(group("a", &[1, 2])).group(group("b", &[1, 2]));
    let found = error(builder.tie(["a", "b"]).fix("a", "o0").fix("b", "o1"));
    assert!(matches!(found, ProblemError::TieFixed { .. }));
}

#[test]
fn budget_too_small_names_the_smallest_and_the_blocker() {
    let builder = bytes(9).group(group("small", &[1, 5])).group(group("large", &[10, 20]));
    let found = error(builder.fix("small", "o1"));
    let text = found.to_string();
    let ProblemError::BudgetTooSmall { limit: 9, smallest: 15, blockers, .. } = found else {
        panic!("{text}");
    };
    assert_eq!((&*blockers[0].group, blockers[0].held_up), ("small", 4));
    assert_eq!((&*blockers[1].group, blockers[1].cost), ("large", 10));
    assert!(text.contains("6 more") && text.contains("fixed choice"), "{text}");
}

#[test]
fn budget_of_exactly_too_much() {
    let builder = Problem::builder().budget(Budget::exactly("experts", 9));
    let found = error(builder.group(group("a", &[0, 1])));
    assert_eq!(
        found,
        ProblemError::BudgetTooLarge { resource: "experts".into(), limit: 9, largest: 1 }
    );
}

#[test]
fn value_is_nan() {
    let problem = bytes(9).group(group("a", &[1])).group(group("b", &[1, 2])).build().unwrap();
    let found = problem.check_values("loss", &[0.0, 1.0, f64::NAN]).unwrap_err();
    let text = found.to_string();
    assert!(matches!(found, ProblemError::NotFinite { .. }));
    assert!(text.contains("loss of option `o1` of group `b`"), "{text}");
    assert!(problem.check_values("loss", &[f64::INFINITY, 1.0, 0.0]).is_err());
}

#[test]
fn wrong_number_of_values() {
    let problem = bytes(9).group(group("a", &[1, 2])).build().unwrap();
    assert!(matches!(
        problem.check_values("loss", &[0.0]),
        Err(ProblemError::ValueCount { expected: 2, found: 1, .. })
    ));
}

#[test]
fn assignments_that_do_not_belong() {
    let problem = bytes(99)
        .groups(["a", "b", "c"].map(|name| group(name, &[1, 2])))
        .tie(["a", "b"])
        .fix("c", "o1")
        .build()
        .unwrap();
    let check = |choices: &[u32]| problem.check(&Assignment::new(choices.to_vec()));
    assert!(matches!(check(&[0, 0]), Err(ProblemError::AssignmentLength { .. })));
    assert!(matches!(check(&[0, 0, 7]), Err(ProblemError::AssignmentOption { option: 7, .. })));
    assert!(matches!(check(&[0, 0, 0]), Err(ProblemError::AssignmentFixed { .. })));
    assert!(matches!(check(&[0, 1, 1]), Err(ProblemError::AssignmentTie { .. })));
    assert_eq!(check(&[1, 1, 1]), Ok(()));
}

#[test]
fn ties_and_fixed_choices_become_decisions() {
    let problem = bytes(99)
        .groups(
            [("a", [1, 2]), ("b", [10, 20]), ("c", [100, 200]), ("d", [5, 7])]
                .map(|(name, costs)| group(name, &costs.map(|c: u64| c.min(50))).size(3)),
        )
        .tie(["a", "c"])
        .fix("d", "o1")
        .build()
        .unwrap();
    let decisions = problem.decisions();
    assert_eq!(decisions.len(), 3);
    assert_eq!(decisions.members(0), [0, 2]);
    assert_eq!(decisions.costs(0), [51, 52, 10, 20, 7]);
    assert_eq!(decisions.sizes(), [6, 3, 3]);
    let assignment = decisions.expand(&[1, 0, 0]);
    assert_eq!(assignment.choices(), [1, 0, 1, 1]);
    assert_eq!(decisions.restrict(&assignment), [1, 0, 0]);
    assert_eq!(problem.cost(&assignment), [52 + 10 + 7]);
    assert_eq!(decisions.cost_of(&[1, 0, 0], 0), 69);
    let mut folded = vec![0.0; decisions.option_count()];
    decisions.fold(&problem, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut folded);
    assert_eq!(folded, [6.0, 8.0, 3.0, 4.0, 8.0]);
}
