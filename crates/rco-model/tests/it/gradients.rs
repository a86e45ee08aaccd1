//! Gradients of every weight against central differences, for every family.

use std::collections::HashMap;
use std::sync::Arc;

use crate::common::{DOUBLE, FAMILIES, expected, fixture, in_memory, model, moved, open};
use rco_model::engine::{OptionGradients, OptionTensors};
use rco_model::head::Target;
use rco_model::weights::{MemoryWeights, Overlay};
use rco_model::{
    Batch, DroppedExperts, GradientVisitor, Model, ModelError, Settings, WeightGradient, WeightKey,
    WeightKind,
};

/// Keeps every gradient.
#[derive(Default)]
struct Keep(HashMap<WeightKey, Vec<f64>>);

impl GradientVisitor for Keep {
    fn wants(&self, _: WeightKey) -> bool {
        true
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        let before = self.0.insert(gradient.key, gradient.values()?);
        assert!(before.is_none(), "{} was visited twice", gradient.key);
        Ok(())
    }
}

fn short(batch: &Batch) -> Batch {
    // Long enough for the windows of the fixtures.
    let tokens = batch.tokens();
    Batch::new(&[&tokens[..10], &tokens[24..34]]).unwrap()
}

/// A teacher that differs from the model: the same one with some weights moved.
fn teacher(model: &Model, weights: &MemoryWeights) -> Model {
    let mut changed = weights.clone();
    for (key, shape) in model.config().weights() {
        if shape.len() == 2 {
            changed.insert(key, moved(weights, key, 0.05)).unwrap();
        }
    }
    Model::new(model.config().clone(), Arc::new(changed), DOUBLE).unwrap()
}

fn check_weights(name: &str, dropped: &[(usize, usize)]) {
    let (config, source) = open(&fixture(name));
    let weights = in_memory(&config, &*source);
    let drop = |m: Model| {
        m.without_experts(DroppedExperts::new(&config, dropped.iter().copied()).unwrap())
    };
    let build = |weights: MemoryWeights| {
        drop(Model::new(config.clone(), Arc::new(weights), DOUBLE).unwrap())
    };
    let model = build(weights.clone());
    let batch = short(&expected(name).0);
    let teacher = teacher(&model, &weights);
    let (head, hidden) = (teacher.head().unwrap(), teacher.hidden(&batch).unwrap());
    for target in [Target::NextToken, Target::Teacher { head: &head, hidden: &hidden }] {
        let mut keep = Keep::default();
        let report = model.gradient(&batch, target, &mut keep).unwrap();
        assert_eq!(report, model.loss(&batch, target).unwrap());

        let mut worst = 0.0_f64;
        for (key, _) in config.weights() {
            let gone = key.expert.is_some_and(|e| dropped.contains(&(key.layer.unwrap(), e)));
            let Some(gradient) = keep.0.remove(&key) else {
                assert!(key.expert.is_some(), "{name}: no gradient of {key}");
                continue;
            };
            assert!(!gone, "{name}: {key} is dropped but has a gradient");
            let (plus, minus) = (moved(&weights, key, 1e-5), moved(&weights, key, -1e-5));
            // The step that was really taken, rounding to f32 included.
            let steps = plus.values.iter().zip(&minus.values);
            let analytic: f64 =
                steps.zip(&gradient).map(|((p, m), g)| (f64::from(*p) - f64::from(*m)) * g).sum();
            let loss = |weight| {
                let mut weights = weights.clone();
                weights.insert(key, weight).unwrap();
                build(weights).loss(&batch, target).unwrap().mean
            };
            let numeric = loss(plus) - loss(minus);
            let error = (numeric - analytic).abs() / numeric.abs().max(1e-7);
            worst = worst.max(error);
            assert!(error < 1e-5, "{name}, {key}: {numeric:e} against {analytic:e}");
        }
        assert!(keep.0.is_empty(), "{name}: gradients of no weight: {:?}", keep.0.keys());
        println!("{name}: worst relative error {worst:.1e}");
    }
}

#[test]
fn every_weight_of_every_family_has_the_gradient_of_central_differences() {
    for name in FAMILIES {
        check_weights(name, &[]);
    }
}

#[test]
fn gradients_are_right_when_experts_are_dropped() {
    check_weights("qwen3_moe", &[(0, 1), (0, 4), (2, 0)]);
    check_weights("olmoe", &[(0, 0), (1, 5), (1, 2)]);
    check_weights("mixtral", &[(1, 3)]);
}

#[test]
fn single_precision_gradients_agree_with_double_ones() {
    for name in FAMILIES {
        let (batch, _) = expected(name);
        let keep = |settings| {
            let mut keep = Keep::default();
            model(&fixture(name), settings).gradient(&batch, Target::NextToken, &mut keep).unwrap();
            keep.0
        };
        let (single, double) = (keep(Settings::default()), keep(DOUBLE));
        assert_eq!(single.len(), double.len());
        let mut worst = 1.0_f64;
        for (key, d) in double {
            let s = &single[&key];
            let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
            let cosine = dot(s, &d) / (dot(s, s) * dot(&d, &d)).sqrt();
            worst = worst.min(cosine);
            assert!(cosine > 0.999_999, "{name}, {key}: cosine {cosine}");
            let norms = (dot(s, s) / dot(&d, &d)).sqrt();
            assert!((norms - 1.0).abs() < 1e-3, "{name}, {key}: norms differ by {norms}");
        }
        println!("{name}: worst 1 - cosine {:.1e}", 1.0 - worst);
    }
}

#[test]
fn option_gradients_are_derivatives_along_the_options() {
    let (config, source) = open(&fixture("qwen3_moe"));
    let weights = in_memory(&config, &*source);
    let batch = short(&expected("qwen3_moe").0);
    let key = WeightKey::block(0, WeightKind::Query);
    let other = WeightKey::block(2, WeightKind::Value);
    let form = |h| {
        let mut form = weights.clone();
        form.insert(key, moved(&weights, key, h)).unwrap();
        form.insert(other, moved(&weights, other, h)).unwrap();
        Arc::new(form)
    };
    // Slot 1 is an option of two tensors, slot 3 the current form; slot 0 and 2 have none.
    let mut options = OptionTensors::default();
    options.add(1, key, form(0.1));
    options.add(1, other, form(0.1));
    options.add(3, key, Arc::new(weights.clone()));
    assert_eq!(options.slots(), 4);
    let model = Model::new(config.clone(), Arc::new(weights.clone()), DOUBLE).unwrap();
    let mut gradients = OptionGradients::new(&options, []);
    model.gradient(&batch, Target::NextToken, &mut gradients).unwrap();
    let gradients = gradients.into_values();

    let loss = |h| {
        let mut overlay = Overlay::new(Arc::new(weights.clone()));
        overlay.replace(key, form(h));
        overlay.replace(other, form(h));
        let model = Model::new(config.clone(), Arc::new(overlay), DOUBLE).unwrap();
        model.loss(&batch, Target::NextToken).unwrap().mean
    };
    let numeric = (loss(1e-4) - loss(-1e-4)) / 2e-3;
    assert!((gradients[1] - numeric).abs() < 1e-3 * numeric.abs(), "{numeric} {gradients:?}");
    assert_eq!((gradients[0], gradients[2], gradients[3]), (0.0, 0.0, 0.0));

    let mut settled = OptionGradients::new(&options, [other]);
    assert!(settled.wants(key) && !settled.wants(other));
    model.gradient(&batch, Target::NextToken, &mut settled).unwrap();
    let settled = settled.into_values()[1];
    assert!(settled != 0.0 && settled != gradients[1]);
}

/// Wants one weight only.
struct Only(WeightKey, Vec<WeightKey>);

impl GradientVisitor for Only {
    fn wants(&self, key: WeightKey) -> bool {
        key == self.0
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        self.1.push(gradient.key);
        Ok(())
    }
}

#[test]
fn only_wanted_gradients_are_computed() {
    let model = model(&fixture("llama"), Settings::default());
    let (batch, _) = expected("llama");
    for (key, _) in model.config().weights() {
        let mut only = Only(key, Vec::new());
        model.gradient(&batch, Target::NextToken, &mut only).unwrap();
        assert_eq!(only.1, [key]);
    }
}

#[test]
fn what_is_kept_from_forward_to_backward_changes_no_gradient() {
    for name in FAMILIES {
        let batch = short(&expected(name).0);
        let gradients = |keep_bytes| {
            let model = model(&fixture(name), Settings { keep_bytes, ..Settings::default() });
            let mut keep = Keep::default();
            let report = model.gradient(&batch, Target::NextToken, &mut keep).unwrap();
            (report, keep.0)
        };
        // Nothing, about one block, everything.
        let nothing = gradients(0);
        assert!(nothing == gradients(1 << 14), "{name}");
        assert!(nothing == gradients(1 << 30), "{name}");
    }
}
