//! GGUF files of others, whose tensors serve as options.

use std::path::Path;
use std::sync::Arc;

use rco_formats::gguf::GgufModel;

use crate::error::QuantError;
use crate::hash::sha256_model;
use crate::menu::is_decided;

/// A file that holds tensors of the model in other types.
#[derive(Debug, Clone)]
pub struct Foreign {
    /// Its name without folders, with a number behind it where another file has the same.
    pub name: String,
    /// The file.
    pub model: Arc<GgufModel>,
}

impl Foreign {
    /// Opens files (or first parts of split ones) and checks that each holds tensors of
    /// `source`: no names that the source does not have, the same shapes, types that can be
    /// decoded. Tensors that a file lacks are fine.
    ///
    /// # Errors
    /// [`QuantError::ForeignOptions`] with the tensor at fault, or a file that cannot be read.
    pub fn open_all(
        paths: &[impl AsRef<Path>],
        source: &GgufModel,
    ) -> Result<Vec<Self>, QuantError> {
        let mut out: Vec<Self> = Vec::with_capacity(paths.len());
        for path in paths {
            let path = path.as_ref();
            let model = Arc::new(GgufModel::open(path)?);
            let plain = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut name = plain.clone();
            let mut number = 1;
            while out.iter().any(|other| other.name == name) {
                number += 1;
                name = format!("{plain}#{number}");
            }
            let file = Self { name, model };
            file.check(source)?;
            out.push(file);
        }
        Ok(out)
    }

    /// SHA-256 of the file.
    ///
    /// # Errors
    /// A failed read.
    pub fn sha256(&self) -> Result<String, QuantError> {
        sha256_model(&self.model)
    }

    /// The error that the file cannot serve.
    pub(crate) fn unfit(&self, problem: String) -> QuantError {
        let path = self.model.parts().first().map_or(&*self.name, |part| part.name()).to_owned();
        QuantError::ForeignOptions { path, problem }
    }

    fn check(&self, source: &GgufModel) -> Result<(), QuantError> {
        let architecture = |model: &GgufModel| model.metadata().architecture().map(str::to_owned);
        if let (Some(expected), Some(found)) = (architecture(source), architecture(&self.model))
            && expected != found
        {
            return Err(self.unfit(format!("it is of the family {found}, the model of {expected}")));
        }
        for (_, theirs) in self.model.tensors() {
            let name = &theirs.spec.name;
            let Some((_, ours)) = source.tensor(name) else {
                return Err(self.unfit(format!("the model has no tensor {name}")));
            };
            let (expected, found) = (&ours.spec.shape, &theirs.spec.shape);
            if expected != found {
                let problem = format!("{name} has the shape {found:?}, in the model {expected:?}");
                return Err(self.unfit(problem));
            }
            if is_decided(&ours.spec) && !rco_ggml::can_decode(theirs.spec.ty) {
                let problem = format!("{name} is {}, which cannot be decoded", theirs.spec.ty);
                return Err(self.unfit(problem));
            }
        }
        Ok(())
    }
}
