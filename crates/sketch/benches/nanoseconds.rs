//! `cargo bench -p codex-sketch`: what one operation takes, in nanoseconds.
//!
//! Each line is the best of seven runs: what the operation costs when nothing else disturbs it.

use std::hint::black_box;
use std::time::Instant;

use codex_sketch::Sketch;

const RUNS: usize = 7;
const ITERATIONS: u32 = 20_000;

fn nanoseconds(mut operation: impl FnMut(usize)) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        for iteration in 0..ITERATIONS {
            operation(iteration as usize);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ITERATIONS));
    }
    best
}

/// Samples at the quantiles of a log-logistic distribution, shuffled by a stride.
fn samples(count: usize, spread: f64) -> Vec<f64> {
    let at = |place: usize| (place as f64 + 0.5) / count as f64;
    (0..count)
        .map(|place| at(place * 7919 % count))
        .map(|u| 1.7 * (u / (1.0 - u)).powf(spread))
        .collect()
}

fn main() {
    println!(
        "{:<28}{:>8}{:>8}{:>8}{:>10}{:>8}{:>8}{:>8}",
        "samples", "bytes", "decode", "add", "encode", "all*", "p50-99", "merge"
    );
    for (name, count, spread) in [
        ("1", 1, 0.2),
        ("100", 100, 0.2),
        ("1,000", 1000, 0.2),
        ("10,000", 10_000, 0.2),
        ("100,000", 100_000, 0.3),
        ("1,000,000, wide", 1_000_000, 1.0),
    ] {
        let samples = samples(count, spread);
        let mut sketch = Sketch::new();
        for &sample in &samples {
            sketch.add(sample).expect("samples are finite and positive");
        }
        let bytes = sketch.to_bytes();
        let sample = |iteration: usize| samples[iteration % samples.len()];

        let decode = nanoseconds(|_| {
            black_box(Sketch::from_bytes(black_box(&bytes)).expect("own bytes are valid"));
        });
        let encode = nanoseconds(|_| {
            black_box(black_box(&sketch).to_bytes());
        });
        let all = nanoseconds(|iteration| {
            let mut sketch = Sketch::from_bytes(black_box(&bytes)).expect("own bytes are valid");
            sketch
                .add(sample(iteration))
                .expect("samples are finite and positive");
            black_box(sketch.to_bytes());
        });
        let percentiles = nanoseconds(|_| {
            for q in [0.5, 0.95, 0.99] {
                black_box(black_box(&sketch).quantile(q));
            }
        });
        let empty_merged = nanoseconds(|_| {
            let mut merged = Sketch::new();
            merged.merge(black_box(&sketch)).expect("few samples");
            black_box(merged);
        });
        let mut growing = sketch.clone();
        let add = nanoseconds(|iteration| {
            growing
                .add(black_box(sample(iteration)))
                .expect("samples are finite and positive");
        });
        println!(
            "{name:<28}{:>8}{decode:>8.0}{add:>8.0}{encode:>10.0}{all:>8.0}{percentiles:>8.0}{empty_merged:>8.0}",
            bytes.len()
        );
    }
    println!("* decode, add one sample and encode: what a recorded execution costs");
}
