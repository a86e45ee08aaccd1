//! What a job would do, before anything heavy.

use rco_formats::gguf::TensorType;
use rco_model::engine::Footprint;
use serde::Serialize;

use super::open::{Engine, Job, encoding_bytes};
use super::settings::Target;
use crate::effort::BESIDES;
use crate::error::QuantError;
use crate::size::{Beside, beside, weights};

/// What a job would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outlook {
    /// Architecture.
    pub architecture: String,
    /// Number of weights.
    pub weights: u64,
    /// Bytes of the source.
    pub source_bytes: u64,
    /// Tensors that are decided on.
    pub groups: usize,
    /// Options of all of them.
    pub options: usize,
    /// Forms on the menu, with the number of tensors that may take each.
    pub types: Vec<(String, usize)>,
    /// Bytes of the smallest file that the menu gives.
    pub smallest: u64,
    /// Bytes of the option database.
    pub database_bytes: u64,
    /// Weights that are encoded.
    pub encoded_weights: u64,
    /// Tokens that are computed forwards or backwards, about.
    pub tokens: u64,
    /// Bytes of memory at most, about.
    pub memory: u64,
    /// Bytes of memory of a gradient, by what they are for; none without gradients.
    pub gradient_memory: Option<Footprint>,
    /// Bytes of memory that encoding takes, before.
    pub encoding_memory: u64,
    /// Seconds, about, on two cores.
    pub seconds: f64,
    /// The orders.
    pub orders: Vec<OutlookOrder>,
}

/// One budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutlookOrder {
    /// Bytes of the file allowed.
    pub budget: u64,
    /// The same in bits per weight.
    pub bits_per_weight: f64,
    /// Memory beside the file, if the budget is that of a device.
    pub kv_cache: Option<u64>,
    /// Buffers, if the budget is that of a device.
    pub compute: Option<u64>,
    /// The file to write.
    pub output: String,
}

/// Operations a second that the estimate of the time takes: two cores of 2023, at what a model
/// of a hundred million weights leaves of their peak.
const SPEED: f64 = 8e10;
/// Seconds that the tables of a type's encoder take, once, and weights that it encodes a
/// second: measured on two cores, rounded.
fn encoding(ty: TensorType) -> (f64, f64) {
    match ty {
        TensorType::IQ2_XS | TensorType::IQ2_S => (7.0, 2e6),
        TensorType::IQ2_XXS | TensorType::IQ1_S | TensorType::IQ1_M => (2.0, 2.3e6),
        TensorType::IQ3_XXS | TensorType::IQ3_S => (0.5, 2.3e6),
        TensorType::IQ4_XS | TensorType::IQ4_NL => (0.0, 3.8e6),
        TensorType::Q6_K => (0.0, 2e7),
        TensorType::Q8_0 | TensorType::F16 | TensorType::BF16 | TensorType::F32 => (0.0, 7e7),
        _ => (0.0, 7e6),
    }
}

impl Job {
    /// What the job would do. Reads nothing but headers.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn outlook(&self) -> Result<Outlook, QuantError> {
        let model = self.model();
        let weights = weights(model)?;
        let smallest = self.smallest_groups()?.range().0;
        let mut types: Vec<(String, usize)> = Vec::new();
        let (mut database_bytes, mut encoded_weights) = (0_u64, 0_u64);
        let tables = self.menu.encoded_types();
        let mut encoding_seconds: f64 = tables.into_iter().map(|ty| encoding(ty).0).sum();
        for choice in &self.menu.choices {
            for &form in &choice.forms {
                let form_name = self.menu.named(form).to_string();
                match types.iter_mut().find(|(name, _)| *name == form_name) {
                    Some((_, count)) => *count += 1,
                    None => types.push((form_name, 1)),
                }
                if form.file.is_none() && form != choice.source() {
                    let bytes = choice.in_type(form.ty).byte_length()?.unwrap_or(0);
                    database_bytes = database_bytes.saturating_add(bytes);
                    encoded_weights = encoded_weights.saturating_add(choice.weights);
                    encoding_seconds += choice.weights as f64 / encoding(form.ty).1;
                }
            }
        }
        types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let work = self.settings.effort.plan();
        let window = work.window as u64;
        let orders = self.budgets.len().max(1) as u64;
        let backward = match self.engine {
            Some(_) => work.fisher + orders * work.steps * work.per_gradient as u64,
            None => 0,
        };
        // A window each, and the original's states on it.
        let tuned = self.engine.as_ref().map_or(0, |_| orders * self.settings.tuning_steps());
        let forward = (work.calibration + work.heldout) as u64 * 2
            + orders
                * ((work.refine + work.polish + BESIDES) * work.measured as u64
                    + 8 * work.heldout as u64);
        let tokens = window * (backward * 3 + forward + tuned * 4);
        let (footprint, encoding) = (self.footprint(), encoding_bytes(&self.menu));
        let active = weights - self.idle_weights();
        // Forward in the engine, exact and rounded, and in llama.cpp, both models each time.
        let verified = 3 * window * work.verified as u64 * orders;
        let seconds = 2.0 * active as f64 * tokens as f64 / SPEED
            + encoding_seconds
            + backward as f64 * self.menu.work() as f64 / 1e9
            + 4.0 * verified as f64 * active as f64 / SPEED;
        let outlook_orders =
            self.settings.orders.iter().zip(&self.budgets).map(|(order, &budget)| {
                let needs = match order.target {
                    Target::Memory { context, kv, parallel, .. } => {
                        Some(beside(model.metadata(), context, parallel, kv)?)
                    }
                    _ => None,
                };
                Ok(OutlookOrder {
                    budget,
                    bits_per_weight: 8.0 * budget as f64 / weights as f64,
                    kv_cache: needs.map(|Beside { kv_cache, .. }| kv_cache),
                    compute: needs.map(|Beside { compute, .. }| compute),
                    output: order.output.display().to_string(),
                })
            });
        Ok(Outlook {
            architecture: model.metadata().architecture().unwrap_or_default().to_owned(),
            weights,
            source_bytes: model.file_size(),
            groups: self.menu.choices.len(),
            options: self.menu.choices.iter().map(|c| c.forms.len()).sum(),
            types,
            smallest,
            database_bytes,
            encoded_weights,
            tokens,
            memory: footprint.map_or(0, |f| f.peak()).max(encoding),
            gradient_memory: footprint,
            encoding_memory: encoding,
            seconds,
            orders: outlook_orders.collect::<Result<_, QuantError>>()?,
        })
    }

    /// Weights of experts that a token does not meet.
    fn idle_weights(&self) -> u64 {
        use rco_model::config::MlpConfig;
        let Some(Engine { config, .. }) = &self.engine else { return 0 };
        let hidden = config.hidden as u64;
        let idle = config.blocks.iter().map(|block| match block.mlp {
            MlpConfig::Experts { experts, per_token, width, .. } => {
                experts.saturating_sub(per_token) as u64 * 3 * hidden * width as u64
            }
            MlpConfig::Dense { .. } => 0,
        });
        idle.sum()
    }
}
