//! Gradients of weights on their way out of the backward pass.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::flips::{ExpertFlips, FlipForm};
use super::linear_gradient::LinearGradient;
use crate::engine::{Clock, Part};
use crate::error::ModelError;
use crate::key::WeightKey;
use crate::ops::{Loop, bias_gradient, floats, vectorised, weight_gradient};
use crate::weights::{WeightSource, rows_per_task};

/// Values that a task adds up; a constant, so that the order of the sums is one too.
const TASK: usize = 64 * 1024;

/// What is done with the gradients of weights.
pub trait GradientVisitor {
    /// Whether the gradient of this weight is wanted. One that is not costs nothing.
    fn wants(&self, key: WeightKey) -> bool;

    /// Takes the gradient of a weight, which is dropped afterwards. Each wanted weight comes
    /// once, but for those of experts that are dropped or get no token: their gradient is 0.
    ///
    /// # Errors
    /// Any; ends the backward pass.
    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError>;

    /// Takes the two matrices whose product is the gradient of a linear map's weight, and says
    /// whether it needs no more: if not, which is the default, their product is formed and comes
    /// to [`Self::visit`].
    ///
    /// # Errors
    /// Any; ends the backward pass.
    fn visit_linear(&mut self, _gradient: &LinearGradient<'_>) -> Result<bool, ModelError> {
        Ok(false)
    }

    /// How the change of the loss is estimated when single experts of this block are dropped
    /// or taken back; `None` if it is not wanted, which costs nothing.
    fn flip_form(&self, _layer: usize) -> Option<FlipForm> {
        None
    }

    /// Takes these estimates.
    ///
    /// # Errors
    /// Any; ends the backward pass.
    fn visit_flips(&mut self, _flips: &ExpertFlips) -> Result<(), ModelError> {
        Ok(())
    }
}

/// The gradient of the loss at one weight.
#[derive(Debug)]
pub struct WeightGradient<'a> {
    /// The weight.
    pub key: WeightKey,
    pub(super) weight: &'a Tensor,
    pub(super) gradient: Tensor,
}

/// Checks that each source holds a weight of this shape under this key.
pub(super) fn check_sources(
    sources: &[&dyn WeightSource],
    key: WeightKey,
    shape: &[usize],
) -> Result<(), ModelError> {
    for source in sources {
        let name = || source.name(key);
        match source.shape(key) {
            None => return Err(ModelError::MissingWeight { name: name() }),
            Some(found) if found != shape => {
                let expected = shape.to_vec();
                return Err(ModelError::WrongShape { name: name(), expected, found });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Inner product, summed in f64.
fn product(g: &[f32], w: &[f32]) -> f32 {
    g.iter().zip(w).map(|(g, w)| f64::from(*g) * f64::from(*w)).sum::<f64>() as f32
}

/// The values of a tensor of any device.
fn host(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Ok(tensor.flatten_all()?.to_vec1()?)
}

impl WeightGradient<'_> {
    /// Dimensions of weight and gradient.
    pub fn shape(&self) -> &[usize] {
        self.gradient.dims()
    }

    /// The gradient, row after row.
    ///
    /// # Errors
    /// Failure of the tensor library.
    pub fn values(&self) -> Result<Vec<f64>, ModelError> {
        let flat = self.gradient.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?;
        Ok(flat.to_vec1()?)
    }

    /// `⟨gradient, option − weight⟩` for what each source holds under this weight's key. The
    /// options are read a few rows at a time, while those of gradient and weight are in the
    /// cache; none is ever in memory as a whole. Summed in f64.
    ///
    /// # Errors
    /// [`ModelError::MissingWeight`], [`ModelError::WrongShape`] or a failed read.
    pub fn dot_sources(&self, sources: &[&dyn WeightSource]) -> Result<Vec<f64>, ModelError> {
        check_sources(sources, self.key, self.shape())?;
        let fast = floats([&self.gradient, self.weight], |[g, w]| {
            let rows = rows_per_task(self.shape());
            let width = self.shape().last().copied().unwrap_or(1).max(1);
            let tasks = g.par_chunks(rows * width).zip(w.par_chunks(rows * width)).enumerate();
            let parts = tasks.map_init(Vec::new, |option: &mut Vec<f32>, (task, (g, w))| {
                option.resize(g.len(), 0.0);
                let dot = |source: &&dyn WeightSource| {
                    source.read_rows(self.key, task * rows, option)?;
                    Ok(dot_difference(g, w, option))
                };
                sources.iter().map(dot).collect::<Result<Vec<f64>, ModelError>>()
            });
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            Ok((0..sources.len()).map(|i| parts.iter().map(|part| part[i]).sum()).collect())
        })?;
        if let Some(sums) = fast {
            return sums;
        }
        sources.iter().map(|s| self.dot_difference(&s.load(self.key)?.values)).collect()
    }

    /// `Σ gradient · weight` over each `group` columns of each row, row after row: the derivative
    /// of the loss by the logarithm of what the group is multiplied with. Summed in f64.
    ///
    /// # Errors
    /// [`ModelError::WrongLength`] if the group does not divide the columns.
    pub fn group_products(&self, group: usize) -> Result<Vec<f32>, ModelError> {
        self.check_group(group)?;
        let fast = floats([&self.gradient, self.weight], |[g, w]| {
            g.par_chunks(group).zip(w.par_chunks(group)).map(|(g, w)| product(g, w)).collect()
        })?;
        if let Some(products) = fast {
            return Ok(products);
        }
        let (g, w) = (host(&self.gradient)?, host(self.weight)?);
        Ok(g.chunks(group).zip(w.chunks(group)).map(|(g, w)| product(g, w)).collect())
    }

    /// The same with the values that `part` has under this weight's key in place of the weight:
    /// the derivative by the logarithm of what a part of each group is multiplied with.
    ///
    /// # Errors
    /// As [`Self::group_products`], [`ModelError::MissingWeight`], [`ModelError::WrongShape`], or a
    /// failed read.
    pub fn group_products_of(
        &self,
        part: &dyn WeightSource,
        group: usize,
    ) -> Result<Vec<f32>, ModelError> {
        self.check_group(group)?;
        check_sources(&[part], self.key, self.shape())?;
        let fast = floats([&self.gradient, self.weight], |[g, _]| {
            let rows = rows_per_task(self.shape());
            let width = self.shape().last().copied().unwrap_or(1).max(1);
            let tasks = g.par_chunks(rows * width).enumerate();
            let products = tasks.map_init(Vec::new, |values: &mut Vec<f32>, (task, g)| {
                values.resize(g.len(), 0.0);
                part.read_rows(self.key, task * rows, values)?;
                let groups = g.chunks(group).zip(values.chunks(group));
                Ok(groups.map(|(g, w)| product(g, w)).collect::<Vec<f32>>())
            });
            Ok(products.collect::<Result<Vec<_>, ModelError>>()?.concat())
        })?;
        if let Some(products) = fast {
            return products;
        }
        let (g, w) = (host(&self.gradient)?, part.load(self.key)?.values);
        Ok(g.chunks(group).zip(w.chunks(group)).map(|(g, w)| product(g, w)).collect())
    }

    fn check_group(&self, group: usize) -> Result<(), ModelError> {
        let columns = self.shape().last().copied().unwrap_or(0);
        if group == 0 || !columns.is_multiple_of(group) {
            let (name, shape) = (self.key.to_string(), self.shape().to_vec());
            return Err(ModelError::WrongLength { name, shape, found: group });
        }
        Ok(())
    }

    /// `⟨gradient, option − weight⟩`: the derivative of the loss when the weight moves to
    /// `option`, which holds the values row after row. Summed in f64.
    ///
    /// # Errors
    /// [`ModelError::WrongLength`] if `option` has another number of values.
    pub fn dot_difference(&self, option: &[f32]) -> Result<f64, ModelError> {
        let found = option.len();
        if found != self.gradient.elem_count() {
            let (name, shape) = (self.key.to_string(), self.shape().to_vec());
            return Err(ModelError::WrongLength { name, shape, found });
        }
        let fast = floats([&self.gradient, self.weight], |[g, w]| {
            let parts = g.par_chunks(TASK).zip(w.par_chunks(TASK)).zip(option.par_chunks(TASK));
            let parts: Vec<f64> = parts.map(|((g, w), o)| dot_difference(g, w, o)).collect();
            parts.iter().sum()
        })?;
        if let Some(sum) = fast {
            return Ok(sum);
        }
        let weight = self.weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let weight: Vec<f64> = weight.flatten_all()?.to_vec1()?;
        let gradient = self.values()?;
        let pairs = gradient.iter().zip(&weight).zip(option);
        Ok(pairs.map(|((g, w), o)| g * (f64::from(*o) - w)).sum())
    }
}

/// `⟨g, o − w⟩`.
fn dot_difference(g: &[f32], w: &[f32], o: &[f32]) -> f64 {
    vectorised(DotDifference { g, w, o })
}

/// The same with partial sums that the compiler turns into vector instructions.
struct DotDifference<'a> {
    g: &'a [f32],
    w: &'a [f32],
    o: &'a [f32],
}

impl Loop for DotDifference<'_> {
    type Output = f64;

    #[allow(clippy::inline_always, reason = "compiled for several machines")]
    #[inline(always)]
    fn run(self) -> f64 {
        let term = |g: f32, w: f32, o: f32| f64::from(g) * (f64::from(o) - f64::from(w));
        let mut sums = [0.0; 16];
        let ((g, g_rest), (w, w_rest), (o, o_rest)) =
            (self.g.as_chunks::<16>(), self.w.as_chunks::<16>(), self.o.as_chunks::<16>());
        for ((g, w), o) in g.iter().zip(w).zip(o) {
            for i in 0..16 {
                sums[i] += term(g[i], w[i], o[i]);
            }
        }
        let rest = g_rest.iter().zip(w_rest).zip(o_rest);
        sums.iter().sum::<f64>() + rest.map(|((g, w), o)| term(*g, *w, *o)).sum::<f64>()
    }
}

/// Hands gradients to a visitor, and computes only those that it wants.
pub(crate) struct Emitter<'a> {
    visitor: &'a mut dyn GradientVisitor,
    clock: &'a Clock,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(visitor: &'a mut dyn GradientVisitor, clock: &'a Clock) -> Self {
        Self { visitor, clock }
    }

    pub(crate) fn wants(&self, key: WeightKey) -> bool {
        self.visitor.wants(key)
    }

    pub(crate) fn flip_form(&self, layer: usize) -> Option<FlipForm> {
        self.visitor.flip_form(layer)
    }

    pub(super) fn flips(&mut self, flips: &ExpertFlips) -> Result<(), ModelError> {
        self.visitor.visit_flips(flips)
    }

    pub(crate) fn visit(
        &mut self,
        key: WeightKey,
        weight: &Tensor,
        gradient: Tensor,
    ) -> Result<(), ModelError> {
        if gradient.dims() != weight.dims() {
            return Err(ModelError::WrongShape {
                name: key.to_string(),
                expected: weight.dims().to_vec(),
                found: gradient.dims().to_vec(),
            });
        }
        let gradient = WeightGradient { key, weight, gradient };
        self.clock.run(Part::Visitor, || self.visitor.visit(&gradient))
    }

    /// Gradient of the weight of a linear map with input `x` and gradient `g` at its output.
    pub(crate) fn linear(
        &mut self,
        key: WeightKey,
        weight: &Tensor,
        x: &Tensor,
        g: &Tensor,
    ) -> Result<(), ModelError> {
        if !self.wants(key) {
            return Ok(());
        }
        let factors = LinearGradient { key, weight, x, g };
        if self.clock.run(Part::Visitor, || self.visitor.visit_linear(&factors))? {
            return Ok(());
        }
        let gradient = self.clock.run(Part::WeightGradients, || weight_gradient(x, g))?;
        self.visit(key, weight, gradient)
    }

    /// Gradient of a bias, if there is one.
    pub(crate) fn bias(
        &mut self,
        key: WeightKey,
        bias: Option<&Tensor>,
        g: &Tensor,
    ) -> Result<(), ModelError> {
        match bias {
            Some(bias) if self.wants(key) => self.visit(key, bias, bias_gradient(g)?),
            _ => Ok(()),
        }
    }
}
