//! The menu as a problem: bytes of the files of tensors.
//!
//! The header of a safetensors file holds names and offsets, whose digits depend on the plan.
//! Here every offset has as many digits as the source is long, so that costs add up; the
//! files are a little smaller, and what they take is known to the byte before they are
//! written.

use std::collections::HashSet;
use std::sync::Arc;

use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem};
use rco_formats::compressed_tensors::PackedPart;
use rco_formats::safetensors::{Dtype, SafetensorsWriter};

use super::error::PackedError;
use super::menu::{Form, Linear, Menu};
use super::source::Source;
use crate::error::QuantError;
use crate::groups::{BYTES, REST};

/// What each choice costs.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// `costs[matrix][form]`, names and offsets included.
    costs: Vec<Vec<u64>>,
    /// Everything else.
    rest: u64,
}

impl Sizes {
    /// Counts the bytes of a folder in files of at most `shard` bytes of tensors.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn new(source: &Source, menu: &Menu, shard: Option<u64>) -> Result<Self, PackedError> {
        let overflow = || QuantError::Overflow { what: "the size of the folder" };
        let folder = source.folder();
        let digits = folder.file_size().max(shard.unwrap_or(0)).to_string().len() as u64;
        let entry = |name: &str, dtype: Dtype, shape: &[u64]| {
            let quoted = serde_json::Value::from(name).to_string().len() as u64;
            let shape: u64 = shape.iter().map(|d| d.to_string().len() as u64 + 1).sum();
            let fixed = r#":{"dtype":"","shape":[],"data_offsets":[,]},"#.len() as u64;
            quoted + fixed + dtype.name().len() as u64 + shape + 2 * digits
        };
        let mut costs = Vec::with_capacity(menu.linears.len());
        for linear in &menu.linears {
            let options = linear.forms.iter().map(|&form| {
                let data = linear.data_bytes(form)?;
                data.checked_add(header_bytes(linear, form, &entry)?)
            });
            costs.push(options.collect::<Option<Vec<u64>>>().ok_or_else(overflow)?);
        }
        let decided: HashSet<&str> = menu.linears.iter().map(|l| l.module.as_str()).collect();
        let mut rest = 0_u64;
        let mut total = 0_u64;
        for (_, tensor) in folder.tensors() {
            total = total.checked_add(tensor.length).ok_or_else(overflow)?;
            let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
            if decided.contains(module) {
                continue;
            }
            let bytes = entry(&tensor.name, tensor.dtype, &tensor.shape);
            rest = rest
                .checked_add(tensor.length)
                .and_then(|rest| rest.checked_add(bytes))
                .ok_or_else(overflow)?;
        }
        // Two files after each other hold more than a shard together.
        let files = shard.map_or(1, |shard| total / (shard / 2).max(1) + 2);
        let empty = empty_file(source)?;
        let rest = empty.checked_mul(files).and_then(|bytes| rest.checked_add(bytes));
        Ok(Self { costs, rest: rest.ok_or_else(overflow)? })
    }

    /// Counts the bytes of the matrices alone: codes, scales, zero points and shapes, without
    /// their names.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn of_matrices(menu: &Menu) -> Result<Self, PackedError> {
        let overflow = || QuantError::Overflow { what: "the size of the matrices" };
        let of = |linear: &Linear| {
            let bytes = linear.forms.iter().map(|&form| linear.data_bytes(form));
            bytes.collect::<Option<Vec<u64>>>().ok_or_else(overflow)
        };
        let costs = menu.linears.iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self { costs, rest: 0 })
    }

    /// Bytes of a form of a matrix.
    pub fn cost(&self, linear: usize, form: usize) -> u64 {
        self.costs[linear][form]
    }

    /// Bytes of everything that is not decided on.
    pub fn rest(&self) -> u64 {
        self.rest
    }

    /// Bytes of the smallest and of the largest plan, ties apart.
    pub fn range(&self) -> (u64, u64) {
        let sum = |pick: fn(&[u64]) -> Option<u64>| {
            let costs = self.costs.iter().map(|c| pick(c).unwrap_or(0));
            costs.fold(self.rest, u64::saturating_add)
        };
        (sum(|c| c.iter().copied().min()), sum(|c| c.iter().copied().max()))
    }

    /// Bytes of a plan, or a few more.
    pub fn bytes(&self, plan: &Assignment) -> u64 {
        let costs = self.costs.iter().enumerate().map(|(n, c)| c[plan.option(n)]);
        costs.fold(self.rest, u64::saturating_add)
    }

    /// The problem of a budget: a group for each matrix, and one for the rest.
    ///
    /// # Errors
    /// [`PackedError::TooSmall`], [`PackedError::MatricesTooSmall`].
    pub fn problem(
        &self,
        menu: &Menu,
        ties: &[Vec<String>],
        budget: u64,
    ) -> Result<Problem, PackedError> {
        let (smallest, _) = self.range();
        // A file has a header at least: without a rest the budget is of the matrices alone.
        if budget < smallest && self.rest == 0 {
            let bits = 8.0 * smallest as f64 / menu.weights().max(1) as f64;
            let bits = (1e3 * bits).ceil() / 1e3;
            return Err(PackedError::MatricesTooSmall { budget, smallest, bits });
        }
        if budget < smallest {
            return Err(PackedError::TooSmall { budget, smallest, plain: self.rest });
        }
        let mut builder = Problem::builder().budget(Budget::at_most(BYTES, budget));
        for (linear, costs) in menu.linears.iter().zip(&self.costs) {
            let options = linear.forms.iter().zip(costs);
            let options: Vec<OptionSpec> =
                options.map(|(form, &cost)| OptionSpec::new(form.to_string(), [cost])).collect();
            let name = Arc::<str>::from(linear.module.as_str());
            builder = builder.group(GroupSpec::new(name, options).size(linear.weights().max(1)));
        }
        builder = builder.group(GroupSpec::new(REST, [OptionSpec::new("kept", [self.rest])]));
        for tie in ties {
            builder = builder.tie(tie.iter().cloned());
        }
        Ok(builder.build()?)
    }
}

/// Bytes that the tensors of a form take in the header.
fn header_bytes(
    linear: &Linear,
    form: Form,
    entry: &dyn Fn(&str, Dtype, &[u64]) -> u64,
) -> Option<u64> {
    let Linear { module, rows, columns, dtype, .. } = linear;
    match form {
        Form::Source => {
            Some(entry(&format!("{module}.weight"), *dtype, &[*rows as u64, *columns as u64]))
        }
        Form::Grid(scheme, _) => {
            let tensors = scheme.tensors(*rows, *columns, *dtype)?;
            let of = |part: &PackedPart| format!("{module}.{}", part.suffix());
            Some(tensors.iter().map(|(part, dtype, shape)| entry(&of(part), *dtype, shape)).sum())
        }
    }
}

/// Most bytes of a file beside its tensors and their entries.
fn empty_file(source: &Source) -> Result<u64, PackedError> {
    let writer = SafetensorsWriter::new(metadata(source));
    let fault = PackedError::safetensors(source.folder().path());
    // What fills the header up to a multiple of 8 may be one short of that more.
    Ok(writer.file_size().map_err(fault)? + 8)
}

/// The metadata of written files: those of the source's first.
pub(super) fn metadata(source: &Source) -> Option<Vec<(String, String)>> {
    let first = source.folder().shards().first().and_then(|s| s.header().metadata.clone());
    // Loaders want to know who wrote the tensors.
    first.or_else(|| Some(vec![("format".to_owned(), "pt".to_owned())]))
}
