//! Which matrices are decided on, and the forms that each may take.

use std::collections::HashMap;
use std::fmt;

use rco_formats::compressed_tensors::Scheme;
use rco_formats::safetensors::Dtype;
use rco_model::weights::{FloatType, PackedMatrix};
use rco_model::{WeightKey, WeightKind};

use super::error::PackedError;
use super::foreign::ForeignFolder;
use super::rules::{Rule, rules};
use super::settings::{PackSettings, Runtime, Zeros};
use super::source::Source;

/// Group sizes, largest first.
pub(super) const GROUPS: [u32; 3] = [128, 64, 32];
/// Widths in bits where the runtime unpacks any.
const WIDTHS: &[u8] = &[2, 3, 4, 5, 6, 8];
/// Widths that vLLM has kernels for.
pub(super) const VLLM_WIDTHS: &[u8] = &[4, 8];
/// Widest codes that have zero points unless they are asked for.
const ZEROS_UP_TO: u8 = 4;

/// How codes are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// GPTQ; rounding to the nearest for an expert that saw too few tokens.
    Gptq,
    /// Rounding to the nearest.
    Nearest,
    /// As the folder of options with this number has them, counted from 1.
    Foreign(u8),
}

/// A way to store a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Codes with scales.
    Grid(Scheme, Method),
    /// As the source has it.
    Source,
}

impl Form {
    /// The grid.
    pub fn scheme(self) -> Option<Scheme> {
        match self {
            Self::Grid(scheme, _) => Some(scheme),
            Self::Source => None,
        }
    }

    /// The folder of options that it comes from, counted from 0.
    pub(super) fn foreign(self) -> Option<usize> {
        match self {
            Self::Grid(_, Method::Foreign(n)) => Some(usize::from(n).saturating_sub(1)),
            _ => None,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grid(scheme, Method::Gptq) => write!(f, "{scheme}"),
            Self::Grid(scheme, Method::Nearest) => write!(f, "{scheme}-nearest"),
            Self::Grid(scheme, Method::Foreign(n)) => write!(f, "{scheme}@{n}"),
            Self::Source => f.write_str("source"),
        }
    }
}

/// A matrix that is decided on.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// The weight.
    pub key: WeightKey,
    /// Its module: the name without `.weight`.
    pub module: String,
    /// Rows: outputs.
    pub rows: usize,
    /// Columns: inputs.
    pub columns: usize,
    /// The type of the source, which scales have, too.
    pub dtype: Dtype,
    /// Forms that it may take, widths rising; the source, if it is one, comes last. Tied
    /// matrices have the same.
    pub forms: Vec<Form>,
}

impl Linear {
    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.rows as u64 * self.columns as u64
    }

    /// Bytes of the data of a form.
    pub fn data_bytes(&self, form: Form) -> Option<u64> {
        match form {
            Form::Grid(scheme, _) => scheme.bytes(self.rows, self.columns, self.dtype),
            Form::Source => self.weights().checked_mul(self.dtype.bits() / 8),
        }
    }
}

/// The matrices that are decided on, block by block, and the rules of the runtime.
#[derive(Debug, Clone)]
pub struct Menu {
    /// One for each matrix.
    pub linears: Vec<Linear>,
    /// What the runtime asks for.
    pub rules: Vec<Rule>,
    /// Modules that stay as they are because no group size divides their rows.
    pub unfit: Vec<String>,
}

impl Menu {
    /// The menu of a folder: all matrices of the blocks but routers, each in grids of its own
    /// and as the folders of options have it.
    ///
    /// # Errors
    /// [`PackedError::NothingToChoose`], [`PackedError::Setting`] for settings that fit no
    /// grid, [`PackedError::Runtime`] for what the runtime cannot load,
    /// [`PackedError::Foreign`] for options that fit no matrix, or only some of those that are
    /// tied.
    pub fn new(
        source: &Source,
        settings: &PackSettings,
        foreign: &[ForeignFolder],
    ) -> Result<Self, PackedError> {
        let widths = widths(settings)?;
        let groups = groups(settings)?;
        let mut linears = Vec::new();
        for (key, shape) in source.config().weights() {
            let (Some(_), &[rows, columns], true) = (key.layer, &shape[..], is_linear(key)) else {
                continue;
            };
            let name = source.name(key);
            let Some((_, entry)) = source.folder().tensor(&name) else { continue };
            let module = name.strip_suffix(".weight").unwrap_or(&name).to_owned();
            let (dtype, forms) = (entry.dtype, vec![Form::Source]);
            linears.push(Linear { key, module, rows, columns, dtype, forms });
        }
        let rules = rules(settings.runtime, &linears);
        let mut unfit = Vec::new();
        // Matrices that are tied have one group size.
        for set in tied_sets(&linears, &rules) {
            let fits = |group: &&u32| {
                set.iter().all(|&n| {
                    linears[n].columns.is_multiple_of(**group as usize)
                        && FloatType::of(linears[n].dtype).is_some()
                })
            };
            let expert = set.iter().any(|&n| linears[n].key.expert.is_some());
            let Some(&group) = groups.iter().find(fits) else {
                unfit.extend(set.iter().map(|&n| linears[n].module.clone()));
                if expert && settings.runtime == Runtime::Transformers {
                    return Err(experts_apart("experts whose rows are no whole groups"));
                }
                continue;
            };
            let with_source = !expert || settings.runtime != Runtime::Transformers;
            let mut forms = forms(settings, &widths, group)?;
            for (number, folder) in (1..).zip(foreign) {
                if let Some(scheme) = foreign_scheme(folder, &linears, &set, settings)? {
                    let wider =
                        |form: &Form| form.scheme().is_some_and(|s| s.bits() > scheme.bits());
                    let at = forms.iter().position(wider).unwrap_or(forms.len());
                    forms.insert(at, Form::Grid(scheme, Method::Foreign(number)));
                }
            }
            for n in set {
                let linear = &mut linears[n];
                linear.forms.clone_from(&forms);
                if with_source {
                    linear.forms.push(Form::Source);
                }
            }
        }
        if linears.iter().all(|linear| linear.forms.len() < 2) {
            return Err(PackedError::NothingToChoose {
                path: source.folder().path().to_owned(),
                columns: linears.first().map_or(0, |linear| linear.columns),
                groups: groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            });
        }
        for (n, folder) in foreign.iter().enumerate() {
            let is_here = |form: &Form| form.foreign() == Some(n);
            if !linears.iter().any(|linear| linear.forms.iter().any(is_here)) {
                let what = "it holds none of the matrices that are decided on";
                return Err(folder.unfit(what.to_owned()));
            }
        }
        Ok(Self { linears, rules, unfit })
    }

    /// The ties of all rules.
    pub fn ties(&self) -> Vec<Vec<String>> {
        self.rules.iter().flat_map(|rule| rule.ties.iter().cloned()).collect()
    }

    /// Weights that are decided on.
    pub fn weights(&self) -> u64 {
        self.linears.iter().map(Linear::weights).sum()
    }

    /// First flat option of each matrix; the last entry is their number.
    pub fn offsets(&self) -> Vec<usize> {
        let mut out = vec![0];
        for linear in &self.linears {
            out.push(out[out.len() - 1] + linear.forms.len());
        }
        out
    }
}

fn experts_apart(what: &str) -> PackedError {
    PackedError::Runtime {
        runtime: "transformers",
        what: what.to_owned(),
        mend: "it takes one symmetric grid for all experts; give --runtime any, or another \
               --group-size",
    }
}

/// Matrices of the blocks that are multiplied with, but for routers.
fn is_linear(key: WeightKey) -> bool {
    use WeightKind::{Down, Gate, Key, Output, Query, Up, Value};
    matches!(key.kind, Query | Key | Value | Output | Gate | Up | Down)
}

fn widths(settings: &PackSettings) -> Result<Vec<u8>, PackedError> {
    let known = if settings.runtime == Runtime::Vllm { VLLM_WIDTHS } else { WIDTHS };
    if settings.widths.is_empty() {
        return Ok(known.to_vec());
    }
    let allowed = |bits: u8| match settings.runtime {
        Runtime::Vllm => VLLM_WIDTHS.contains(&bits),
        _ => (2..=8).contains(&bits),
    };
    if let Some(bits) = settings.widths.iter().find(|&&bits| !allowed(bits)) {
        let expected = match settings.runtime {
            Runtime::Vllm => "4 and 8: vLLM has kernels for no others (see --runtime)",
            _ => "2 to 8",
        };
        let (setting, found) = ("--widths", bits.to_string());
        return Err(PackedError::Setting { setting, found, expected: expected.to_owned() });
    }
    let mut widths = settings.widths.clone();
    widths.sort_unstable();
    widths.dedup();
    Ok(widths)
}

fn groups(settings: &PackSettings) -> Result<Vec<u32>, PackedError> {
    match settings.group {
        None => Ok(GROUPS.to_vec()),
        Some(group) if GROUPS.contains(&group) => Ok(vec![group]),
        Some(group) => Err(PackedError::Setting {
            setting: "--group-size",
            found: group.to_string(),
            expected: "32, 64 or 128".to_owned(),
        }),
    }
}

fn forms(settings: &PackSettings, widths: &[u8], group: u32) -> Result<Vec<Form>, PackedError> {
    // transformers 5.23 with compressed-tensors 0.20 expects zero points unpacked where it loads
    // the packed ones, and none with experts; vLLM has kernels for few such grids.
    let has_zeros = settings.runtime == Runtime::Any;
    if settings.zeros == Zeros::Always && !has_zeros {
        let runtime = settings.runtime.to_string();
        return Err(PackedError::Setting {
            setting: "--zero-points",
            found: "always".to_owned(),
            expected: format!("never or auto: {runtime} does not load them (see --runtime)"),
        });
    }
    let mut out = Vec::new();
    for &bits in widths {
        let symmetric: &[bool] = match settings.zeros {
            Zeros::Always => &[false],
            Zeros::Auto if has_zeros && bits <= ZEROS_UP_TO => &[true, false],
            _ => &[true],
        };
        for scheme in symmetric.iter().filter_map(|&s| Scheme::new(bits, group, s)) {
            out.push(Form::Grid(scheme, Method::Gptq));
            if settings.nearest {
                out.push(Form::Grid(scheme, Method::Nearest));
            }
        }
    }
    Ok(out)
}

/// The scheme that a folder of options has of matrices that are tied; `None` if it has none of
/// them.
fn foreign_scheme(
    folder: &ForeignFolder,
    linears: &[Linear],
    set: &[usize],
    settings: &PackSettings,
) -> Result<Option<Scheme>, PackedError> {
    let scheme = |n: usize| folder.matrix(linears[n].key).map(PackedMatrix::scheme);
    let Some(&first) = set.first() else { return Ok(None) };
    let Some(&other) = set.iter().find(|&&n| scheme(n) != scheme(first)) else {
        return Ok(scheme(first));
    };
    let word = |n: usize| scheme(n).map_or("not packed".to_owned(), |scheme| scheme.to_string());
    Err(folder.unfit(format!(
        "{} is {} and {} is {}, --runtime {} takes one grid for both; give --runtime any if \
         yours loads it",
        linears[first].module,
        word(first),
        linears[other].module,
        word(other),
        settings.runtime
    )))
}

/// Positions of matrices that are tied together; the others by themselves.
fn tied_sets(linears: &[Linear], rules: &[Rule]) -> Vec<Vec<usize>> {
    let positions: HashMap<&str, usize> =
        linears.iter().enumerate().map(|(n, linear)| (&*linear.module, n)).collect();
    let mut sets: Vec<Vec<usize>> = Vec::new();
    let mut tied = vec![false; linears.len()];
    // Rules tie each matrix once at most.
    for tie in rules.iter().flat_map(|rule| &rule.ties) {
        let set: Vec<usize> =
            tie.iter().filter_map(|module| positions.get(&**module).copied()).collect();
        for &n in &set {
            tied[n] = true;
        }
        sets.push(set);
    }
    sets.extend((0..linears.len()).filter(|&n| !tied[n]).map(|n| vec![n]));
    sets
}
