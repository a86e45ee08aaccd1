//! Inputs of matrices, and importance matrices from them.

use std::collections::HashMap;
use std::sync::Arc;

use rco_formats::imatrix::Imatrix;
use rco_model::head::Target;
use rco_model::importance::Importance;
use rco_model::weights::GgufWeights;
use rco_model::{
    Batch, GradientVisitor, InputVisitor, LayerInput, ModelError, Settings, WeightGradient,
    WeightKey, WeightKind,
};

use crate::common::{DOUBLE, FAMILIES, bundled, expected, fixture, model};

/// Rows and columns of a matrix, and its values.
type Matrix = (usize, usize, Vec<f64>);

/// Keeps the inputs of all matrices.
#[derive(Default)]
struct Inputs(HashMap<WeightKey, Matrix>);

impl InputVisitor for Inputs {
    fn visit(&mut self, input: &LayerInput<'_>) -> Result<(), ModelError> {
        let values = input.values()?;
        assert_eq!(values.len(), input.rows() * input.columns());
        let squares = input.column_squares()?;
        for (column, square) in squares.iter().enumerate() {
            let values = values.iter().skip(column).step_by(input.columns());
            let expected: f64 = values.map(|x| x * x).sum();
            assert!((square - expected).abs() <= 1e-12 * expected, "{square} {expected}");
        }
        for &key in input.keys {
            let before = self.0.insert(key, (input.rows(), input.columns(), values.clone()));
            assert!(before.is_none(), "{key} came twice");
        }
        Ok(())
    }
}

/// Keeps the gradients of all matrices.
#[derive(Default)]
struct Gradients(HashMap<WeightKey, Vec<f64>>);

impl GradientVisitor for Gradients {
    fn wants(&self, _: WeightKey) -> bool {
        true
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        if gradient.shape().len() == 2 {
            self.0.insert(gradient.key, gradient.values()?);
        }
        Ok(())
    }
}

/// An orthonormal basis of the rows.
fn basis((_, columns, values): &Matrix) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for row in values.chunks(*columns) {
        let rest = without(&basis, &without(&basis, row));
        let norm = rest.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 1e-9 * row.iter().map(|x| x * x).sum::<f64>().sqrt() {
            basis.push(rest.iter().map(|x| x / norm).collect());
        }
    }
    basis
}

/// The part of `row` outside the span of `basis`.
fn without(basis: &[Vec<f64>], row: &[f64]) -> Vec<f64> {
    let mut rest = row.to_vec();
    for b in basis {
        let dot: f64 = rest.iter().zip(b).map(|(x, y)| x * y).sum();
        rest.iter_mut().zip(b).for_each(|(x, y)| *x -= dot * y);
    }
    rest
}

#[test]
fn the_gradient_of_every_matrix_is_made_of_the_inputs_shown_for_it() {
    for name in FAMILIES {
        let model = model(&fixture(name), DOUBLE);
        let tokens = expected(name).0.tokens()[..10].to_vec();
        let batch = Batch::new(&[tokens]).unwrap();
        let (mut inputs, mut gradients) = (Inputs::default(), Gradients::default());
        model.visit_inputs(&batch, &mut inputs).unwrap();
        model.gradient(&batch, Target::NextToken, &mut gradients).unwrap();
        for (key, gradient) in &gradients.0 {
            if key.kind == WeightKind::Embedding {
                continue;
            }
            let input = &inputs.0[key];
            let basis = basis(input);
            assert!(basis.len() < input.1, "{name}: {key} proves nothing");
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            for row in gradient.chunks(input.1) {
                let outside = norm(&without(&basis, row));
                assert!(outside <= 1e-9 * norm(row), "{name}: {key}: {outside:e}");
            }
        }
        let outer = usize::from(model.config().tied);
        assert_eq!(inputs.0.len(), gradients.0.len() - 1 + outer, "{name}");
    }
}

fn collect(threads: usize) -> (Imatrix, Importance) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let model = model(&bundled(), Settings::default());
        let (batch, _) = expected("tiny-moe");
        let mut importance = Importance::default();
        model.visit_inputs(&batch, &mut importance).unwrap();
        model.visit_inputs(&batch, &mut importance).unwrap();
        let size = batch.sequence_len() as u32;
        let chunks = 2 * batch.sequences() as u32;
        let imatrix =
            importance.imatrix(model.config(), vec!["a text".into()], chunks, size).unwrap();
        (imatrix, importance)
    })
}

#[test]
fn entries_have_the_form_of_llama_cpp() {
    let (imatrix, importance) = collect(2);
    let config = model(&bundled(), Settings::default()).config().clone();
    let rows = 2 * expected("tiny-moe").0.rows() as u64;
    for (key, shape) in config.weights() {
        let (name, expert) = GgufWeights::tensor_name(key);
        if shape.len() == 1 {
            assert!(imatrix.entry(&name).is_none(), "{name}");
            continue;
        }
        let entry = imatrix.entry(&name).unwrap_or_else(|| panic!("no entry for {name}"));
        let experts = if expert.is_some() { 8 } else { 1 };
        assert_eq!((entry.sums.len(), entry.counts.len()), (experts * shape[1], experts), "{name}");
        let seen = importance.tokens(key).unwrap_or(0);
        assert_eq!(entry.counts[expert.unwrap_or(0)], seen as f32);
        match expert {
            // Two experts for each token.
            Some(_) => assert_eq!(entry.counts.iter().sum::<f32>() as u64, 2 * rows, "{name}"),
            None => assert_eq!(seen, rows, "{name}"),
        }
        let covered = imatrix.importance(&name, shape[1] as u64, experts as u64).unwrap();
        assert!(covered.is_some());
    }
    // Query, key and value have one input; so have gate and up.
    let sums = |name: &str| imatrix.entry(name).unwrap().sums.clone();
    assert_eq!(sums("blk.1.attn_q.weight"), sums("blk.1.attn_v.weight"));
    assert_eq!(sums("blk.1.ffn_gate_exps.weight"), sums("blk.1.ffn_up_exps.weight"));
    assert_ne!(sums("blk.1.ffn_gate_exps.weight"), sums("blk.2.ffn_gate_exps.weight"));

    let mut bytes = Vec::new();
    imatrix.to_gguf().unwrap().write_to(&mut bytes).unwrap();
    let again = Imatrix::from_source("importance", Arc::new(bytes)).unwrap();
    assert_eq!(again.entries().len(), imatrix.entries().len());
    for entry in imatrix.entries() {
        assert_eq!(again.entry(&entry.name), Some(entry));
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    assert_eq!(collect(1).0, collect(3).0);
}

#[test]
fn nothing_visited_is_an_error() {
    let config = model(&bundled(), Settings::default()).config().clone();
    let error = Importance::default().imatrix(&config, Vec::new(), 0, 0).unwrap_err();
    assert!(matches!(error, ModelError::Imatrix(_)), "{error}");
}
