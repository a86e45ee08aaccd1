//! Plans that others use: one type everywhere, and llama.cpp's own recipes.

use std::path::Path;

use rco_core::Assignment;
use rco_formats::gguf::TensorType;
use rco_formats::imatrix::Imatrix;
use rco_ggml::Preset;

use crate::error::QuantError;
use crate::groups::Groups;

/// Recipes entered, those nearest to the budget from below.
const RECIPES: usize = 3;

/// The plan with one type everywhere (where a tensor cannot take it, the next larger) that
/// comes nearest to the budget from below, and of llama.cpp's recipes the few largest that
/// fit.
///
/// # Errors
/// llama.cpp cannot say what its recipes choose.
pub fn plans(
    groups: &Groups,
    source: &Path,
    importance: Option<&Imatrix>,
    budget: u64,
) -> Result<Vec<(String, Assignment)>, QuantError> {
    let fits = |plan: &Assignment| groups.bytes(plan) <= budget;
    let mut out = Vec::new();
    let mut types: Vec<TensorType> =
        groups.menu().choices.iter().flat_map(|c| c.types.iter().copied()).collect();
    types.sort_unstable();
    types.dedup();
    let uniform = types.into_iter().map(|ty| (format!("all {ty}"), groups.nearest(|_| Some(ty))));
    let best = uniform.filter(|(_, plan)| fits(plan)).max_by_key(|(_, plan)| groups.bytes(plan));
    out.extend(best);

    let mut recipes = Vec::new();
    for preset in Preset::all() {
        // A preset that needs an importance matrix has no recipe without.
        let Ok(recipe) = rco_ggml::recipe(source, preset, importance) else { continue };
        let plan = groups
            .nearest(|name| recipe.iter().find(|(tensor, _)| tensor == name).map(|(_, ty)| *ty));
        if fits(&plan) {
            recipes.push((groups.bytes(&plan), format!("llama.cpp's {}", preset.name()), plan));
        }
    }
    recipes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    recipes.dedup_by(|a, b| a.2 == b.2);
    out.extend(recipes.into_iter().take(RECIPES).map(|(_, name, plan)| (name, plan)));
    Ok(out)
}
