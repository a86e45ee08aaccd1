//! `quantization_config` of `config.json`: which modules are stored in which scheme.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Value, json};

use super::scheme::Scheme;
use super::targets::patterns;

/// Version of the format that is written.
const VERSION: &str = "0.20.0";
/// The name of the format.
const FORMAT: &str = "pack-quantized";
/// Class of modules that a target may name.
const LINEAR: &str = "Linear";

/// What is wrong with a `quantization_config`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.json: quantization_config{field} is {found}, expected {expected}")]
pub struct ConfigFault {
    /// Path of the field from `quantization_config` on.
    pub field: String,
    /// What is there.
    pub found: String,
    /// What can be read.
    pub expected: &'static str,
}

/// The value of `quantization_config` for modules in schemes, and modules of matrices that are
/// not packed. `act_order` says that columns were taken in the order of their importance,
/// which is for information only.
pub fn quantization_config(
    packed: &[(String, Scheme)],
    plain: &[String],
    act_order: bool,
) -> Value {
    let mut schemes: BTreeMap<Scheme, Vec<&str>> = BTreeMap::new();
    for (module, scheme) in packed {
        schemes.entry(*scheme).or_default().push(module);
    }
    let groups: serde_json::Map<String, Value> = schemes
        .into_iter()
        .enumerate()
        .map(|(n, (scheme, modules))| {
            let mut weights = json!({
                "num_bits": scheme.bits(),
                "type": "int",
                "symmetric": scheme.symmetric(),
                "strategy": "group",
                "group_size": scheme.group(),
                "dynamic": false,
            });
            if act_order {
                weights["actorder"] = json!("weight");
            }
            let group = json!({
                "targets": patterns(modules),
                "weights": weights,
                "input_activations": null,
                "output_activations": null,
                "format": FORMAT,
            });
            (format!("group_{n}"), group)
        })
        .collect();
    json!({
        "quant_method": "compressed-tensors",
        "version": VERSION,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": patterns(plain.iter().map(String::as_str)),
        "kv_cache_scheme": null,
        "global_compression_ratio": null,
    })
}

/// A target of a group.
#[derive(Debug, Clone)]
enum Target {
    Name(String),
    Pattern(Regex),
    Linear,
}

impl Target {
    fn parse(field: &str, value: &Value) -> Result<Self, ConfigFault> {
        let fault = |expected| fault(field, value, expected);
        let text = value.as_str().ok_or_else(|| fault("a name or a pattern"))?;
        match text.strip_prefix("re:") {
            // Patterns are matched from the beginning of the name.
            Some(pattern) => Regex::new(&format!("^(?:{pattern})"))
                .map(Self::Pattern)
                .map_err(|_| fault("a pattern without look-around and back references")),
            None if text == LINEAR => Ok(Self::Linear),
            None => Ok(Self::Name(text.to_owned())),
        }
    }

    fn matches(&self, module: &str) -> bool {
        match self {
            Self::Name(name) => name == module,
            Self::Pattern(pattern) => pattern.is_match(module),
            Self::Linear => true,
        }
    }

    /// Names go before patterns, and these before the class.
    fn rank(&self) -> u8 {
        match self {
            Self::Name(_) => 0,
            Self::Pattern(_) => 1,
            Self::Linear => 2,
        }
    }
}

/// The schemes of a folder's modules.
#[derive(Debug, Clone)]
pub struct ModuleSchemes {
    targets: Vec<(Target, GridArgs)>,
    ignored: Vec<Target>,
}

/// Bits, group size (`None`: a whole row) and symmetry of a group of modules.
#[derive(Debug, Clone, Copy)]
struct GridArgs {
    bits: u8,
    group: Option<u32>,
    symmetric: bool,
}

impl ModuleSchemes {
    /// Reads the value of `quantization_config`.
    ///
    /// # Errors
    /// [`ConfigFault`] for anything but weights in `pack-quantized` form.
    pub fn parse(config: &Value) -> Result<Self, ConfigFault> {
        expect(config, "", "quant_method", "compressed-tensors")?;
        let groups = field(config, "", "config_groups")?;
        let Some(groups) = groups.as_object() else {
            return Err(fault(".config_groups", groups, "an object of groups"));
        };
        let mut targets = Vec::new();
        for (name, group) in groups {
            let path = format!(".config_groups.{name}");
            let format = group.get("format").filter(|v| !v.is_null());
            match format {
                Some(format) if format != FORMAT => {
                    return Err(fault(&format!("{path}.format"), format, "pack-quantized"));
                }
                Some(_) => {}
                None => expect(config, "", "format", FORMAT)?,
            }
            for activations in ["input_activations", "output_activations"] {
                if let Some(value) = group.get(activations).filter(|v| !v.is_null()) {
                    let field = format!("{path}.{activations}");
                    return Err(fault(&field, value, "none: activations stay as they are"));
                }
            }
            let args =
                GridArgs::parse(&format!("{path}.weights"), field(group, &path, "weights")?)?;
            for target in list(group, &path, "targets")? {
                targets.push((Target::parse(&format!("{path}.targets"), target)?, args));
            }
        }
        targets.sort_by_key(|(target, _)| target.rank());
        let ignored = match config.get("ignore").filter(|v| !v.is_null()) {
            None => Vec::new(),
            Some(_) => list(config, "", "ignore")?
                .iter()
                .map(|value| Target::parse(".ignore", value))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { targets, ignored })
    }

    /// The scheme of a module with rows of so many columns; `None` if none is meant for it, or
    /// its rows are no whole groups.
    pub fn scheme(&self, module: &str, columns: usize) -> Option<Scheme> {
        if self.ignored.iter().any(|target| target.matches(module)) {
            return None;
        }
        let (_, args) = self.targets.iter().find(|(target, _)| target.matches(module))?;
        let group = match args.group {
            Some(group) => group,
            None => u32::try_from(columns).ok()?,
        };
        Scheme::new(args.bits, group, args.symmetric).filter(|scheme| scheme.fits(columns))
    }
}

impl GridArgs {
    fn parse(path: &str, weights: &Value) -> Result<Self, ConfigFault> {
        expect(weights, path, "type", "int")?;
        let bits = field(weights, path, "num_bits")?;
        let bits = bits
            .as_u64()
            .filter(|bits| (1..=8).contains(bits))
            .ok_or_else(|| fault(&format!("{path}.num_bits"), bits, "1 to 8"))?;
        let symmetric = field(weights, path, "symmetric")?;
        let symmetric = symmetric
            .as_bool()
            .ok_or_else(|| fault(&format!("{path}.symmetric"), symmetric, "true or false"))?;
        let strategy = field(weights, path, "strategy")?;
        let group = match strategy.as_str() {
            Some("channel") => None,
            Some("group") => {
                let size = field(weights, path, "group_size")?;
                let wrong = || fault(&format!("{path}.group_size"), size, "a multiple of 32");
                let group = size.as_u64().and_then(|size| u32::try_from(size).ok());
                Some(group.filter(|g| *g > 0 && g.is_multiple_of(32)).ok_or_else(wrong)?)
            }
            _ => return Err(fault(&format!("{path}.strategy"), strategy, "group or channel")),
        };
        Ok(Self { bits: bits as u8, group, symmetric })
    }
}

fn fault(field: &str, found: &Value, expected: &'static str) -> ConfigFault {
    let mut found = found.to_string();
    if let Some((at, _)) = found.char_indices().nth(80) {
        found.truncate(at);
        found.push('…');
    }
    ConfigFault { field: field.to_owned(), found, expected }
}

fn field<'a>(object: &'a Value, path: &str, name: &str) -> Result<&'a Value, ConfigFault> {
    object.get(name).ok_or_else(|| ConfigFault {
        field: format!("{path}.{name}"),
        found: "missing".to_owned(),
        expected: "a value",
    })
}

fn expect(
    object: &Value,
    path: &str,
    name: &str,
    expected: &'static str,
) -> Result<(), ConfigFault> {
    let found = field(object, path, name)?;
    if found == expected {
        return Ok(());
    }
    Err(fault(&format!("{path}.{name}"), found, expected))
}

fn list<'a>(object: &'a Value, path: &str, name: &str) -> Result<&'a [Value], ConfigFault> {
    let value = field(object, path, name)?;
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| fault(&format!("{path}.{name}"), value, "a list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(text: &str) -> Scheme {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let packed = [
            ("model.layers.0.self_attn.q_proj".to_owned(), scheme("3g64z")),
            ("model.layers.1.self_attn.q_proj".to_owned(), scheme("4g64")),
            ("model.layers.10.self_attn.q_proj".to_owned(), scheme("3g64z")),
        ];
        let plain = ["lm_head".to_owned(), "model.layers.2.self_attn.q_proj".to_owned()];
        let config = quantization_config(&packed, &plain, false);
        let schemes = ModuleSchemes::parse(&config).unwrap();
        for (module, scheme) in &packed {
            assert_eq!(schemes.scheme(module, 128), Some(*scheme));
            assert_eq!(schemes.scheme(module, 96), None, "no whole groups");
        }
        for module in &plain {
            assert_eq!(schemes.scheme(module, 128), None);
        }
        assert_eq!(schemes.scheme("model.layers.11.self_attn.q_proj", 128), None);
    }

    #[test]
    fn names_go_before_patterns_and_patterns_before_the_class() {
        let weights = |bits| json!({"num_bits": bits, "type": "int", "symmetric": true, "strategy": "channel"});
        let config = json!({
            "quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {
                "a": {"targets": ["Linear"], "weights": weights(8)},
                "b": {"targets": ["re:.*up$"], "weights": weights(4)},
                "c": {"targets": ["x.up"], "weights": weights(2)},
            },
            "ignore": ["re:x\\.no"],
        });
        let schemes = ModuleSchemes::parse(&config).unwrap();
        let bits = |module| schemes.scheme(module, 64).map(Scheme::bits);
        assert_eq!(bits("x.up"), Some(2));
        assert_eq!(bits("y.up"), Some(4));
        assert_eq!(bits("y.down"), Some(8));
        assert_eq!(bits("x.nothing"), None);
        assert_eq!(schemes.scheme("y.up", 96).unwrap().group(), 96);
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        let good = quantization_config(&[("a".to_owned(), scheme("4g32"))], &[], true);
        assert!(ModuleSchemes::parse(&good).is_ok());
        let weights = "/config_groups/group_0/weights";
        let pattern = "/config_groups/group_0/targets/0";
        for (pointer, value, named) in [
            ("/quant_method".to_owned(), json!("gptq"), ".quant_method"),
            ("/config_groups".to_owned(), json!([]), ".config_groups"),
            ("/config_groups/group_0/format".to_owned(), json!("dense"), ".format"),
            (
                "/config_groups/group_0/input_activations".to_owned(),
                json!({"num_bits": 8}),
                ".input_activations",
            ),
            (format!("{weights}/num_bits"), json!(9), ".num_bits"),
            (format!("{weights}/num_bits"), json!("4"), ".num_bits"),
            (format!("{weights}/type"), json!("float"), ".type"),
            (format!("{weights}/symmetric"), json!(1), ".symmetric"),
            (format!("{weights}/strategy"), json!("tensor"), ".strategy"),
            (format!("{weights}/group_size"), json!(-1), ".group_size"),
            (format!("{weights}/group_size"), json!(48), ".group_size"),
            (pattern.to_owned(), json!("re:(?=a)"), ".targets"),
            (pattern.to_owned(), json!(3), ".targets"),
            ("/ignore".to_owned(), json!("lm_head"), ".ignore"),
        ] {
            let mut config = good.clone();
            *config.pointer_mut(&pointer).unwrap() = value;
            let fault = ModuleSchemes::parse(&config).unwrap_err();
            assert!(fault.field.ends_with(named), "{pointer}: {fault}");
        }
        let fault = ModuleSchemes::parse(&json!({})).unwrap_err();
        assert!(fault.to_string().contains("missing"), "{fault}");
    }
}
