//! Logits against those of transformers.

use crate::common::{FAMILIES, bundled, expected, fixture, model};
use rco_model::Settings;
use rco_model::tokenizer::Tokenizer;

/// Largest KL(expected ‖ found) of a row, in f64.
fn worst_kl(expected: &[f32], found: &[f32], vocabulary: usize) -> f64 {
    assert_eq!(expected.len(), found.len());
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
        row.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
    };
    let rows = expected.chunks(vocabulary).zip(found.chunks(vocabulary));
    rows.map(|(e, f)| {
        let (e, f) = (log_softmax(e), log_softmax(f));
        e.iter().zip(&f).map(|(e, f)| e.exp() * (e - f)).sum()
    })
    .fold(0.0, f64::max)
}

fn check(name: &str, folder: &std::path::Path) {
    let model = model(folder, Settings::default());
    let (batch, logits) = expected(name);
    let found = model.logits(&batch).unwrap();
    let kl = worst_kl(&logits, &found, model.config().vocabulary);
    let pairs = logits.iter().zip(&found);
    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: KL {kl:.2e}, largest difference of logits {difference:.2e}");
    assert!(kl < 1e-6, "{name}: KL {kl}");
    assert!(difference < 2e-3, "{name}: difference {difference}");
}

#[test]
fn every_family_gives_the_logits_of_transformers() {
    for name in FAMILIES {
        check(name, &fixture(name));
    }
}

#[test]
fn the_bundled_model_gives_the_logits_of_transformers() {
    check("tiny-moe", &bundled());
}

#[test]
fn the_bundled_tokenizer_gives_the_tokens_of_transformers() {
    let tokenizer = Tokenizer::open(bundled()).unwrap();
    let json = std::fs::read(fixture("tiny-moe").join("tokens.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_slice(&json).unwrap();
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let tokens: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text, true).unwrap(), tokens);
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    }
}
