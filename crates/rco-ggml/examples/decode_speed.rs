//! Prints how many million weights a second each type decodes, with one and two threads.
//!
//! `cargo run --release -p rco-ggml --example decode_speed`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example prints and may fail")]

use std::time::Instant;

use rco_formats::gguf::TensorType;
use rco_ggml::{can_decode, can_encode, decode};

/// Weights: 16 MiB of floats, more than the caches hold.
const COUNT: usize = 4 << 20;

fn main() {
    println!("{:8} {:>10} {:>10}   million weights/s", "type", "1 thread", "2 threads");
    for (ty, layout) in TensorType::known() {
        if !(can_decode(ty) && can_encode(ty)) {
            continue;
        }
        // Any bytes decode in the same time, if no scale is a NaN: 0x11 in each byte.
        let bytes = vec![0x11; COUNT / layout.block as usize * layout.bytes as usize];
        let speeds = [1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; COUNT];
            let mut best = f64::INFINITY;
            for _ in 0..7 {
                let start = Instant::now();
                pool.install(|| decode(ty, &bytes, &mut out)).unwrap();
                best = best.min(start.elapsed().as_secs_f64());
            }
            COUNT as f64 / best / 1e6
        });
        println!("{:8} {:>10.0} {:>10.0}", layout.name, speeds[0], speeds[1]);
    }
}
