//! Rules of the user: tensors that must be alike, tensors with a type of their own.

use rco_formats::gguf::TensorType;
use regex::Regex;

use crate::error::QuantError;
use crate::menu::{Form, Menu};

/// A type for all tensors whose name matches: `REGEX=TYPE`.
#[derive(Debug, Clone)]
pub struct Pin {
    pattern: Regex,
    ty: TensorType,
}

impl Pin {
    /// The type.
    pub fn ty(&self) -> TensorType {
        self.ty
    }
}

impl std::str::FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, ty) = text.rsplit_once('=').ok_or("expected REGEX=TYPE")?;
        let ty = parse_type(ty)?;
        Ok(Self { pattern: Regex::new(pattern).map_err(|e| e.to_string())?, ty })
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.pattern, self.ty)
    }
}

/// The type of that name.
///
/// # Errors
/// A text that lists the names there are.
pub fn parse_type(name: &str) -> Result<TensorType, String> {
    TensorType::from_name(name.trim()).ok_or_else(|| {
        let known: Vec<&str> = TensorType::known()
            .filter(|(ty, _)| rco_ggml::can_encode(*ty))
            .map(|(_, layout)| layout.name)
            .collect();
        format!("`{name}` is no tensor type; there are {}", known.join(", "))
    })
}

/// Applies pins: the tensors that match have only forms of that type left.
///
/// # Errors
/// [`QuantError::Rule`] for a pin that matches nothing, or a tensor that cannot take the
/// type.
pub fn pin(menu: &mut Menu, pins: &[Pin]) -> Result<(), QuantError> {
    for pin in pins {
        let what = format!("--pin {pin}");
        let mut matched = false;
        for choice in &mut menu.choices {
            let name = &choice.tensor.name;
            if !pin.pattern.is_match(name) {
                continue;
            }
            matched = true;
            if !choice.forms.iter().any(|form| form.ty == pin.ty) {
                let mut types: Vec<String> =
                    choice.forms.iter().map(|form| form.ty.to_string()).collect();
                types.dedup();
                let problem = format!("{name} can take {} only", types.join(", "));
                return Err(QuantError::Rule { what, problem });
            }
            choice.forms.retain(|form| form.ty == pin.ty);
        }
        if !matched {
            return Err(QuantError::Rule { what, problem: "no tensor matches".to_owned() });
        }
    }
    Ok(())
}

/// The tensors that must take one type: those that match a pattern, layer by layer; with
/// `fuse_friendly`, gate and up projections of each layer, which llama.cpp then computes
/// together.
///
/// # Errors
/// [`QuantError::Rule`] for a pattern that matches fewer than two tensors of any layer.
pub fn ties(
    menu: &Menu,
    patterns: &[Regex],
    fuse_friendly: bool,
) -> Result<Vec<Vec<String>>, QuantError> {
    let mut out = Vec::new();
    for pattern in patterns {
        let sets = by_layer(menu, |name| pattern.is_match(name));
        if sets.is_empty() {
            let problem = "it matches no two tensors of the same layer".to_owned();
            return Err(QuantError::Rule { what: format!("--tie {pattern}"), problem });
        }
        out.extend(sets);
    }
    if fuse_friendly {
        for [gate, up] in
            [["ffn_gate.weight", "ffn_up.weight"], ["ffn_gate_exps.weight", "ffn_up_exps.weight"]]
        {
            out.extend(by_layer(menu, |name| name.ends_with(gate) || name.ends_with(up)));
        }
    }
    Ok(out)
}

/// Sets of two or more matching tensors of one layer.
fn by_layer(menu: &Menu, matches: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    let layer = |name: &str| {
        let rest = name.strip_prefix("blk.")?;
        rest.split_once('.').map(|(layer, _)| layer.to_owned())
    };
    let mut sets: Vec<(Option<String>, Vec<String>)> = Vec::new();
    for choice in &menu.choices {
        let name = &choice.tensor.name;
        if !matches(name) {
            continue;
        }
        let layer = layer(name);
        match sets.iter_mut().find(|(l, _)| *l == layer) {
            Some((_, set)) => set.push(name.clone()),
            None => sets.push((layer, vec![name.clone()])),
        }
    }
    sets.into_iter().map(|(_, set)| set).filter(|set| set.len() > 1).collect()
}

/// Leaves tied tensors the forms that all of them have.
///
/// # Errors
/// [`QuantError::Rule`] if they have none in common.
pub fn align(menu: &mut Menu, ties: &[Vec<String>]) -> Result<(), QuantError> {
    for tie in ties {
        let of = |menu: &Menu, name: &String| {
            menu.choices.iter().find(|c| c.tensor.name == *name).map(|c| c.forms.clone())
        };
        let mut common: Option<Vec<Form>> = None;
        for forms in tie.iter().filter_map(|name| of(menu, name)) {
            common = Some(match common {
                None => forms,
                Some(before) => before.into_iter().filter(|form| forms.contains(form)).collect(),
            });
        }
        let common = common.unwrap_or_default();
        if common.is_empty() {
            let what = format!("tie of {}", tie.join(" and "));
            let problem = "they have no type in common".to_owned();
            return Err(QuantError::Rule { what, problem });
        }
        for choice in menu.choices.iter_mut().filter(|c| tie.contains(&c.tensor.name)) {
            choice.forms.clone_from(&common);
        }
    }
    Ok(())
}
