//! ggml's encoders and decoders: how well, how long, and the same for any threads.
#![allow(clippy::unwrap_used, reason = "tests fail")]

use rco_formats::gguf::{TensorType, TypeClass};
use rco_ggml::{GgmlError, can_decode, can_encode, decode, decode_to, encode, needs_importance};

const ROW: usize = 512;

/// Types whose tables take long: 2, 4, 9, 20 and 20 seconds.
const SLOW: [TensorType; 5] = [
    TensorType::IQ2_XXS,
    TensorType::IQ2_XS,
    TensorType::IQ2_S,
    TensorType::IQ1_S,
    TensorType::IQ1_M,
];

/// Numbers in -1..1 that look random, from a fixed seed.
fn noise(count: usize, mut state: u64) -> Vec<f32> {
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    // The sum of four is nearly normal, as weights are.
    (0..count).map(|_| (next() + next() + next() + next()) * 0.5).collect()
}

fn importance() -> Vec<f32> {
    noise(ROW, 3).iter().map(|v| v * v + 0.01).collect()
}

fn fast() -> impl Iterator<Item = TensorType> {
    TensorType::known().map(|(ty, _)| ty).filter(|ty| can_encode(*ty) && !SLOW.contains(ty))
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Squared error of encoding and decoding, over the squares of the values.
fn relative_error(ty: TensorType, values: &[f32], importance: Option<&[f32]>) -> f64 {
    let bytes = encode(ty, values, ROW, importance).unwrap();
    let layout = ty.layout().unwrap();
    assert_eq!(bytes.len() as u64, values.len() as u64 / layout.block * layout.bytes, "{ty}");
    let decoded = decode_to(ty, &bytes, ROW).unwrap();
    let square = |v: f32| f64::from(v).powi(2);
    let error: f64 = decoded.iter().zip(values).map(|(a, b)| square(a - b)).sum();
    error / values.iter().map(|&v| square(v)).sum::<f64>()
}

/// Largest relative squared error that a type of so many bits may have on normal values:
/// a generous multiple of the distortion that its bits allow.
fn bound(ty: TensorType) -> f64 {
    let layout = ty.layout().unwrap();
    match layout.class {
        TypeClass::Ternary => 0.8,
        TypeClass::Float => 1e-4,
        _ => 4.0 * 0.25_f64.powf(layout.bits_per_weight() - 0.5),
    }
}

#[test]
fn every_fast_type_keeps_normal_values_about_as_well_as_its_bits_allow() {
    let values = noise(ROW * 64, 1);
    let weights = importance();
    for ty in fast() {
        for importance in [None, Some(&weights[..])] {
            let error = relative_error(ty, &values, importance);
            assert!(error < bound(ty), "{ty}: {error} is not below {}", bound(ty));
        }
    }
}

#[test]
fn a_type_with_slow_tables_works_and_needs_its_importance() {
    let values = noise(ROW * 4, 1);
    let ty = TensorType::IQ2_XXS;
    assert!(needs_importance(ty));
    assert!(matches!(encode(ty, &values, ROW, None), Err(GgmlError::MissingImportance { .. })));
    assert!(relative_error(ty, &values, Some(&importance())) < 0.3);
}

#[test]
fn the_bytes_are_those_of_one_call_for_any_number_of_threads() {
    // An odd number of rows, so that the last piece is short.
    let values = noise(ROW * 131, 2);
    let weights = importance();
    for ty in fast() {
        let one = with_threads(1, || encode(ty, &values, ROW, Some(&weights)).unwrap());
        let two = with_threads(2, || encode(ty, &values, ROW, Some(&weights)).unwrap());
        assert!(one == two, "{ty}");
        let rows = values.chunks(ROW);
        let each: Vec<u8> =
            rows.flat_map(|row| encode(ty, row, ROW, Some(&weights)).unwrap()).collect();
        assert!(one == each, "{ty}: rows by themselves");
        let decoded = with_threads(1, || decode_to(ty, &one, ROW).unwrap());
        assert!(decoded == with_threads(2, || decode_to(ty, &one, ROW).unwrap()), "{ty}");
    }
}

#[test]
fn floats_come_back_exactly() {
    let whole: Vec<f32> = (-64..64).map(|i| i as f32 * 0.5).collect();
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        let bytes = encode(ty, &whole, 64, None).unwrap();
        assert_eq!(decode_to(ty, &bytes, 64).unwrap(), whole);
    }
    let any = [1.0e-3, f32::MAX, f32::MIN_POSITIVE, -0.0, 1.000_000_1];
    let bytes = encode(TensorType::F32, &any, 5, None).unwrap();
    assert_eq!(bytes, any.map(f32::to_le_bytes).concat());
    assert_eq!(decode_to(TensorType::F32, &bytes, 5).unwrap(), any);
}

#[test]
fn bytes_at_an_odd_address_decode_to_the_same() {
    let values = noise(ROW, 5);
    for ty in fast() {
        let bytes = encode(ty, &values, ROW, None).unwrap();
        let expected = decode_to(ty, &bytes, ROW).unwrap();
        for shift in 1..4 {
            let shifted = [&vec![0; shift][..], &bytes].concat();
            assert!(decode_to(ty, &shifted[shift..], ROW).unwrap() == expected, "{ty}");
        }
    }
}

#[test]
fn extreme_values_and_importance_end_in_blocks_or_errors_but_not_the_process() {
    let scales = [1e-45, 1e-38, 1e-20, 1e-8, 1.0, 1e4, 65_504.0];
    let noise = noise(ROW, 4);
    let largest = noise.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let mut zeros_first = importance();
    zeros_first[..100].fill(0.0);
    let mut one_column = vec![0.0; ROW];
    one_column[77] = 1e30;
    let weights = [vec![0.0; ROW], zeros_first, one_column, vec![1e-45; ROW], vec![f32::MAX; ROW]];
    for ty in fast().chain([TensorType::IQ2_XXS]) {
        for scale in scales {
            let values: Vec<f32> = noise.iter().map(|v| v / largest * scale).collect();
            for weights in &weights {
                let bytes = encode(ty, &values, ROW, Some(weights)).unwrap();
                assert!(decode_to(ty, &bytes, ROW).unwrap().iter().all(|v| v.is_finite()));
            }
        }
        let mut spike = vec![0.0; ROW];
        spike[3] = 65_504.0;
        spike[300] = -1e-30;
        encode(ty, &spike, ROW, Some(&weights[1])).unwrap();
        encode(ty, &vec![0.0; ROW], ROW, Some(&weights[0])).unwrap();
    }
}

#[test]
fn columns_without_importance_do_not_become_garbage() {
    let values = noise(ROW * 8, 6);
    let mut weights = importance();
    weights[..256].fill(0.0);
    for ty in [TensorType::Q4_K, TensorType::IQ4_XS, TensorType::Q2_K, TensorType::IQ2_XXS] {
        let bytes = encode(ty, &values, ROW, Some(&weights)).unwrap();
        let decoded = decode_to(ty, &bytes, ROW).unwrap();
        let (mut error, mut size) = (0.0, 0.0);
        for (a, b) in decoded.chunks(ROW).zip(values.chunks(ROW)) {
            error += a[..256].iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
            size += b[..256].iter().map(|b| b * b).sum::<f32>();
        }
        assert!(error < 0.3 * size, "{ty}: {}", error / size);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let values = noise(ROW * 2, 7);
    let q4 = TensorType::Q4_K;
    let unknown = [4, 31, 43, 99, u32::MAX].map(TensorType);
    for ty in unknown {
        assert!(!can_encode(ty) && !can_decode(ty) && !needs_importance(ty));
        rco_ggml::prepare(ty);
        assert!(matches!(encode(ty, &values, ROW, None), Err(GgmlError::UnknownType { .. })));
        assert!(matches!(decode_to(ty, &[0; 64], 64), Err(GgmlError::UnknownType { .. })));
    }
    for ty in [TensorType::Q8_1, TensorType::Q8_K, TensorType::I32, TensorType::F64] {
        assert!(matches!(encode(ty, &values, ROW, None), Err(GgmlError::CannotEncode { .. })));
        let bytes = vec![0; ty.layout().unwrap().bytes as usize * 512];
        let error = decode_to(ty, &bytes, ty.layout().unwrap().block as usize).unwrap_err();
        assert!(matches!(error, GgmlError::CannotDecode { .. }), "{error}");
    }
    let broken = encode(q4, &values[..ROW], 128, None).unwrap_err();
    assert!(matches!(broken, GgmlError::BrokenRow { row_length: 128, block: 256, .. }));
    assert!(matches!(encode(q4, &values, 0, None), Err(GgmlError::BrokenRow { .. })));
    let shape = encode(q4, &values[..=ROW], ROW, None).unwrap_err();
    assert!(matches!(shape, GgmlError::BrokenShape { found: 513, .. }));
    let weights = encode(q4, &values, ROW, Some(&[1.0; 3])).unwrap_err();
    assert!(matches!(weights, GgmlError::WrongImportance { expected: ROW, found: 3 }));
    let negative = encode(q4, &values, ROW, Some(&[-1.0; ROW])).unwrap_err();
    assert!(matches!(negative, GgmlError::BadImportance { column: 0, .. }));
    assert!(encode(q4, &[], ROW, None).unwrap().is_empty());

    let mut bad = values.clone();
    for (value, is_finite) in [(f32::NAN, false), (f32::NEG_INFINITY, false), (7e4, true)] {
        bad[ROW + 5] = value;
        let error = encode(q4, &bad, ROW, None).unwrap_err();
        let (GgmlError::NotFinite { row, column, .. } | GgmlError::TooLarge { row, column, .. }) =
            error
        else {
            panic!("{error}")
        };
        assert_eq!((row, column), (1, 5));
        assert_eq!(matches!(error, GgmlError::TooLarge { .. }), is_finite);
    }

    let bytes = encode(q4, &values, ROW, None).unwrap();
    for length in [0, 1, bytes.len() - 1, bytes.len() + 1] {
        let bytes = [&bytes[..], &[0]].concat();
        let error = decode(q4, &bytes[..length], &mut [0.0; ROW * 2]).unwrap_err();
        assert!(matches!(error, GgmlError::WrongLength { expected: 576, .. }), "{error}");
    }
    assert!(matches!(decode(q4, &bytes, &mut [0.0; 100]), Err(GgmlError::BrokenRow { .. })));
    assert!(matches!(decode_to(q4, &bytes[1..], ROW), Err(GgmlError::WrongLength { .. })));
    assert!(matches!(decode_to(q4, &bytes, usize::MAX), Err(GgmlError::BrokenRow { .. })));
}

/// The other slow types: half a minute, so only when asked for.
#[test]
#[ignore = "builds tables for about 35 seconds: run with --ignored"]
fn every_slow_type_works_with_importance_and_survives_zeros() {
    let values = noise(ROW * 8, 1);
    let mut weights = importance();
    for ty in SLOW {
        let error = relative_error(ty, &values, Some(&weights));
        assert!(error < bound(ty), "{ty}: {error} is not below {}", bound(ty));
    }
    weights[..100].fill(0.0);
    for ty in SLOW {
        for scale in [1e-45, 1e-30, 1e-11, 1.0, 2e4] {
            let scaled: Vec<f32> = values.iter().map(|v| v * scale).collect();
            for weights in [&weights, &vec![0.0; ROW], &vec![1e-45; ROW], &vec![f32::MAX; ROW]] {
                encode(ty, &scaled, ROW, Some(weights)).unwrap();
            }
        }
    }
}
