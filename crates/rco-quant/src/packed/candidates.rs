//! A folder's model whose matrices may take the forms of an option database.

use std::sync::Arc;

use rco_core::Assignment;
use rco_model::config::ModelConfig;
use rco_model::engine::{OptionTensors, Settings};
use rco_model::weights::{Overlay, WeightSource};
use rco_model::{Model, WeightKey};

use super::database::OptionDatabase;
use super::error::PackedError;
use super::menu::{Form, Menu};
use crate::error::QuantError;
use crate::objective::PlanModels;

/// A model whose matrices may take several forms.
pub struct FolderModels {
    pub(super) config: Arc<ModelConfig>,
    pub(super) source: Arc<dyn WeightSource>,
    settings: Settings,
    keys: Vec<WeightKey>,
    /// `sources[matrix][form]`: where the weight is found in that form.
    sources: Vec<Vec<Arc<dyn WeightSource>>>,
    /// The form of each matrix that is the source, if it is an option.
    original: Vec<Option<usize>>,
    offsets: Vec<usize>,
}

impl std::fmt::Debug for FolderModels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FolderModels({} matrices)", self.keys.len())
    }
}

impl FolderModels {
    /// Joins the model with its forms.
    ///
    /// # Errors
    /// A database that lacks a form.
    pub(super) fn new(
        config: Arc<ModelConfig>,
        source: Arc<dyn WeightSource>,
        menu: &Menu,
        database: &OptionDatabase,
    ) -> Result<Self, PackedError> {
        let mut sources = Vec::with_capacity(menu.linears.len());
        for linear in &menu.linears {
            let mut forms = Vec::with_capacity(linear.forms.len());
            for &form in &linear.forms {
                forms.push(match form {
                    Form::Source => Arc::clone(&source),
                    Form::Grid(..) => {
                        let missing = || PackedError::Options {
                            path: linear.module.clone().into(),
                            problem: format!("there is no form {form}"),
                        };
                        let matrix = database.matrix(linear, form).ok_or_else(missing)?;
                        Arc::new(matrix.clone()) as Arc<dyn WeightSource>
                    }
                });
            }
            sources.push(forms);
        }
        let position = |forms: &[Form]| forms.iter().position(|form| *form == Form::Source);
        Ok(Self {
            config,
            source,
            settings: Settings::default(),
            keys: menu.linears.iter().map(|linear| linear.key).collect(),
            sources,
            original: menu.linears.iter().map(|linear| position(&linear.forms)).collect(),
            offsets: menu.offsets(),
        })
    }
}

impl PlanModels for FolderModels {
    fn original(&self) -> Result<Model, QuantError> {
        Ok(Model::new(Arc::clone(&self.config), Arc::clone(&self.source), self.settings)?)
    }

    fn model(&self, plan: &Assignment) -> Result<Model, QuantError> {
        let mut weights = Overlay::new(Arc::clone(&self.source));
        for (n, forms) in self.sources.iter().enumerate() {
            let option = plan.option(n);
            if Some(option) != self.original[n] {
                weights.replace(self.keys[n], Arc::clone(&forms[option]));
            }
        }
        Ok(Model::new(Arc::clone(&self.config), Arc::new(weights), self.settings)?)
    }

    fn options(&self, plan: Option<&Assignment>) -> OptionTensors {
        let mut out = OptionTensors::default();
        for (n, forms) in self.sources.iter().enumerate().filter(|(_, forms)| forms.len() > 1) {
            let chosen = plan.map_or(self.original[n], |plan| Some(plan.option(n)));
            for (k, form) in forms.iter().enumerate().filter(|(k, _)| Some(*k) != chosen) {
                out.add(self.offsets[n] + k, self.keys[n], Arc::clone(form));
            }
        }
        out
    }

    fn originals(&self, plan: &Assignment) -> Option<OptionTensors> {
        let mut out = OptionTensors::default();
        for (n, &key) in self.keys.iter().enumerate() {
            if self.original[n] != Some(plan.option(n)) {
                out.add(n, key, Arc::clone(&self.source));
            }
        }
        Some(out)
    }

    fn offsets(&self) -> &[usize] {
        &self.offsets
    }
}
