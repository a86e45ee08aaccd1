//! Plans that others use: one grid everywhere.

use rco_core::Assignment;
use rco_formats::compressed_tensors::Scheme;

use super::foreign::ForeignFolder;
use super::menu::{Form, Linear, Menu};
use super::sizes::Sizes;

/// Uniform plans entered into the final choice.
const ENTERED: usize = 3;

/// Plans with one form everywhere; where a matrix does not have it, the widest of its forms
/// that is no larger, or else its smallest.
pub(super) fn uniform(menu: &Menu) -> Vec<(String, Assignment)> {
    let mut forms: Vec<Form> = menu.linears.iter().flat_map(|l| l.forms.iter().copied()).collect();
    forms.sort_unstable();
    forms.dedup();
    // Group sizes may differ: a kind of grid is a width with or without zero points.
    let kind = |form: Form| form.scheme().map(|scheme| (scheme.bits(), scheme.symmetric()));
    let mut out: Vec<(String, Assignment)> = Vec::new();
    for form in forms {
        let option = |n: usize| {
            let forms = &menu.linears[n].forms;
            let same = forms.iter().position(|&other| other == form);
            let alike = || forms.iter().position(|&other| kind(other) == kind(form));
            let bits = form.scheme().map_or(16, Scheme::bits);
            let below = || {
                forms.iter().rposition(|f| f.scheme().is_some_and(|scheme| scheme.bits() <= bits))
            };
            same.or_else(alike).or_else(below).unwrap_or(0) as u32
        };
        let options: Vec<u32> = (0..menu.linears.len()).map(option).chain([0]).collect();
        let plan = Assignment::new(options);
        if out.iter().all(|(_, other)| *other != plan) {
            out.push((format!("all {form}"), plan));
        }
    }
    out
}

/// The largest uniform plans that fit (smaller ones lose to them), and folders of options as
/// they are, where that fits.
pub(super) fn plans(
    menu: &Menu,
    foreign: &[ForeignFolder],
    sizes: &Sizes,
    budget: u64,
) -> Vec<(String, Assignment)> {
    let sized = uniform(menu).into_iter().map(|(name, plan)| (sizes.bytes(&plan), name, plan));
    let mut out: Vec<_> = sized.filter(|(bytes, ..)| *bytes <= budget).collect();
    out.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let entered = out.into_iter().take(ENTERED);
    let mut out: Vec<_> = entered.map(|(_, name, plan)| (name, plan)).collect();
    for (n, folder) in foreign.iter().enumerate() {
        let name = format!("{} as it is", folder.path().display());
        if let Some(plan) = as_it_is(menu, n)
            && sizes.bytes(&plan) <= budget
            && out.iter().all(|(_, other)| *other != plan)
        {
            out.push((name, plan));
        }
    }
    out
}

/// Every matrix as a folder of options has it: packed, or in 16 bits.
fn as_it_is(menu: &Menu, folder: usize) -> Option<Assignment> {
    let of = |linear: &Linear| {
        let theirs = linear.forms.iter().position(|form| form.foreign() == Some(folder));
        let plain = || linear.forms.iter().position(|&form| form == Form::Source);
        theirs.or_else(plain).map(|option| option as u32)
    };
    let options: Option<Vec<u32>> = menu.linears.iter().map(of).chain([Some(0)]).collect();
    options.map(Assignment::new)
}
