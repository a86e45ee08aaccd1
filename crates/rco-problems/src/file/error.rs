//! What can be wrong with a problem file.

use rco_core::ProblemError;

use super::quantity::QuantityError;
use crate::objectives::QuadraticError;

/// A problem file could not be read: which file and why.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {kind}")]
pub struct FileError {
    /// The file, as it was named.
    pub file: String,
    /// What is wrong.
    #[source]
    pub kind: Box<FileErrorKind>,
}

impl FileError {
    pub(super) fn new(file: &str, kind: impl Into<FileErrorKind>) -> Self {
        Self { file: file.to_owned(), kind: Box::new(kind.into()) }
    }
}

/// Everything that can be wrong with a problem file. Lines and columns count from 1,
/// columns in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The name ends neither in `.json` nor in `.csv`.
    #[error(
        "the name must end in .json or .csv, so that the format is known; it ends in `{found}`"
    )]
    UnknownExtension {
        /// The extension found, or nothing.
        found: String,
    },
    /// The file is larger than the limit.
    #[error(
        "larger than the limit of {limit} bytes for problem files: merge groups that choose \
         alike, or raise the limit (--max-file-size)"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Nothing but white space.
    #[error("is empty: expected a problem (see `rco schema` and examples/problems)")]
    Empty,
    /// The file starts with a UTF-16 or UTF-32 byte order mark.
    #[error("is UTF-16 or UTF-32 text: save it as UTF-8")]
    WideText,
    /// The file is not UTF-8.
    #[error("line {line}, column {column}: not UTF-8: save the file as UTF-8 text")]
    NotUtf8 {
        /// Line of the first bad byte.
        line: usize,
        /// Column of the first bad byte.
        column: usize,
    },

    /// The text is not JSON.
    #[error("line {line}, column {column}: not JSON: {message}")]
    Syntax {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// What was expected there.
        message: String,
    },
    /// The text ends in the middle.
    #[error(
        "line {line}, column {column}: the file ends here, in the middle: {message}; it may be cut off"
    )]
    Truncated {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// What was open.
        message: String,
    },
    /// There is text after the problem.
    #[error(
        "line {line}, column {column}: text after the end of the problem: one file holds one object"
    )]
    TrailingText {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// A number does not fit into 64 bits of floating point.
    #[error("line {line}, column {column}: number out of range: it must be below 1.8e308 in size")]
    NumberOutOfRange {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// `NaN` or `Infinity`, which JSON does not have.
    #[error(
        "line {line}, column {column}: `{found}` is not a JSON number: every loss must be \
         finite; leave an impossible option out instead"
    )]
    NotFinite {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// What stands there.
        found: String,
    },
    /// A field that the format does not have.
    #[error("line {line}, column {column}: unknown field `{field}`: expected {expected}")]
    UnknownField {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// The field.
        field: String,
        /// The fields that may stand there.
        expected: String,
    },
    /// A required field is missing in the object that ends here.
    #[error(
        "line {line}, column {column}: the object that ends here has no field `{field}`: add it"
    )]
    MissingField {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// The field.
        field: String,
    },
    /// A field stands twice in one object.
    #[error("line {line}, column {column}: field `{field}` stands twice in one object: remove one")]
    DuplicateField {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// The field.
        field: String,
    },
    /// A value of the wrong type, such as a list for a number.
    #[error("line {line}, column {column}: expected {expected}, found {found}")]
    WrongType {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// Any other value that does not fit, such as an unknown kind of budget.
    #[error("line {line}, column {column}: {message}")]
    InvalidValue {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// What is wrong with it.
        message: String,
    },

    /// The `format` field names another format.
    #[error("the format is `{found}`, expected `rco-problem`: is this another kind of file?")]
    WrongFormat {
        /// The format found.
        found: String,
    },
    /// The `version` field is not one that is known.
    #[error("version {found} of the format is not known here: expected 1; a newer rco may read it")]
    UnsupportedVersion {
        /// The version found.
        found: String,
    },

    /// A whole number is negative.
    #[error("{what} is {found}: it must be 0 or more")]
    NegativeNumber {
        /// The value's place, such as "cost of option `Q4_K` of group `blk.0.ffn_up`".
        what: String,
        /// The value.
        found: String,
    },
    /// A whole number has a point or an exponent.
    #[error(
        "{what} is {found}: it must be a whole number, written without point and exponent; \
         use a smaller unit"
    )]
    FractionalNumber {
        /// The value's place.
        what: String,
        /// The value.
        found: String,
    },
    /// A whole number does not fit into 63 bits.
    #[error("{what} is {found}: it must be at most 2^63 - 1; use a larger unit")]
    NumberTooLarge {
        /// The value's place.
        what: String,
        /// The value.
        found: String,
    },
    /// A text stands where a number belongs.
    #[error("{what} is the text {found}: write a number, without quotes")]
    NumberAsText {
        /// The value's place.
        what: String,
        /// The text.
        found: String,
    },
    /// A limit is not an amount.
    #[error("limit of {resource}: {source}")]
    Limit {
        /// The resource.
        resource: String,
        /// Why.
        source: QuantityError,
    },

    /// There are more budgets than any problem needs.
    #[error("there are {found} budgets, more than the {limit} that are supported")]
    TooManyBudgets {
        /// Budgets found.
        found: usize,
        /// Largest supported number.
        limit: usize,
    },
    /// An option has no cost in a resource.
    #[error("option `{option}` of group `{group}` has no cost in `{resource}`: add it")]
    MissingCost {
        /// Group.
        group: String,
        /// Option.
        option: String,
        /// Resource.
        resource: String,
    },
    /// An option has a single `cost` though there are several budgets.
    #[error(
        "option `{option}` of group `{group}` has one `cost`, but there are {budgets} budgets: \
         write `costs` with one entry for each resource"
    )]
    AmbiguousCost {
        /// Group.
        group: String,
        /// Option.
        option: String,
        /// Number of budgets.
        budgets: usize,
    },
    /// An option has both `cost` and `costs`.
    #[error("option `{option}` of group `{group}` has both `cost` and `costs`: keep one")]
    CostAndCosts {
        /// Group.
        group: String,
        /// Option.
        option: String,
    },
    /// An option has a cost in a resource without a budget.
    #[error(
        "option `{option}` of group `{group}` has a cost in `{resource}`, which has no budget; \
         there are budgets for {known}"
    )]
    CostWithoutBudget {
        /// Group.
        group: String,
        /// Option.
        option: String,
        /// Resource.
        resource: String,
        /// The resources that have one.
        known: String,
    },
    /// An option has two costs in one resource.
    #[error("option `{option}` of group `{group}` has two costs in `{resource}`: remove one")]
    DuplicateCost {
        /// Group.
        group: String,
        /// Option.
        option: String,
        /// Resource.
        resource: String,
    },
    /// Some options have a held-out loss and some have none.
    #[error(
        "option `{option}` of group `{group}` has no held-out loss, but others have: give \
         every option one, or none"
    )]
    HeldOutIncomplete {
        /// Group.
        group: String,
        /// Option.
        option: String,
    },

    /// A pair names a group that does not exist.
    #[error("pair number {pair} names group `{group}`, which does not exist")]
    PairUnknownGroup {
        /// Position of the pair, counted from 0.
        pair: usize,
        /// Group.
        group: String,
    },
    /// A pair names an option that its group does not have.
    #[error("pair number {pair} names option `{option}`, which group `{group}` does not have")]
    PairUnknownOption {
        /// Position of the pair, counted from 0.
        pair: usize,
        /// Group.
        group: String,
        /// Option.
        option: String,
    },
    /// A pair names one group twice.
    #[error(
        "pair number {pair} joins group `{group}` with itself: put such a term into the loss \
         of the option"
    )]
    PairSameGroup {
        /// Position of the pair, counted from 0.
        pair: usize,
        /// Group.
        group: String,
    },
    /// Two pairs name the same two options.
    #[error(
        "two pairs join option `{first_option}` of `{first}` with option `{second_option}` of \
         `{second}`: add them up"
    )]
    DuplicatePair {
        /// First group.
        first: String,
        /// Its option.
        first_option: String,
        /// Second group.
        second: String,
        /// Its option.
        second_option: String,
    },

    /// A CSV row that cannot be split into cells.
    #[error("line {line}: {message}")]
    CsvRow {
        /// Line.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A CSV row has more or fewer cells than the header.
    #[error("line {line}: expected {expected} cells as in the header, found {found}")]
    CsvCellCount {
        /// Line.
        line: u64,
        /// Cells in the header.
        expected: usize,
        /// Cells found.
        found: usize,
    },
    /// The CSV header lacks a column.
    #[error(
        "the header has no column `{column}`; expected group, option, loss and one column for each cost"
    )]
    CsvMissingColumn {
        /// The column.
        column: &'static str,
    },
    /// The CSV header has a column twice, or one without a name.
    #[error(
        "the header has the column `{column}` twice (or it is empty): column names must differ"
    )]
    CsvDuplicateColumn {
        /// The column.
        column: String,
    },
    /// The CSV header has no cost column.
    #[error(
        "the header has no cost column: add `cost`, or one column for each resource, such as `bytes`"
    )]
    CsvNoCost,
    /// The CSV header has rows of no kind below it.
    #[error("there are no rows below the header")]
    CsvNoRows,
    /// A CSV cell is not what its column holds.
    #[error("line {line}, column `{column}`: expected {expected}, found {found}")]
    CsvCell {
        /// Line.
        line: u64,
        /// Column.
        column: String,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Two rows give one group different sizes.
    #[error(
        "line {line}: group `{group}` has size {found} here and {first} above: give it one size"
    )]
    CsvSizeConflict {
        /// Line.
        line: u64,
        /// Group.
        group: String,
        /// Size found first.
        first: u64,
        /// Size on this line.
        found: u64,
    },

    /// A resource has no budget: CSV files hold none.
    #[error("no budget for `{resource}`: give it with --budget {resource}=AMOUNT")]
    MissingBudget {
        /// The resource.
        resource: String,
    },
    /// A budget from outside the file names a resource that the file does not have.
    #[error("a budget was given for `{resource}`, which the file does not have; it has {known}")]
    UnknownBudget {
        /// The resource.
        resource: String,
        /// The resources of the file.
        known: String,
    },
    /// A budget from outside the file names no resource, and there are several.
    #[error("a budget of {limit} was given without a resource, but there are several: {known}")]
    AmbiguousBudget {
        /// The limit.
        limit: u64,
        /// The resources of the file.
        known: String,
    },
    /// The values are readable but make no problem.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// The values are readable but make no quadratic loss.
    #[error(transparent)]
    Quadratic(#[from] QuadraticError),
}

/// Names in back quotes, joined by commas, for messages.
pub(super) fn names<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = items.into_iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}
