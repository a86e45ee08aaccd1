//! The menu as a problem: a group for each tensor, an option for each form, bytes as costs.

use std::sync::Arc;

use rco_core::{Assignment, Budget, GroupSpec, OptionSpec, Problem};
use rco_formats::gguf::{Layout, Metadata, TensorSpec, TypeLayout};

use crate::error::QuantError;
use crate::menu::{Form, Menu};

/// Name of the resource.
pub const BYTES: &str = "bytes";
/// Name of the group that stands for all that is not decided on.
pub const REST: &str = "(header and other tensors)";
/// Tensors named when a budget is too small.
const NAMED: usize = 3;

/// The tensors of a file that is to be written, and what each choice costs there.
#[derive(Debug, Clone)]
pub struct Groups {
    menu: Menu,
    /// `costs[group][option]`: bytes in the file, padding included.
    costs: Vec<Vec<u64>>,
    /// Bytes of everything else.
    rest: u64,
}

impl Groups {
    /// Counts the bytes of a file with `metadata` and `tensors` (those of the source, in
    /// the order of the file), and `reserve` bytes besides.
    ///
    /// # Errors
    /// Tensors or metadata that cannot be written, or sizes that overflow.
    pub fn new(
        menu: Menu,
        metadata: &Metadata,
        tensors: &[TensorSpec],
        reserve: u64,
    ) -> Result<Self, QuantError> {
        let layout = Layout::new(metadata, tensors)?;
        let mut costs = Vec::with_capacity(menu.choices.len());
        let mut decided = 0;
        for choice in &menu.choices {
            let mut options = Vec::with_capacity(choice.forms.len());
            for form in &choice.forms {
                let bytes = choice.in_type(form.ty).byte_length()?;
                let bytes = bytes.ok_or(QuantError::Overflow { what: "the size of a tensor" })?;
                options.push(layout.padded(bytes));
            }
            // A tensor that may not stay as it is counts in the layout all the same.
            let source = choice.tensor.byte_length()?;
            decided += source.map_or(0, |bytes| layout.padded(bytes));
            costs.push(options);
        }
        let rest = layout
            .file_size
            .checked_sub(decided)
            .and_then(|rest| rest.checked_add(reserve))
            .ok_or(QuantError::Overflow { what: "the size of the file" })?;
        Ok(Self { menu, costs, rest })
    }

    /// The menu.
    pub fn menu(&self) -> &Menu {
        &self.menu
    }

    /// Bytes of everything that is not decided on.
    pub fn rest(&self) -> u64 {
        self.rest
    }

    /// Bytes of an option of a group, padding included.
    pub fn cost(&self, group: usize, option: usize) -> u64 {
        self.costs[group][option]
    }

    /// Bytes of the smallest and of the largest file.
    pub fn range(&self) -> (u64, u64) {
        let sum = |pick: fn(&[u64]) -> u64| {
            self.costs.iter().fold(self.rest, |sum, options| sum.saturating_add(pick(options)))
        };
        let smallest = sum(|o| o.iter().copied().min().unwrap_or(0));
        (smallest, sum(|o| o.iter().copied().max().unwrap_or(0)))
    }

    /// The problem with a budget in bytes of the whole file. Groups are in the order of the
    /// menu; the last one is [`REST`].
    ///
    /// # Errors
    /// [`QuantError::BudgetTooSmall`], and what the problem itself refuses.
    pub fn problem(&self, budget: u64, ties: &[Vec<String>]) -> Result<Problem, QuantError> {
        let (smallest, _) = self.range();
        if smallest > budget {
            return Err(QuantError::BudgetTooSmall { budget, smallest, held_by: self.heaviest() });
        }
        let mut builder = Problem::builder().budget(Budget::at_most(BYTES, budget));
        for (choice, costs) in self.menu.choices.iter().zip(&self.costs) {
            let options: Vec<OptionSpec> = choice
                .forms
                .iter()
                .zip(costs)
                .map(|(&form, &cost)| OptionSpec::new(self.menu.named(form).to_string(), [cost]))
                .collect();
            let name = Arc::<str>::from(choice.tensor.name.as_str());
            builder = builder.group(GroupSpec::new(name, options).size(choice.weights.max(1)));
        }
        let rest = [OptionSpec::new("kept", [self.rest])];
        builder = builder.group(GroupSpec::new(REST, rest));
        for tie in ties {
            builder = builder.tie(tie.iter().cloned());
        }
        Ok(builder.build()?)
    }

    /// The forms that an assignment of [`Groups::problem`] chooses, in the order of the menu.
    pub fn forms(&self, assignment: &Assignment) -> Vec<Form> {
        let choices = self.menu.choices.iter().enumerate();
        choices.map(|(g, choice)| choice.forms[assignment.option(g)]).collect()
    }

    /// The assignment with these forms by name, by tensor.
    ///
    /// # Errors
    /// A text that names the tensor that is missing or cannot take its form.
    pub fn assignment(
        &self,
        wanted: impl Fn(&str) -> Option<String>,
    ) -> Result<Assignment, String> {
        let mut options = Vec::with_capacity(self.menu.choices.len() + 1);
        for choice in &self.menu.choices {
            let name = &choice.tensor.name;
            let form = wanted(name).ok_or_else(|| format!("it says nothing of {name}"))?;
            let names: Vec<String> =
                choice.forms.iter().map(|&form| self.menu.named(form).to_string()).collect();
            let option = names.iter().position(|known| *known == form);
            options.push(option.ok_or_else(|| {
                format!("it wants {name} as {form}; there are {}", names.join(", "))
            })? as u32);
        }
        options.push(0);
        Ok(Assignment::new(options))
    }

    /// The assignment that comes nearest to `wanted` forms, by tensor: where a tensor cannot
    /// take the form, another of its type, or the smallest that is at least as large, or else
    /// the largest.
    pub fn nearest(&self, wanted: impl Fn(&str) -> Option<Form>) -> Assignment {
        let choices = self.menu.choices.iter().zip(&self.costs).map(|(choice, costs)| {
            let form = wanted(&choice.tensor.name).unwrap_or_else(|| choice.source());
            let exact = choice.forms.iter().position(|&f| f == form);
            let bits = form.ty.layout().map_or(f64::INFINITY, TypeLayout::bits_per_weight);
            let enough = |k: &usize| {
                let found = choice.forms[*k].ty.layout().map_or(0.0, TypeLayout::bits_per_weight);
                found >= bits
            };
            let by_cost = |k: &usize| costs[*k];
            let found = exact
                .or_else(|| choice.forms.iter().position(|f| f.ty == form.ty))
                .or_else(|| (0..costs.len()).filter(enough).min_by_key(by_cost))
                .or_else(|| (0..costs.len()).max_by_key(by_cost));
            found.unwrap_or(0) as u32
        });
        Assignment::new(choices.chain([0]).collect::<Vec<u32>>())
    }

    /// Bytes of the file of an assignment.
    pub fn bytes(&self, assignment: &Assignment) -> u64 {
        let costs = self.costs.iter().enumerate().map(|(g, c)| c[assignment.option(g)]);
        costs.fold(self.rest, u64::saturating_add)
    }

    /// The tensors that take most bytes in the smallest file.
    fn heaviest(&self) -> String {
        let mut least: Vec<(u64, &str)> = self
            .costs
            .iter()
            .zip(&self.menu.choices)
            .map(|(c, choice)| (c.iter().copied().min().unwrap_or(0), choice.tensor.name.as_str()))
            .chain([(self.rest, REST)])
            .collect();
        least.sort_by(|a, b| b.cmp(a));
        let named = least.iter().take(NAMED).map(|(bytes, name)| format!("{name} ({bytes} bytes)"));
        named.collect::<Vec<_>>().join(", ")
    }
}
