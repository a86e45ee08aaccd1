//! What can be wrong with a problem or an assignment.

use std::fmt;

/// A group that keeps the smallest total cost up, named by an infeasibility error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Name of the group.
    pub group: String,
    /// Its cheapest available option.
    pub option: String,
    /// The cost of that option.
    pub cost: u64,
    /// What this group alone would save if its fixed choice or tie were released.
    pub held_up: u64,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` needs at least {} (option `{}`)", self.group, self.cost, self.option)?;
        if self.held_up > 0 {
            write!(f, ", {} of it because of its fixed choice or tie", self.held_up)?;
        }
        Ok(())
    }
}

/// Everything that makes a problem, or an assignment of it, invalid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// There is no group.
    #[error("the problem has no groups: add at least one group with options")]
    NoGroups,
    /// There is no budget.
    #[error("the problem has no budget: add at least one budget, such as `bytes` at most 1000")]
    NoBudgets,
    /// A group has no option.
    #[error("group `{group}` has no options: give it at least one")]
    EmptyGroup {
        /// Name of the group.
        group: String,
    },
    /// A name is empty.
    #[error("{what} number {index} has an empty name")]
    EmptyName {
        /// `group`, `budget`, or `option of group ...`.
        what: String,
        /// Position, counted from 0.
        index: usize,
    },
    /// Two groups share a name.
    #[error("two groups are called `{group}`: names must differ")]
    DuplicateGroup {
        /// The repeated name.
        group: String,
    },
    /// Two options of one group share a name.
    #[error("group `{group}` has two options called `{option}`: names must differ within a group")]
    DuplicateOption {
        /// Name of the group.
        group: String,
        /// The repeated name.
        option: String,
    },
    /// Two budgets limit the same resource.
    #[error("two budgets limit `{resource}`: give each resource one budget")]
    DuplicateResource {
        /// The repeated resource.
        resource: String,
    },
    /// An option does not have one cost for each resource.
    #[error(
        "option `{option}` of group `{group}` has {found} costs, but there are {expected} \
         budgets: give one cost for each, in the same order"
    )]
    CostCount {
        /// Name of the group.
        group: String,
        /// Name of the option.
        option: String,
        /// Number of budgets.
        expected: usize,
        /// Number of costs found.
        found: usize,
    },
    /// The largest possible total cost does not fit into 63 bits.
    #[error(
        "the costs in `{resource}` add up to more than 2^63 - 1 by group `{group}`: \
         use a larger unit"
    )]
    CostOverflow {
        /// The resource whose sum overflows.
        resource: String,
        /// The group at which the running sum overflows.
        group: String,
    },
    /// The sizes of the groups do not add up within 64 bits.
    #[error("the sizes of the groups add up to more than 2^64 - 1 by group `{group}`")]
    SizeOverflow {
        /// The group at which the running sum overflows.
        group: String,
    },
    /// A group has size 0.
    #[error("group `{group}` has size 0: a size is a number of weights, at least 1")]
    ZeroSize {
        /// Name of the group.
        group: String,
    },
    /// The problem has more options than indices can hold.
    #[error("the problem has {found} options, more than the {limit} that are supported")]
    TooManyOptions {
        /// Options found.
        found: usize,
        /// Largest supported number.
        limit: usize,
    },
    /// A tie or a fixed choice names a group that does not exist.
    #[error("{place} names group `{group}`, which does not exist{hint}")]
    UnknownGroup {
        /// Where the name was used (`a tie`, `a fixed choice`).
        place: &'static str,
        /// The unknown name.
        group: String,
        /// Either empty or `: did you mean ...?`.
        hint: String,
    },
    /// A fixed choice names an option that its group does not have.
    #[error("group `{group}` has no option `{option}`; it has {available}")]
    UnknownOption {
        /// Name of the group.
        group: String,
        /// The unknown option.
        option: String,
        /// The options it has, for the message.
        available: String,
    },
    /// Tied groups offer different options.
    #[error(
        "groups `{group}` and `{other}` are tied but offer different options: `{option}` is \
         not among the options of `{other}` at the same position; tied groups need equal \
         option lists"
    )]
    TieOptions {
        /// First group of the tie.
        group: String,
        /// The group that differs.
        other: String,
        /// The first option that differs.
        option: String,
    },
    /// A tie has fewer than two groups.
    #[error("tie number {index} has {found} group(s): a tie needs at least two")]
    TieTooSmall {
        /// Position of the tie, counted from 0.
        index: usize,
        /// Groups found.
        found: usize,
    },
    /// Tied groups are fixed to different options.
    #[error(
        "groups `{group}` and `{other}` are tied but fixed to different options (`{option}` and `{other_option}`)"
    )]
    TieFixed {
        /// First group.
        group: String,
        /// Its fixed option.
        option: String,
        /// Second group.
        other: String,
        /// Its fixed option.
        other_option: String,
    },
    /// One group is fixed twice to different options.
    #[error("group `{group}` is fixed twice, to `{first}` and to `{second}`")]
    FixedTwice {
        /// Name of the group.
        group: String,
        /// First option.
        first: String,
        /// Second option.
        second: String,
    },
    /// The budget is below the smallest possible total.
    #[error(
        "budget of {limit} {resource} is infeasible: the smallest possible total is \
         {smallest}, {missing} more; {blockers}", missing = smallest - limit, blockers = list(blockers)
    )]
    BudgetTooSmall {
        /// The resource.
        resource: String,
        /// The limit asked for.
        limit: u64,
        /// The smallest feasible limit.
        smallest: u64,
        /// The groups that hold the total up, largest first.
        blockers: Vec<Blocker>,
    },
    /// An `exactly` budget is above the largest possible total.
    #[error(
        "budget of exactly {limit} {resource} is infeasible: the largest possible total is {largest}"
    )]
    BudgetTooLarge {
        /// The resource.
        resource: String,
        /// The limit asked for.
        limit: u64,
        /// The largest feasible limit.
        largest: u64,
    },
    /// A value that must be a number is NaN or infinite.
    #[error("{what} is {value}: it must be a finite number")]
    NotFinite {
        /// The value's place, such as "loss of option `Q4_K` of group `blk.0.ffn_up`".
        what: String,
        /// `NaN`, `inf` or `-inf`.
        value: f64,
    },
    /// A list of values does not have one entry per option.
    #[error("{what} has {found} entries, but the problem has {expected} options")]
    ValueCount {
        /// Name of the list.
        what: String,
        /// Options in the problem.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// An assignment does not have one choice per group.
    #[error("the assignment has {found} choices, but the problem has {expected} groups")]
    AssignmentLength {
        /// Groups in the problem.
        expected: usize,
        /// Choices in the assignment.
        found: usize,
    },
    /// An assignment chooses an option that its group does not have.
    #[error(
        "the assignment chooses option number {option} of group `{group}`, which has only {count}"
    )]
    AssignmentOption {
        /// Name of the group.
        group: String,
        /// Chosen option, counted from 0.
        option: usize,
        /// Number of options.
        count: usize,
    },
    /// An assignment contradicts a fixed choice.
    #[error("the assignment chooses `{found}` for group `{group}`, which is fixed to `{fixed}`")]
    AssignmentFixed {
        /// Name of the group.
        group: String,
        /// The fixed option.
        fixed: String,
        /// The chosen option.
        found: String,
    },
    /// An assignment chooses differently for tied groups.
    #[error("the assignment chooses differently for the tied groups `{group}` and `{other}`")]
    AssignmentTie {
        /// First group.
        group: String,
        /// Second group.
        other: String,
    },
}

fn list(blockers: &[Blocker]) -> String {
    blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
