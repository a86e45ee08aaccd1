//! Plans that others use: one type everywhere, llama.cpp's own recipes, options files as
//! they are.

use std::path::Path;
use std::sync::Arc;

use rco_core::Assignment;
use rco_formats::gguf::{GgufModel, TensorType};
use rco_formats::imatrix::Imatrix;
use rco_ggml::Preset;

use crate::error::QuantError;
use crate::groups::Groups;
use crate::menu::Form;

/// Recipes entered, those nearest to the budget from below.
const RECIPES: usize = 3;

/// The plan with one type everywhere (where a tensor cannot take it, the next larger) that
/// comes nearest to the budget from below, of llama.cpp's recipes the few largest that
/// fit, and all of the options files (`foreign`) that fit as they are.
///
/// # Errors
/// llama.cpp cannot say what its recipes choose.
pub fn plans(
    groups: &Groups,
    source: &Path,
    importance: Option<&Imatrix>,
    foreign: &[Arc<GgufModel>],
    budget: u64,
) -> Result<Vec<(String, Assignment)>, QuantError> {
    let fits = |plan: &Assignment| groups.bytes(plan) <= budget;
    let mut out = Vec::new();
    let mut types: Vec<TensorType> =
        groups.menu().choices.iter().flat_map(|c| c.forms.iter().map(|form| form.ty)).collect();
    types.sort_unstable();
    types.dedup();
    let uniform =
        types.into_iter().map(|ty| (format!("all {ty}"), groups.nearest(own(|_| Some(ty)))));
    let best = uniform.filter(|(_, plan)| fits(plan)).max_by_key(|(_, plan)| groups.bytes(plan));
    out.extend(best);

    let mut recipes = Vec::new();
    for preset in Preset::all() {
        // A preset that needs an importance matrix has no recipe without.
        let Ok(recipe) = rco_ggml::recipe(source, preset, importance) else { continue };
        let of = |name: &str| recipe.iter().find(|(tensor, _)| tensor == name).map(|(_, ty)| *ty);
        let plan = groups.nearest(own(of));
        if fits(&plan) {
            recipes.push((groups.bytes(&plan), format!("llama.cpp's {}", preset.name()), plan));
        }
    }
    recipes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    recipes.dedup_by(|a, b| a.2 == b.2);
    out.extend(recipes.into_iter().take(RECIPES).map(|(_, name, plan)| (name, plan)));
    for (n, (file, name)) in foreign.iter().zip(&groups.menu().files).enumerate() {
        let of = |tensor: &str| {
            let (_, theirs) = file.tensor(tensor)?;
            Some(Form { ty: theirs.spec.ty, file: Some(n) })
        };
        let plan = groups.nearest(of);
        if fits(&plan) {
            out.push((format!("{name} as it is"), plan));
        }
    }
    Ok(out)
}

/// Types as forms of our own.
fn own(of: impl Fn(&str) -> Option<TensorType>) -> impl Fn(&str) -> Option<Form> {
    move |tensor| of(tensor).map(Form::own)
}
