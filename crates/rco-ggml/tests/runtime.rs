//! llama.cpp as tokenizer and runtime, on the bundled model and on SmolLM2.
#![allow(clippy::unwrap_used, reason = "tests fail")]

mod common;

use rco_formats::gguf::{Array, Gguf, GgufWriter, Metadata, Text, Value};
use rco_ggml::{GgmlError, Runtime, RuntimeSettings, Sampling, Vocabulary};

const TEXT: &str = "It was the best of times,\nit was the worst of times — “so” she said.";

/// One thread: those of ggml wait by spinning, which is slow on a busy machine.
fn open(context: usize) -> Runtime {
    Runtime::open(common::tiny_moe(), &RuntimeSettings { threads: 1, context }).unwrap()
}

#[test]
fn text_comes_back_from_its_tokens() {
    let vocabulary = Vocabulary::open(common::tiny_moe()).unwrap();
    for text in [TEXT, "", " ", "a", "naïve 日本 🦀\t\r\n  two  spaces ", "<|endoftext|>"] {
        for special in [false, true] {
            let tokens = vocabulary.encode(text, special);
            assert!(tokens.iter().all(|&token| (token as usize) < vocabulary.size()));
            assert_eq!(vocabulary.decode(&tokens), text);
        }
    }
    assert!(vocabulary.encode(TEXT, false).len() < TEXT.len());
    assert_eq!(vocabulary.decode(&[u32::MAX]), "\u{fffd}");
    let around = [&vocabulary.encode("a", false)[..], &[1 << 30], &vocabulary.encode("b", false)];
    assert_eq!(vocabulary.decode(&around.concat()), "a\u{fffd}b");
}

#[test]
fn the_loaded_model_has_the_same_vocabulary() {
    let runtime = open(64);
    let alone = Vocabulary::open(common::tiny_moe()).unwrap();
    let loaded = runtime.vocabulary();
    assert_eq!(loaded.size(), alone.size());
    assert_eq!((loaded.bos(), loaded.adds_bos()), (alone.bos(), alone.adds_bos()));
    assert_eq!(loaded.encode(TEXT, true), alone.encode(TEXT, true));
}

#[test]
fn logits_are_finite_and_the_same_each_time() {
    let mut runtime = open(512);
    let size = runtime.vocabulary().size();
    // Longer than one batch of llama.cpp.
    let tokens = runtime.vocabulary().encode(&TEXT.repeat(20), false);
    let tokens = &tokens[..400];
    let logits = runtime.logits(tokens).unwrap();
    assert_eq!(logits.len(), tokens.len() * size);
    assert!(logits.iter().all(|v| v.is_finite()));
    // Another window in between leaves no trace.
    runtime.logits(&tokens[7..20]).unwrap();
    assert!(runtime.logits(tokens).unwrap() == logits);
    let settings = RuntimeSettings { threads: 2, context: 512 };
    let mut other = Runtime::open(common::tiny_moe(), &settings).unwrap();
    assert!(other.logits(tokens).unwrap() == logits, "another number of threads");

    let mut windows = Vec::new();
    runtime.windows([tokens, &tokens[..9]], |i, l| windows.push((i, l.to_vec()))).unwrap();
    assert!(windows[0] == (0, logits));
    assert_eq!((windows[1].0, windows[1].1.len()), (1, 9 * size));
}

#[test]
fn the_model_knows_the_language_it_was_trained_on() {
    let mut runtime = open(256);
    let tokens = runtime.vocabulary().encode("Once upon a time there was a king.", false);
    let mut loss = 0.0;
    runtime
        .each_position(&tokens, |i, logits| {
            let Some(&next) = tokens.get(i + 1) else { return };
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
            loss += sum.ln() - f64::from(logits[next as usize] - largest);
        })
        .unwrap();
    let uniform = (runtime.vocabulary().size() as f64).ln();
    assert!(loss / ((tokens.len() - 1) as f64) < 0.8 * uniform, "{loss}");
}

#[test]
fn text_is_written_and_the_same_seed_writes_the_same() {
    let mut runtime = open(128);
    let prompt = runtime.vocabulary().encode("And God said", false);
    let greedy = runtime.generate(&prompt, 20, Sampling::Greedy).unwrap();
    assert!(!greedy.is_empty() && greedy.len() <= 20);
    assert!(!runtime.vocabulary().decode(&greedy).trim().is_empty());
    // The first token is the largest logit after the prompt.
    let size = runtime.vocabulary().size();
    let logits = runtime.logits(&prompt).unwrap();
    let last = &logits[(prompt.len() - 1) * size..];
    let best = (0..size).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
    assert_eq!(greedy[0] as usize, best);
    let mut draw = |seed| {
        let sampling = Sampling::Temperature { temperature: 1.0, seed };
        runtime.generate(&prompt, 30, sampling).unwrap()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn windows_and_settings_that_cannot_be_are_errors() {
    let mut runtime = open(32);
    let wrong = |error: GgmlError| matches!(error, GgmlError::WindowLength { limit: 32, .. });
    assert!(wrong(runtime.logits(&[]).unwrap_err()));
    assert!(wrong(runtime.logits(&[1; 33]).unwrap_err()));
    assert!(wrong(runtime.generate(&[1; 30], 3, Sampling::Greedy).unwrap_err()));
    let size = runtime.vocabulary().size() as u32;
    for token in [size, u32::MAX] {
        let error = runtime.logits(&[1, token]).unwrap_err();
        assert!(matches!(error, GgmlError::UnknownToken { position: 1, .. }), "{error}");
    }
    for temperature in [0.0, -1.0, f32::NAN] {
        let sampling = Sampling::Temperature { temperature, seed: 0 };
        let error = runtime.generate(&[1], 3, sampling).unwrap_err();
        assert!(matches!(error, GgmlError::Setting { .. }));
    }
    assert_eq!(runtime.logits(&[1; 32]).unwrap().len(), 32 * size as usize);
    for (threads, context) in [(0, 32), (513, 32), (1, 0), (1, usize::MAX)] {
        let settings = RuntimeSettings { threads, context };
        let error = Runtime::open(common::tiny_moe(), &settings).err().unwrap();
        assert!(matches!(error, GgmlError::Setting { .. }));
    }
}

/// The bundled model with other metadata, in a file of its own.
fn changed(change: impl FnOnce(&mut Metadata)) -> tempfile::NamedTempFile {
    let file = Gguf::open(common::tiny_moe()).unwrap();
    let mut writer = GgufWriter::copy_of(&file).unwrap();
    change(writer.metadata_mut());
    let out = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    writer.write_to(&mut out.as_file()).unwrap();
    out
}

#[test]
fn claims_that_would_end_the_process_are_errors() {
    let set = |key: &'static str, value: Value| {
        changed(move |metadata| {
            metadata.set(key, value).unwrap();
        })
    };
    let cases = [
        set("qwen3moe.block_count", Value::U32(0)),
        set("qwen3moe.block_count", Value::U32(513)),
        set("qwen3moe.expert_count", Value::U32(1025)),
        set("qwen3moe.expert_count", Value::U32(0)),
        set("qwen3moe.expert_used_count", Value::U32(0)),
        set("qwen3moe.expert_used_count", Value::U32(1000)),
        set("qwen3moe.expert_group_count", Value::U32(1000)),
        set("qwen3moe.attention.head_count", Value::U32(0)),
        set("qwen3moe.attention.head_count_kv", Value::U32(0)),
        set("qwen3moe.rope.scaling.type", Value::from("round")),
        set("general.architecture", Value::from("bert")),
        set("tokenizer.ggml.model", Value::from("none")),
        set("tokenizer.ggml.model", Value::from("llama")),
        changed(|metadata| {
            metadata.remove("tokenizer.ggml.tokens");
        }),
        changed(double_token),
        changed(|metadata| {
            let count = metadata.array("tokenizer.ggml.tokens").unwrap().len();
            let bytes = Value::Array(Array::I32(vec![6; count]));
            metadata.set("tokenizer.ggml.token_type", bytes).unwrap();
        }),
    ];
    let settings = RuntimeSettings { threads: 1, context: 32 };
    for (i, file) in cases.iter().enumerate() {
        let error = Runtime::open(file.path(), &settings).err().unwrap();
        assert!(matches!(error, GgmlError::Unusable { .. }), "case {i}: {error}");
    }
}

fn double_token(metadata: &mut Metadata) {
    let Some(Array::String(tokens)) = metadata.array("tokenizer.ggml.tokens") else { panic!() };
    let mut tokens = tokens.clone();
    // C ends the second one at its zero byte.
    tokens[8] = Text([&tokens[7].0[..], b"\0x"].concat());
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))).unwrap();
}

#[test]
fn what_llama_cpp_refuses_is_an_error_with_its_words() {
    let file = changed(|metadata| {
        metadata.set("qwen3moe.embedding_length", Value::U32(77)).unwrap();
    });
    let settings = RuntimeSettings { threads: 1, context: 32 };
    let error = Runtime::open(file.path(), &settings).err().unwrap();
    assert!(matches!(error, GgmlError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("77"), "{error}");
    let file = changed(|metadata| {
        metadata.set("general.architecture", Value::from("nonesuch")).unwrap();
        metadata.set("nonesuch.block_count", Value::U32(1)).unwrap();
        metadata.set("nonesuch.attention.head_count", Value::U32(1)).unwrap();
    });
    let error = Runtime::open(file.path(), &settings).err().unwrap();
    assert!(error.to_string().contains("nonesuch"), "{error}");

    let garbage = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(garbage.path(), b"GGUF and then nothing that fits").unwrap();
    assert!(matches!(Vocabulary::open(garbage.path()).err(), Some(GgmlError::Gguf(_))));
    assert!(matches!(Vocabulary::open("/no/such.gguf").err(), Some(GgmlError::Gguf(_))));
}

#[test]
fn smollm2_loads_and_scores() {
    let Some(path) = common::smollm2() else { return };
    let mut runtime = Runtime::open(path, &RuntimeSettings { threads: 1, context: 64 }).unwrap();
    let vocabulary = runtime.vocabulary();
    assert_eq!(vocabulary.size(), 49_152);
    let tokens = vocabulary.encode("The capital of France is", false);
    assert_eq!(vocabulary.decode(&tokens), "The capital of France is");
    assert_eq!(vocabulary.encode("<|im_start|>", true).len(), 1);
    assert!(runtime.logits(&tokens).unwrap().iter().all(|v| v.is_finite()));
    let written = runtime.generate(&tokens, 3, Sampling::Greedy).unwrap();
    assert!(runtime.vocabulary().decode(&written).contains("Paris"));
}
