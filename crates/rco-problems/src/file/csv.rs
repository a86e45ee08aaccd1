//! Reads CSV files of separable problems.
//!
//! Columns: `group`, `option`, `loss`, optionally `size` and `heldout_loss`; every
//! other column is the cost in the resource of that name (a column `cost` is the cost
//! in the only resource). One row is one option; the rows of a group need not follow
//! each other. Budgets come from [`ReadOptions::budgets`].

use std::collections::{HashMap, HashSet};

use csv::{ReaderBuilder, StringRecord, Trim};

use super::build::Instance;
use super::document::{Entries, FORMAT, GroupEntry, OptionEntry, ProblemFile, VERSION};
use super::error::{FileError, FileErrorKind, names};
use super::quantity::BudgetOverride;
use super::read::{ReadOptions, text};
use super::scalar::{Integer, Limit, Real, Scalar};
use super::{BudgetEntry, BudgetEntryKind};
use crate::hash::hex_digest;

/// The column of the cost, if there is one resource without a name of its own.
const COST: &str = "cost";

/// Reads a problem from the bytes of a CSV file; `name` stands in errors.
///
/// # Errors
/// A [`FileError`] that says what is wrong and where.
pub fn parse_csv(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<Instance, FileError> {
    document(bytes, options)
        .and_then(|file| file.into_instance(&options.budgets))
        .map(|instance| Instance { sha256: hex_digest(bytes), ..instance })
        .map_err(|kind| FileError::new(name, kind))
}

fn document(bytes: &[u8], options: &ReadOptions) -> Result<ProblemFile, FileErrorKind> {
    let text = text(bytes, options)?;
    let mut reader =
        ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
    let header = Header::new(reader.headers().map_err(row_error)?)?;
    let mut groups: Vec<GroupEntry> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(row_error)? {
        let row = Row { header: &header, record: &record };
        let name = row.cell(header.group);
        let at = index.get(name).copied().unwrap_or_else(|| {
            index.insert(name.to_owned(), groups.len());
            groups.push(GroupEntry { name: name.to_owned(), size: None, options: Vec::new() });
            groups.len() - 1
        });
        row.merge_size(&mut groups[at])?;
        groups[at].options.push(row.option()?);
    }
    if groups.is_empty() {
        return Err(FileErrorKind::CsvNoRows);
    }
    let budgets = budgets(&header, &options.budgets)?;
    Ok(ProblemFile {
        schema: None,
        format: FORMAT.to_owned(),
        version: VERSION.into(),
        name: None,
        description: None,
        budgets,
        groups,
        ties: Vec::new(),
        fixed: Entries::default(),
        pairs: Vec::new(),
    })
}

/// Which column is what.
struct Header {
    names: Vec<String>,
    group: usize,
    option: usize,
    loss: usize,
    size: Option<usize>,
    heldout: Option<usize>,
    costs: Vec<usize>,
}

impl Header {
    fn new(record: &StringRecord) -> Result<Self, FileErrorKind> {
        let names: Vec<String> = record.iter().map(str::to_owned).collect();
        let mut seen = HashSet::new();
        if let Some(column) = names.iter().find(|n| n.is_empty() || !seen.insert(n.as_str())) {
            return Err(FileErrorKind::CsvDuplicateColumn { column: column.clone() });
        }
        let find = |column: &str| names.iter().position(|n| n == column);
        let need =
            |column: &'static str| find(column).ok_or(FileErrorKind::CsvMissingColumn { column });
        let (group, option, loss) = (need("group")?, need("option")?, need("loss")?);
        let (size, heldout) = (find("size"), find("heldout_loss"));
        let known = [Some(group), Some(option), Some(loss), size, heldout];
        let costs: Vec<usize> =
            (0..names.len()).filter(|&column| !known.contains(&Some(column))).collect();
        if costs.is_empty() {
            return Err(FileErrorKind::CsvNoCost);
        }
        Ok(Self { names, group, option, loss, size, heldout, costs })
    }

    fn resources(&self) -> impl Iterator<Item = &str> {
        self.costs.iter().map(|&column| self.names[column].as_str())
    }
}

/// The budget entries of the file's resources. Their limits come from `given`; the
/// entries here only name the resources in the order of the columns.
fn budgets(header: &Header, given: &[BudgetOverride]) -> Result<Vec<BudgetEntry>, FileErrorKind> {
    let single = header.costs.len() == 1;
    let anonymous = single && header.resources().next() == Some(COST);
    let mut entries = Vec::new();
    for column in header.resources() {
        let matching = |b: &&BudgetOverride| match b.resource.as_deref() {
            None => single,
            Some(resource) => resource == column || anonymous,
        };
        let budget = given.iter().find(matching).ok_or_else(|| match given {
            [BudgetOverride { resource: None, limit, .. }] => {
                FileErrorKind::AmbiguousBudget { limit: *limit, known: names(header.resources()) }
            }
            _ => FileErrorKind::MissingBudget { resource: column.to_owned() },
        })?;
        let resource = budget.resource.clone().unwrap_or_else(|| column.to_owned());
        let limit = Limit::from(budget.limit);
        entries.push(BudgetEntry { resource, limit, kind: BudgetEntryKind::AtMost });
    }
    Ok(entries)
}

struct Row<'a> {
    header: &'a Header,
    record: &'a StringRecord,
}

impl<'a> Row<'a> {
    fn cell(&self, column: usize) -> &'a str {
        self.record.get(column).unwrap_or_default()
    }

    fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    fn wrong(&self, column: usize, expected: &'static str) -> FileErrorKind {
        let cell = self.cell(column);
        let found = if cell.is_empty() { "nothing".to_owned() } else { format!("`{cell}`") };
        let column = self.header.names[column].clone();
        FileErrorKind::CsvCell { line: self.line(), column, expected, found }
    }

    fn integer(&self, column: usize) -> Result<u64, FileErrorKind> {
        match Scalar::from_cell(self.cell(column)) {
            Scalar::Unsigned(value) => Ok(value),
            _ => Err(self.wrong(column, "a whole number, 0 or more, below 2^63")),
        }
    }

    fn real(&self, column: usize) -> Result<f64, FileErrorKind> {
        let value = self.cell(column).parse::<f64>().ok().filter(|v| v.is_finite());
        value.ok_or_else(|| self.wrong(column, "a finite number"))
    }

    fn option(&self) -> Result<OptionEntry, FileErrorKind> {
        let header = self.header;
        let costs = header
            .costs
            .iter()
            .map(|&column| Ok((header.names[column].clone(), self.integer(column)?.into())))
            .collect::<Result<Vec<(String, Integer)>, FileErrorKind>>()?;
        let (cost, costs) = match <[_; 1]>::try_from(costs) {
            Ok([(_, cost)]) => (Some(cost), None),
            Err(costs) => (None, Some(Entries(costs))),
        };
        Ok(OptionEntry {
            name: self.cell(header.option).to_owned(),
            cost,
            costs,
            loss: Real::from(self.real(header.loss)?),
            heldout_loss: header.heldout.map(|c| self.real(c)).transpose()?.map(Real::from),
        })
    }

    /// A size may stand on every row of a group or only on some.
    fn merge_size(&self, group: &mut GroupEntry) -> Result<(), FileErrorKind> {
        let Some(column) = self.header.size.filter(|&c| !self.cell(c).is_empty()) else {
            return Ok(());
        };
        let found = self.integer(column)?;
        match group.size.replace(Integer::from(found)) {
            Some(Integer(Scalar::Unsigned(first))) if first != found => {
                let group = group.name.clone();
                Err(FileErrorKind::CsvSizeConflict { line: self.line(), group, first, found })
            }
            _ => Ok(()),
        }
    }
}

fn row_error(error: csv::Error) -> FileErrorKind {
    let line = error.position().map_or(1, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => FileErrorKind::CsvCellCount {
            line,
            expected: expected_len as usize,
            found: len as usize,
        },
        csv::ErrorKind::Io(error) => FileErrorKind::Io(error),
        other => FileErrorKind::CsvRow { line, message: format!("{other:?}") },
    }
}
