//! Rotary embedding from `config.json`, in the forms of transformers 4 and 5.

use serde_json::Value;

use super::fields::Fields;
use super::rope::{Rope, RopeOrder, RopeScaling};
use crate::error::ModelError;

const THETA: &str = "base of the rotary embedding";

/// Rotary embeddings of blocks with full and with sliding attention.
pub(super) struct Ropes {
    pub(super) full: Rope,
    pub(super) sliding: Rope,
}

pub(super) fn parse(config: &Fields<'_>) -> Result<Ropes, ModelError> {
    let context = config.count_opt("max_position_embeddings")?;
    whole_heads(config)?;
    if let Some(parameters) = config.object("rope_parameters", "rope_parameters.")? {
        let full = parameters.object("full_attention", "rope_parameters.full_attention.")?;
        let sliding =
            parameters.object("sliding_attention", "rope_parameters.sliding_attention.")?;
        return match (full, sliding) {
            (None, None) => {
                let rope = one(&parameters, &parameters, context)?;
                Ok(Ropes { full: rope.clone(), sliding: rope })
            }
            (Some(full), Some(sliding)) => Ok(Ropes {
                full: one(&full, &full, context)?,
                sliding: one(&sliding, &sliding, context)?,
            }),
            (None, _) => Err(parameters.missing("full_attention", THETA)),
            (_, None) => Err(parameters.missing("sliding_attention", THETA)),
        };
    }
    let full = match config.object("rope_scaling", "rope_scaling.")? {
        Some(scaling) => one(config, &scaling, context)?,
        None => plain(config.positive("rope_theta", THETA)?),
    };
    // Gemma 3 has a base of its own, without scaling, where the attention slides.
    let local = config.positive_opt("rope_local_base_freq")?;
    let sliding = local.map_or_else(|| full.clone(), plain);
    Ok(Ropes { full, sliding })
}

fn whole_heads(fields: &Fields<'_>) -> Result<(), ModelError> {
    const FIELD: &str = "partial_rotary_factor";
    match fields.positive_opt(FIELD)? {
        Some(share) if share != 1.0 => {
            Err(fields.unsupported(FIELD, &Value::from(share), "whole heads are rotated"))
        }
        _ => Ok(()),
    }
}

fn plain(base: f64) -> Rope {
    Rope { base, scaling: RopeScaling::None, order: RopeOrder::Halves }
}

fn one(
    bases: &Fields<'_>,
    scaling: &Fields<'_>,
    context: Option<usize>,
) -> Result<Rope, ModelError> {
    let base = bases.positive("rope_theta", THETA)?;
    whole_heads(scaling)?;
    let field = if scaling.get("rope_type").is_some() { "rope_type" } else { "type" };
    let kind = scaling.text(field, "kind of scaling of the rotary embedding")?;
    let factor = || scaling.positive("factor", "divisor of the rotary frequencies");
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "llama3" => {
            let scaling = RopeScaling::Llama3 {
                factor: factor()?,
                low: scaling.positive("low_freq_factor", "where frequencies are divided")?,
                high: scaling.positive("high_freq_factor", "where frequencies are kept")?,
                original_context: scaling.positive(
                    "original_max_position_embeddings",
                    "context length of the first training",
                )?,
            };
            if let RopeScaling::Llama3 { low, high, .. } = scaling
                && low >= high
            {
                let found = Value::from(low);
                return Err(ModelError::BadField {
                    field: "rope_scaling.low_freq_factor".to_owned(),
                    found: found.to_string(),
                    expected: format!("less than high_freq_factor, {high}"),
                });
            }
            scaling
        }
        "yarn" => yarn(scaling, factor()?, context)?,
        other => {
            let supported = "default, linear, llama3 and yarn are";
            return Err(scaling.unsupported(field, &Value::from(other), supported));
        }
    };
    Ok(Rope { base, scaling, order: RopeOrder::Halves })
}

fn yarn(
    scaling: &Fields<'_>,
    factor: f64,
    context: Option<usize>,
) -> Result<RopeScaling, ModelError> {
    let original = scaling.positive_opt("original_max_position_embeddings")?;
    let Some(original_context) = original.or(context.map(|n| n as f64)) else {
        let meaning = "context length of the first training";
        return Err(scaling.missing("original_max_position_embeddings", meaning));
    };
    let growth = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let given = scaling.positive_opt("attention_factor")?;
    let mscale = scaling.positive_opt("mscale")?;
    let mscale_all = scaling.positive_opt("mscale_all_dim")?;
    let attention_factor = match (given, mscale, mscale_all) {
        (Some(given), ..) => given,
        (None, Some(one), Some(all)) => growth(one) / growth(all),
        _ => growth(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        // The values of the paper; files name them only if they differ.
        beta_fast: scaling.positive_opt("beta_fast")?.unwrap_or(32.0),
        beta_slow: scaling.positive_opt("beta_slow")?.unwrap_or(1.0),
        original_context,
        attention_factor,
        truncate: scaling.flag_or("truncate", true)?,
    })
}
