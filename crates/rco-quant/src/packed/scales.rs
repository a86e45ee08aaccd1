//! Scales of packed matrices, tuned once a plan is chosen ([`crate::scales`]).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rco_core::Assignment;
use rco_model::weights::{PackedMatrix, WeightSource};
use rco_model::{Model, ModelError, WeightGradient};

use super::error::PackedError;
use super::job::{PackJob, PackPrepared};
use crate::job::Reporter;
use crate::objective::PlanModels;
use crate::scales::{MatrixScales, Scaled, Tuned, Tuning, TuningOutcome};

impl Scaled for PackedMatrix {
    fn name(&self) -> String {
        self.module().to_owned()
    }

    fn scales(&self) -> usize {
        self.groups()
    }

    fn bits(&self) -> f64 {
        f64::from(self.scheme().bits())
    }

    fn times(&self, factors: &[f32]) -> Result<Arc<dyn WeightSource>, ModelError> {
        Ok(Arc::new(times(self, factors)?))
    }

    /// Zero points are codes, not offsets: all of a value is its scale's.
    fn slopes(
        &self,
        _factors: &[f32],
        gradient: &WeightGradient<'_>,
    ) -> Result<Vec<f32>, ModelError> {
        gradient.group_products(self.scheme().group())
    }
}

/// The same codes with multiples of the scales, rounded to the matrix's floats.
fn times(matrix: &PackedMatrix, factors: &[f32]) -> Result<PackedMatrix, ModelError> {
    let mut scales = matrix.read_scales()?;
    scales.iter_mut().zip(factors).for_each(|(scale, factor)| *scale *= factor);
    let mut bytes = Vec::with_capacity(scales.len() * 4);
    matrix.float().narrow(&scales, &mut bytes);
    matrix.with_scales(Arc::new(bytes))
}

/// Matrices with tuned scales.
#[derive(Debug)]
pub struct TunedScales {
    tuned: Tuned,
    matrices: HashMap<String, PackedMatrix>,
}

impl TunedScales {
    /// What was done.
    pub fn outcome(&self) -> &TuningOutcome {
        &self.tuned.outcome
    }

    /// SHA-256 of the scales that are taken; `None` for those that rounding chose.
    pub fn sha256(&self) -> Option<&str> {
        self.tuned.sha256.as_deref()
    }

    /// The tuned form of a matrix, if it was tuned and that is taken.
    pub fn matrix(&self, module: &str) -> Option<&PackedMatrix> {
        self.matrices.get(module)
    }

    /// The model with the scales that are taken.
    pub fn model(&self) -> &Model {
        &self.tuned.model
    }

    /// Mean KL of that model on the held-out text.
    pub fn loss(&self) -> f64 {
        self.tuned.outcome.loss()
    }
}

impl PackJob {
    /// Fits the scales of a plan to the loss, or goes on with what is in the run folder. `before` is
    /// the plan's loss on the held-out text, if that has been measured.
    ///
    /// # Errors
    /// Whatever model and disk meet.
    pub fn tune(
        &self,
        order: usize,
        prepared: &PackPrepared,
        plan: &Assignment,
        before: Option<f64>,
        folder: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<TunedScales, PackedError> {
        let forms = self.menu.linears.iter().zip(self.forms(plan));
        // Those that are not rounded have no scales.
        let packed: Vec<_> = forms
            .filter_map(|(linear, form)| Some((linear, prepared.database.matrix(linear, form)?)))
            .collect();
        let names: Vec<_> = packed.iter().map(|(linear, m)| (linear, m.scheme())).collect();
        let scales = packed.iter().map(|(linear, m)| MatrixScales::new(linear.key, (*m).clone()));
        let models = &prepared.models;
        let tuning = Tuning {
            original: models.original()?,
            started: models.model(plan)?,
            teacher: &prepared.teacher,
            windows: &prepared.windows,
            steps: self.settings.tuning_steps(),
            seed: self.settings.seed,
            before,
        };
        let path = folder.join(format!("scales-{order}-{}.safetensors", self.budget(order)));
        let origin = format!("{} {names:?}", prepared.origin);
        let tuned = tuning.run(&origin, scales.collect(), &path, reporter)?;
        let mut matrices = HashMap::new();
        for ((linear, matrix), factors) in packed.iter().zip(&tuned.factors) {
            matrices.insert(linear.module.clone(), times(matrix, factors)?);
        }
        Ok(TunedScales { tuned, matrices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rco_formats::compressed_tensors::Scheme;
    use rco_formats::safetensors::Dtype;
    use rco_formats::source::ReadAt;
    use rco_model::weights::FloatType;

    #[test]
    fn codes_stay_and_scales_are_rounded_as_the_file_has_them() {
        let scheme: Scheme = "4g32".parse().unwrap();
        let parts = scheme.tensors(2, 64, Dtype::Bf16).unwrap();
        let scales = [1.0, -2.0, 0.5, 4.0];
        let part = |wanted| -> Option<Arc<dyn ReadAt>> {
            let (_, dtype, shape) = parts.iter().find(|(part, ..)| *part == wanted)?;
            let mut bytes = Vec::new();
            if *dtype == Dtype::Bf16 {
                FloatType::Bf16.narrow(&scales, &mut bytes);
            } else {
                bytes = vec![0xcc; 4 * shape.iter().product::<u64>() as usize];
            }
            Some(Arc::new(bytes))
        };
        let matrix = PackedMatrix::new("m", scheme, [2, 64], Dtype::Bf16, part).unwrap();
        let tuned = times(&matrix, &[1.0, 1.003, 0.9, 1.1]).unwrap();
        // Floats with 8 bits are 1/128 apart here.
        let found = tuned.read_scales().unwrap();
        assert_eq!(found, [1.0, -2.0, 0.449_218_75, 4.406_25]);
        let values = |matrix: &PackedMatrix| {
            let mut values = vec![0.0; 128];
            matrix.read_rows(0, &mut values).unwrap();
            values
        };
        for (n, (old, new)) in values(&matrix).iter().zip(values(&tuned)).enumerate() {
            let expected = old / scales[n / 32] * found[n / 32];
            assert!((new - expected).abs() <= 0.004 * expected.abs(), "{n}: {new} {expected}");
        }
    }
}
