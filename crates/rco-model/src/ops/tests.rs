//! Primitives in f64 against central differences; kernels in f32 against primitives.

use candle_core::{DType, Device, Tensor};

use super::attention_probs::Mask;
use super::*;
use crate::config::{Activation, Rope, RopeOrder, RopeScaling};

/// Values between −1 and 1 without a pattern, from the golden ratio.
fn values(shape: &[usize], seed: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let value = |i: usize| ((i + 977 * seed + 1) as f64 * 0.618_033_988_749_894_9).fract();
    let values: Vec<f64> = (0..n).map(|i| 2.0 * value(i * i + i) - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum()
}

/// Checks `gradient = d ⟨g, f(x)⟩ / dx` along several directions.
fn check_gradient(x: &Tensor, g: &Tensor, gradient: &Tensor, f: impl Fn(&Tensor) -> Tensor) {
    assert_eq!(gradient.dims(), x.dims());
    for seed in 50..55 {
        let direction = values(x.dims(), seed);
        let at = |h: f64| dot(g, &f(&(x + (&direction * h).unwrap()).unwrap()));
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        let analytic = dot(gradient, &direction);
        let scale = 1.0 + numeric.abs();
        assert!((numeric - analytic).abs() < 1e-6 * scale, "{numeric} against {analytic}");
    }
}

fn assert_close(single: &Tensor, double: &Tensor) {
    assert_eq!((single.dtype(), single.dims()), (DType::F32, double.dims()));
    for (a, b) in flat(single).iter().zip(flat(double)) {
        assert!((a - b).abs() <= 2e-6 * (1.0 + b.abs()), "{a} against {b}");
    }
}

fn single(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).unwrap()
}

#[test]
fn linear_gradients() {
    let (x, w, b) = (values(&[5, 3], 1), values(&[4, 3], 2), values(&[4], 3));
    let g = values(&[5, 4], 4);
    check_gradient(&x, &g, &linear_backward(&w, &g).unwrap(), |x| linear(x, &w, Some(&b)).unwrap());
    check_gradient(&w, &g, &weight_gradient(&x, &g).unwrap(), |w| linear(&x, w, Some(&b)).unwrap());
    check_gradient(&b, &g, &bias_gradient(&g).unwrap(), |b| linear(&x, &w, Some(b)).unwrap());
}

#[test]
fn soft_cap_gradient() {
    let (x, g) = ((values(&[3, 7], 1) * 4.0).unwrap(), values(&[3, 7], 2));
    let y = soft_cap(&x, 1.5).unwrap();
    check_gradient(&x, &g, &soft_cap_backward(&y, 1.5, &g).unwrap(), |x| soft_cap(x, 1.5).unwrap());
}

#[test]
fn rms_norm_gradients_and_kernel() {
    const EPS: f64 = 0.01;
    // Two widths: below and above one task of the kernel, neither a multiple of its lanes.
    for (width, rows) in [(13, 2000), (30_001, 3)] {
        let (x, w) = (values(&[rows, width], 1), values(&[width], 2));
        let g = values(&[rows, width], 3);
        let grads = rms_norm_backward(&x, &w, EPS, 1.0, &g, true).unwrap();
        let weight = grads.weight.unwrap();
        check_gradient(&x, &g, &grads.input, |x| rms_norm(x, &w, EPS, 1.0).unwrap());
        check_gradient(&w, &g, &weight, |w| rms_norm(&x, w, EPS, 1.0).unwrap());

        let (x1, w1, g1) = (single(&x), single(&w), single(&g));
        let y = rms_norm(&x, &w, EPS, 1.0).unwrap();
        assert_close(&rms_norm(&x1, &w1, EPS, 1.0).unwrap(), &y);
        let kernel = rms_norm_backward(&x1, &w1, EPS, 1.0, &g1, true).unwrap();
        assert_close(&kernel.input, &grads.input);
        let (a, b) = (flat(&kernel.weight.unwrap()), flat(&weight));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3));
        assert!(rms_norm_backward(&x1, &w1, EPS, 1.0, &g1, false).unwrap().weight.is_none());
    }
}

#[test]
fn gated_gradients_and_kernel() {
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let gate = (values(&[40, 501], 1) * 4.0).unwrap();
        let (up, g) = (values(&[40, 501], 2), values(&[40, 501], 3));
        let (d_gate, d_up) = gated_backward(&gate, &up, activation, &g).unwrap();
        check_gradient(&gate, &g, &d_gate, |gate| gated(gate, &up, activation).unwrap());
        check_gradient(&up, &g, &d_up, |up| gated(&gate, up, activation).unwrap());

        let (gate1, up1, g1) = (single(&gate), single(&up), single(&g));
        let y = gated(&gate, &up, activation).unwrap();
        assert_close(&gated(&gate1, &up1, activation).unwrap(), &y);
        let kernel = gated_backward(&gate1, &up1, activation, &g1).unwrap();
        assert_close(&kernel.0, &d_gate);
        assert_close(&kernel.1, &d_up);
    }
}

#[test]
fn rotation_gradient_and_kernel() {
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 4.0,
        beta_slow: 1.0,
        original_context: 16.0,
        attention_factor: 1.2,
        truncate: true,
    };
    for order in [RopeOrder::Halves, RopeOrder::Interleaved] {
        for scaling in [RopeScaling::None, yarn.clone()] {
            let rope = Rope { base: 100.0, scaling, order };
            let table = |dtype| RotaryTable::new(&rope, 70, 6, dtype, &Device::Cpu).unwrap();
            let (double, kernel) = (table(DType::F64), table(DType::F32));
            let (x, g) = (values(&[2, 70, 50, 6], 1), values(&[2, 70, 50, 6], 2));
            let back = double.rotate_backward(&g).unwrap();
            check_gradient(&x, &g, &back, |x| double.rotate(x).unwrap());
            assert_close(&kernel.rotate(&single(&x)).unwrap(), &double.rotate(&x).unwrap());
            assert_close(&kernel.rotate_backward(&single(&g)).unwrap(), &back);
        }
    }
}

#[test]
fn the_two_orders_of_rotation_differ_by_a_permutation() {
    let table = |order| {
        let rope = Rope { base: 100.0, scaling: RopeScaling::None, order };
        RotaryTable::new(&rope, 5, 8, DType::F64, &Device::Cpu).unwrap()
    };
    let x = values(&[1, 5, 3, 8], 1);
    let order = Tensor::new(&[0_u32, 4, 1, 5, 2, 6, 3, 7], &Device::Cpu).unwrap();
    let permute = |x: &Tensor| x.index_select(&order, 3).unwrap();
    let halves = permute(&table(RopeOrder::Halves).rotate(&x).unwrap());
    let interleaved = table(RopeOrder::Interleaved).rotate(&permute(&x)).unwrap();
    assert_eq!(flat(&halves), flat(&interleaved));
}

#[test]
fn probabilities_gradient_and_kernel() {
    let plain = Mask { first_query: 3, queries: 4, first_key: 0, window: None };
    let window = Mask { first_query: 3, queries: 4, first_key: 2, window: Some(2) };
    for (mask, keys) in [(plain, 7), (window, 5)] {
        let (scores, g) = (values(&[2, 12, keys], 1), values(&[2, 12, keys], 2));
        let probs = attention_probs(&scores, 1.7, mask).unwrap();
        let back = attention_probs_backward(&probs, 1.7, &g).unwrap();
        check_gradient(&scores, &g, &back, |s| attention_probs(s, 1.7, mask).unwrap());
        let kernel = attention_probs(&single(&scores), 1.7, mask).unwrap();
        assert_close(&kernel, &probs);
        let kernel = attention_probs_backward(&kernel, 1.7, &single(&g)).unwrap();
        assert_close(&kernel, &back);
    }
}

#[test]
fn a_query_sees_its_window_and_nothing_after_itself() {
    let mask = Mask { first_query: 3, queries: 2, first_key: 1, window: Some(3) };
    let probs = attention_probs(&values(&[1, 4, 4], 1), 1.0, mask).unwrap();
    // Queries 3, 4, 3, 4; keys 1 to 4.
    let seen: Vec<bool> = flat(&probs).iter().map(|&p| p > 0.0).collect();
    let (third, fourth) = ([true, true, true, false], [false, true, true, true]);
    assert_eq!(seen, [third, fourth, third, fourth].concat());
}

#[test]
fn attention_of_all_heads_is_that_of_its_parts() {
    for (window, len) in [(None, 11), (Some(3), 11), (None, 4), (Some(5), 1)] {
        let (sequences, kv_heads, repeats, dim) = (2, 3, 2, 5);
        let (scale, at_once) = (0.7, 4);
        let shape =
            AttentionShape { sequences, len, kv_heads, repeats, dim, scale, window, at_once };
        let queries = [sequences, len, kv_heads, repeats, dim];
        let keys = [sequences * kv_heads, len, dim];
        let (q, g) = (values(&queries, 1), values(&queries, 4));
        let (k, v) = (values(&keys, 2), values(&keys, 3));

        // All queries and keys at once, by primitives in f64.
        let whole = |q: &Tensor, k: &Tensor, v: &Tensor| {
            let rows = (sequences * kv_heads, repeats * len, dim);
            let q = q.permute((0, 2, 3, 1, 4)).unwrap().reshape(rows).unwrap();
            let scores = q.matmul(&k.t().unwrap()).unwrap();
            let mask = Mask { first_query: 0, queries: len, first_key: 0, window };
            let out = attention_probs(&scores, scale, mask).unwrap().matmul(v).unwrap();
            let out = out.reshape((sequences, kv_heads, repeats, len, dim)).unwrap();
            out.permute((0, 3, 1, 2, 4)).unwrap().contiguous().unwrap()
        };
        let tokens = (sequences * len, kv_heads * repeats * dim);
        let expected = whole(&q, &k, &v).reshape(tokens).unwrap();
        let [q1, k1, v1, g1] = [&q, &k, &v, &g].map(single);
        assert_close(&attention(&shape, &q1, &k1, &v1).unwrap().unwrap(), &expected);
        assert!(attention(&shape, &q, &k, &v).unwrap().is_none());

        let found = attention_backward(&shape, &q1, &k1, &v1, &g1).unwrap().unwrap();
        let double = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        for (x, gradient, at) in [
            (&q, &found.q, &(|x: &Tensor| whole(x, &k, &v)) as &dyn Fn(&Tensor) -> Tensor),
            (&k, &found.k, &|x: &Tensor| whole(&q, x, &v)),
            (&v, &found.v, &|x: &Tensor| whole(&q, &k, x)),
        ] {
            assert_eq!(gradient.dims(), x.dims());
            for seed in 50..55 {
                let direction = values(x.dims(), seed);
                let slope = |h: f64| dot(&g, &at(&(x + (&direction * h).unwrap()).unwrap()));
                let numeric = (slope(1e-5) - slope(-1e-5)) / 2e-5;
                let analytic = dot(&double(gradient), &direction);
                assert!((numeric - analytic).abs() < 1e-5 * (1.0 + numeric.abs()));
            }
        }
    }
}
