//! Gradients of every weight against central differences, for every family.

use std::collections::HashMap;
use std::sync::Arc;

use crate::common::{DOUBLE, FAMILIES, expected, fixture, in_memory, model, moved, open};
use rco_model::engine::{OptionGradients, OptionSquares, OptionTensors};
use rco_model::head::Target;
use rco_model::weights::{MemoryWeights, Overlay, WeightSource};
use rco_model::{
    Batch, DroppedExperts, GradientVisitor, LinearGradient, Model, ModelError, Settings,
    WeightGradient, WeightKey, WeightKind,
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

/// Keeps the gradient of one weight over each part of the tokens.
struct Parts<'a> {
    key: WeightKey,
    form: &'a dyn WeightSource,
    part: usize,
    squares: Vec<f64>,
}

impl GradientVisitor for Parts<'_> {
    fn wants(&self, key: WeightKey) -> bool {
        key == self.key
    }

    fn visit_linear(&mut self, gradient: &LinearGradient<'_>) -> Result<bool, ModelError> {
        self.squares = gradient.squares_in_parts(&[self.form, self.form], self.part)?;
        Ok(false)
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        let whole = gradient.dot_sources(&[self.form])?[0];
        self.squares.push(whole * whole);
        Ok(())
    }
}

#[test]
fn squares_of_parts_are_those_of_the_gradients_of_parts() {
    // An expert has inputs of some tokens only, and the last part is shorter.
    for (name, key) in [
        ("llama", WeightKey::block(1, WeightKind::Down)),
        ("qwen3_moe", WeightKey::block(0, WeightKind::Query)),
        ("qwen3_moe", WeightKey::expert(0, 2, WeightKind::Gate)),
    ] {
        let (config, source) = open(&fixture(name));
        let weights = in_memory(&config, &*source);
        let mut form = weights.clone();
        form.insert(key, moved(&weights, key, 0.1)).unwrap();
        let batch = short(&expected(name).0);
        let squares = |settings, part| {
            let model = Model::new(config.clone(), Arc::new(weights.clone()), settings).unwrap();
            let mut parts = Parts { key, form: &form, part, squares: Vec::new() };
            model.gradient(&batch, Target::NextToken, &mut parts).unwrap();
            parts.squares
        };
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * b.abs();
        for settings in [DOUBLE, Settings::default()] {
            // All tokens in one part: what the gradient says.
            let [one, again, whole] = squares(settings, 1000)[..] else { panic!("{name}") };
            assert!(one == again && near(one, whole), "{name}: {one} {whole}");
        }
        // Both ways of computing it agree, and parts make a difference.
        for part in [1, 3] {
            let (double, single) = (squares(DOUBLE, part), squares(Settings::default(), part));
            assert!(near(single[0], double[0]), "{name} {part}: {double:?} {single:?}");
            assert!(!near(double[0], double[2]), "{name} {part}: {double:?}");
        }
    }
}

#[test]
fn squares_of_options_add_up_over_the_weights_of_a_slot() {
    let (config, source) = open(&fixture("llama"));
    let weights = in_memory(&config, &*source);
    let batch = short(&expected("llama").0);
    // Of a linear map, and of none.
    let keys = [WeightKey::block(0, WeightKind::Key), WeightKey::outer(WeightKind::Embedding)];
    let squares = |chosen: &[WeightKey]| {
        let mut options = OptionTensors::default();
        for &key in chosen {
            let mut form = weights.clone();
            form.insert(key, moved(&weights, key, 0.1)).unwrap();
            options.add(1, key, Arc::new(form));
        }
        let model = Model::new(config.clone(), Arc::new(weights.clone()), DOUBLE).unwrap();
        let mut visitor = OptionSquares::new(&options, 4);
        model.gradient(&batch, Target::NextToken, &mut visitor).unwrap();
        visitor.into_values()
    };
    let (both, first, second) = (squares(&keys), squares(&keys[..1]), squares(&keys[1..]));
    assert!(first[1] > 0.0 && second[1] > 0.0);
    assert!((both[1] - first[1] - second[1]).abs() < 1e-9 * both[1], "{both:?}");
    assert_eq!(both[0], 0.0);
}

/// Keeps the products of one weight's gradient over groups of columns; and those with another
/// weight in its place.
struct Groups(WeightKey, usize, Vec<f32>, MemoryWeights, Vec<f32>);

impl GradientVisitor for Groups {
    fn wants(&self, key: WeightKey) -> bool {
        key == self.0
    }

    fn visit(&mut self, gradient: &WeightGradient<'_>) -> Result<(), ModelError> {
        assert!(gradient.group_products(0).is_err() && gradient.group_products(7).is_err());
        self.2 = gradient.group_products(self.1)?;
        assert!(gradient.group_products_of(&self.3, 7).is_err());
        assert!(gradient.group_products_of(&MemoryWeights::default(), self.1).is_err());
        self.4 = gradient.group_products_of(&self.3, self.1)?;
        Ok(())
    }
}

#[test]
fn products_over_groups_are_derivatives_by_what_groups_are_multiplied_with() {
    let (config, source) = open(&fixture("qwen3_moe"));
    let weights = in_memory(&config, &*source);
    let batch = short(&expected("qwen3_moe").0);
    for key in [WeightKey::block(1, WeightKind::Output), WeightKey::expert(0, 2, WeightKind::Gate)]
    {
        let weight = weights.load(key).unwrap();
        let columns = weight.shape[1];
        let group = columns / 4;
        let products = |settings| {
            let model = Model::new(config.clone(), Arc::new(weights.clone()), settings).unwrap();
            let mut part = weight.clone();
            part.values.iter_mut().for_each(|w| *w *= 0.25);
            let mut quarter = MemoryWeights::default();
            quarter.insert(key, part).unwrap();
            let mut groups = Groups(key, group, Vec::new(), quarter, Vec::new());
            model.gradient(&batch, Target::NextToken, &mut groups).unwrap();
            for (whole, quarter) in groups.2.iter().zip(&groups.4) {
                assert!((whole - 4.0 * quarter).abs() <= 1e-6 * whole.abs(), "{whole} {quarter}");
            }
            assert_eq!(groups.2.len(), groups.4.len());
            groups.2
        };
        let (double, single) = (products(DOUBLE), products(Settings::default()));
        assert_eq!(double.len(), 4 * weight.shape[0]);
        let largest = double.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        for (at, (a, b)) in double.iter().zip(&single).enumerate() {
            assert!((a - b).abs() < 1e-4 * largest, "{key} {at}: {a} {b}");
        }
        // The largest, by central differences.
        let at = double.iter().position(|x| x.abs() == largest).unwrap();
        let loss = |h: f32| {
            let mut moved = weight.clone();
            for w in &mut moved.values[at * group..(at + 1) * group] {
                *w *= 1.0 + h;
            }
            let mut weights = weights.clone();
            weights.insert(key, moved).unwrap();
            let model = Model::new(config.clone(), Arc::new(weights), DOUBLE).unwrap();
            model.loss(&batch, Target::NextToken).unwrap().mean
        };
        let numeric = (loss(1e-3) - loss(-1e-3)) / 2e-3;
        let found = f64::from(double[at]);
        assert!((found - numeric).abs() < 1e-3 * numeric.abs(), "{key}: {found} {numeric}");
    }
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
