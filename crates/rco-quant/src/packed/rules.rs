//! What runtimes ask of a plan.

use rco_model::WeightKind;
use serde::Serialize;

use super::menu::Linear;
use super::settings::Runtime;

/// A rule: matrices that take one scheme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What it says.
    pub name: &'static str,
    /// Modules that are tied.
    #[serde(skip)]
    pub ties: Vec<Vec<String>>,
}

/// The rules of a runtime.
///
/// vLLM joins query, key and value, and gate and up, into one matrix each, and the experts of
/// a layer into two stacks that one method serves. transformers keeps linear layers apart,
/// but unpacks all experts of a model by the first group of `config_groups` that names them
/// (5.23: `get_experts_scheme`).
pub(super) fn rules(runtime: Runtime, linears: &[Linear]) -> Vec<Rule> {
    use WeightKind::{Gate, Key, Query, Up, Value};
    let mut out = Vec::new();
    let mut add = |name, ties: Vec<Vec<String>>| {
        let ties: Vec<_> = ties.into_iter().filter(|tie| tie.len() > 1).collect();
        if !ties.is_empty() {
            out.push(Rule { name, ties });
        }
    };
    let by_layer = |wanted: &dyn Fn(&Linear) -> bool| {
        let layers = linears.iter().filter_map(|l| l.key.layer).max().map_or(0, |l| l + 1);
        let mut ties = vec![Vec::new(); layers];
        for linear in linears.iter().filter(|l| wanted(l)) {
            if let Some(layer) = linear.key.layer {
                ties[layer].push(linear.module.clone());
            }
        }
        ties
    };
    match runtime {
        Runtime::Vllm => {
            add(
                "query, key and value alike",
                by_layer(&|l| matches!(l.key.kind, Query | Key | Value)),
            );
            add(
                "gate and up alike",
                by_layer(&|l| l.key.expert.is_none() && matches!(l.key.kind, Gate | Up)),
            );
            add("the experts of a layer alike", by_layer(&|l| l.key.expert.is_some()));
        }
        Runtime::Transformers => {
            let experts = linears.iter().filter(|l| l.key.expert.is_some());
            add("all experts alike", vec![experts.map(|l| l.module.clone()).collect()]);
        }
        Runtime::Any => {}
    }
    out
}
