//! What a job would do, before anything heavy.

use std::path::PathBuf;

use serde::Serialize;

use super::error::PackedError;
use super::foreign::ForeignFolder;
use super::job::PackJob;
use super::menu::{Form, Linear};

/// What a job would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackOutlook {
    /// Family of the model.
    pub family: String,
    /// Bytes of the source's files of tensors.
    pub source_bytes: u64,
    /// Weights of all tensors.
    pub weights: u64,
    /// Matrices that are decided on.
    pub matrices: usize,
    /// Their weights.
    pub matrix_weights: u64,
    /// Forms that some matrix may take.
    pub forms: Vec<String>,
    /// Folders of options.
    pub foreign: Vec<ForeignOutlook>,
    /// What the runtime asks for.
    pub rules: Vec<&'static str>,
    /// Modules that stay as they are because no group size divides their rows.
    pub unfit: Vec<String>,
    /// Bytes of the option database.
    pub database_bytes: u64,
    /// Seconds, about, on two cores.
    pub seconds: f64,
    /// What is to be made.
    pub orders: Vec<OrderOutlook>,
}

/// A folder whose matrices are options.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForeignOutlook {
    /// What its forms end with.
    pub mark: String,
    /// The folder.
    pub path: PathBuf,
    /// Matrices that may be taken from it.
    pub matrices: usize,
}

/// A folder that is to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderOutlook {
    /// Budget in bytes.
    pub budget: u64,
    /// Fewest bytes that count towards it.
    pub smallest: u64,
    /// Bytes of the source that count towards it.
    pub largest: u64,
}

/// Operations a second that the estimate of the time takes: two cores of 2021.
const SPEED: f64 = 1e11;
/// Weights a second that are rounded to a form and written, products of GPTQ apart.
const ROUNDED: f64 = 5e7;
/// Weights a second that are read and decoded from a form.
const DECODED: f64 = 6e8;
/// Passes over a token that a gradient is worth.
const GRADIENT: u64 = 4;
/// Plans measured besides steps and polish.
const BESIDES: u64 = 20;
/// Plans of the held-out choice.
const CHOICE: u64 = 6;

impl PackJob {
    /// What the job would do. Reads nothing but headers.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn outlook(&self) -> Result<PackOutlook, PackedError> {
        let Self { source, menu, budgets, .. } = self;
        let mut forms: Vec<_> = menu.linears.iter().flat_map(|l| l.forms.iter().copied()).collect();
        forms.sort_unstable();
        forms.dedup();
        let stored = |linear: &Linear| -> u64 {
            let made = |form: &&Form| form.scheme().is_some() && form.foreign().is_none();
            let forms = linear.forms.iter().filter(made);
            forms.filter_map(|&form| linear.data_bytes(form)).sum()
        };
        let weights: u64 = source.folder().tensors().map(|(_, t)| t.elements()).sum();
        Ok(PackOutlook {
            family: source.config().family.to_string(),
            source_bytes: source.folder().file_size(),
            weights,
            matrices: menu.linears.len(),
            matrix_weights: menu.weights(),
            forms: forms.iter().map(ToString::to_string).collect(),
            foreign: self.foreign_outlook(),
            rules: menu.rules.iter().map(|rule| rule.name).collect(),
            unfit: menu.unfit.clone(),
            database_bytes: menu.linears.iter().map(stored).sum(),
            seconds: self.seconds(weights),
            orders: budgets
                .iter()
                .map(|(budget, sizes)| {
                    let (smallest, largest) = sizes.range();
                    OrderOutlook { budget: *budget, smallest, largest }
                })
                .collect(),
        })
    }

    fn foreign_outlook(&self) -> Vec<ForeignOutlook> {
        let of = |(n, folder): (usize, &ForeignFolder)| {
            let is_here = |linear: &&Linear| linear.forms.iter().any(|f| f.foreign() == Some(n));
            let matrices = self.menu.linears.iter().filter(is_here).count();
            ForeignOutlook { mark: format!("@{}", n + 1), path: folder.path().to_owned(), matrices }
        };
        self.foreign.iter().enumerate().map(of).collect()
    }

    fn seconds(&self, weights: u64) -> f64 {
        let work = self.settings.effort.plan();
        let window = self.window() as u64;
        let orders = self.budgets.len() as u64;
        let strains = work.strains;
        let steps = work.descend * work.draws + work.steps;
        let plans = 1 + work.descend + work.refine + work.polish + BESIDES;
        let per_order = GRADIENT * (steps + strains) * work.per_gradient as u64
            + plans * work.measured as u64
            + CHOICE * work.heldout as u64;
        let passes = work.moments + work.packed + work.heldout;
        let once = passes as u64 + GRADIENT * work.fisher_packed();
        let tuned = self.settings.tuning_steps();
        let per_order = per_order + (GRADIENT + 1) * tuned + 2 * work.heldout as u64;
        let tokens = window * (once + per_order * orders);
        let linears = &self.menu.linears;
        // Each gradient reads a matrix in all of its forms, each plan in one.
        let in_forms = |l: &Linear| l.forms.len() as f64 * l.weights() as f64;
        let formed: f64 = linears.iter().map(in_forms).sum();
        let columns: f64 = linears.iter().map(|l| in_forms(l) * l.columns as f64).sum();
        let gradients = (work.fisher_packed() + orders * steps) as f64;
        // A strain reads it in one and as it is.
        let plain = orders * (plans + CHOICE + 2 * (strains + tuned));
        let plain = plain as f64 * self.menu.weights() as f64;
        (2.0 * weights as f64 * tokens as f64 + 2.0 * columns) / SPEED
            + formed / ROUNDED
            + (gradients * formed + plain) / DECODED
    }
}
