//! Estimates of memory, and settings that stay below a limit.

use crate::common::{fixture, open};
use rco_model::engine::{Footprint, Load};
use rco_model::{ModelError, Settings};

const LOAD: Load =
    Load { sequences: 2, length: 24, gradient: true, head_gradient: true, taught: 480 };

#[test]
fn the_least_memory_that_an_error_names_is_enough_and_a_byte_less_is_not() {
    for name in ["llama", "qwen3_moe", "gemma3"] {
        let (config, _) = open(&fixture(name));
        let refused = Settings::default().within(1, &config, &LOAD).unwrap_err();
        let ModelError::TooLittleMemory { needed, limit: 1 } = refused else { panic!("{refused}") };
        let settings = Settings::default().within(needed, &config, &LOAD).unwrap();
        assert!(Footprint::of(&config, &settings, &LOAD).peak() <= needed, "{name}");
        let error = Settings::default().within(needed - 1, &config, &LOAD).unwrap_err();
        assert!(error.to_string().contains(&needed.to_string()), "{error}");
    }
}

#[test]
fn more_memory_keeps_more_and_never_more_than_was_set() {
    let (config, _) = open(&fixture("llama"));
    let mut before = 0;
    for limit in [270_000_000, 300_000_000, 500_000_000, 4_000_000_000] {
        let settings = Settings::default().within(limit, &config, &LOAD).unwrap();
        assert!(Footprint::of(&config, &settings, &LOAD).peak() <= limit);
        assert!(settings.keep_bytes >= before);
        before = settings.keep_bytes;
    }
    assert_eq!(before, Settings::default().keep_bytes);
}

#[test]
fn a_gradient_takes_more_than_a_loss_and_a_teacher_more_than_none() {
    let (config, _) = open(&fixture("llama"));
    let peak = |load| Footprint::of(&config, &Settings::default(), &load).peak();
    let loss = Load { gradient: false, head_gradient: false, taught: 0, ..LOAD };
    let taught = Load { taught: 480, ..loss };
    let gradient = Load { gradient: true, ..taught };
    assert!(peak(loss) < peak(taught) && peak(taught) < peak(gradient));
    // The output is not always the largest thing in memory.
    assert!(peak(gradient) <= peak(Load { head_gradient: true, ..gradient }));
}
