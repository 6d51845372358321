//! Percentiles against the exact ones.

mod support;

use codex_sketch::{RELATIVE_ACCURACY, Sketch};
use support::{DISTRIBUTIONS, Distribution, draw, exact, sketch_of};

#[track_caller]
fn assert_close(name: &str, q: f64, estimate: f64, exact: f64) {
    let off = (estimate - exact).abs();
    assert!(
        off <= RELATIVE_ACCURACY * exact,
        "{name}, q = {q}: {estimate:e} where {exact:e} is exact"
    );
}

/// p50, p95 and p99 of the distribution, the sketch having been stored and read once.
fn check(distribution: Distribution, count: usize) {
    let mut samples = draw(distribution, count);
    let sketch = Sketch::from_bytes(&sketch_of(&samples).to_bytes()).expect("own bytes are valid");
    assert_eq!(sketch.count(), count as u64);
    for q in [0.99, 0.95, 0.5] {
        let estimate = sketch.quantile(q).expect("there are samples");
        assert_close(distribution.0, q, estimate, exact(&mut samples, q));
    }
    assert_eq!(sketch.min(), samples.iter().copied().reduce(f64::min));
    assert_eq!(sketch.max(), samples.iter().copied().reduce(f64::max));
}

#[test]
fn one_sample_is_exact() {
    for distribution in DISTRIBUTIONS {
        let samples = draw(distribution, 1);
        for q in [0.0, 0.5, 0.95, 0.99, 1.0] {
            assert_eq!(
                sketch_of(&samples).quantile(q),
                Some(samples[0]),
                "{}",
                distribution.0
            );
        }
    }
}

#[test]
fn up_to_ten_samples() {
    for distribution in DISTRIBUTIONS {
        for count in 2..=10 {
            check(distribution, count);
        }
    }
}

#[test]
fn ten_thousand_samples() {
    for distribution in DISTRIBUTIONS {
        check(distribution, 10_000);
    }
}

// One test for each million, so that they share the cores.
macro_rules! a_million_samples {
    ($($name:ident: $at:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            check(DISTRIBUTIONS[$at], 1_000_000);
        }
    )*};
}

a_million_samples! {
    a_million_uniform: 0,
    a_million_log_normal: 1,
    a_million_wide_log_normal: 2,
    a_million_pareto: 3,
    a_million_constant: 4,
    a_million_bimodal: 5,
    a_million_zeros: 6,
    a_million_half_zeros: 7,
    a_million_tiny: 8,
    a_million_huge: 9,
    a_million_log_uniform: 10,
}

#[test]
fn every_percentile_of_data_that_fits_is_close_and_none_falls() {
    let mut samples = draw(DISTRIBUTIONS[2], 10_000);
    let sketch = sketch_of(&samples);
    assert_eq!(sketch.collapsed(), 0);
    let mut previous = 0.0;
    for percent in 0..=100 {
        let q = f64::from(percent) / 100.0;
        let estimate = sketch.quantile(q).expect("there are samples");
        assert_close("wide log-normal", q, estimate, exact(&mut samples, q));
        assert!(estimate >= previous);
        previous = estimate;
    }
}

#[test]
fn the_rank_is_that_of_percentile_disc() {
    // Powers of two are 40 buckets apart: the estimate tells which sample was meant.
    let samples: Vec<f64> = (0..20).map(|exponent| 2_f64.powi(exponent)).collect();
    let sketch = sketch_of(&samples);
    for (q, rank) in [
        (0.0, 1),
        (0.05, 1),
        (0.051, 2),
        (0.5, 10),
        (0.501, 11),
        (0.95, 19),
        (0.951, 20),
        (1.0, 20),
    ] {
        assert_close(
            "powers of two",
            q,
            sketch.quantile(q).unwrap(),
            samples[rank - 1],
        );
    }
}

#[test]
fn no_answer_without_samples_or_for_a_quantile_out_of_range() {
    let mut sketch = Sketch::new();
    assert_eq!(
        (
            sketch.quantile(0.5),
            sketch.min(),
            sketch.max(),
            sketch.count()
        ),
        (None, None, None, 0)
    );
    sketch.add(1.0).unwrap();
    for q in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(sketch.quantile(q), None);
    }
}

#[test]
fn every_quantile_of_two_samples_is_exact() {
    let sketch = sketch_of(&[0.3, 0.1]);
    assert_eq!(sketch.quantile(0.5), Some(0.1));
    assert_eq!(sketch.quantile(0.51), Some(0.3));
}

#[test]
fn the_extremes_of_numbers_are_taken() {
    let sketch = sketch_of(&[
        0.0,
        -0.0,
        f64::from_bits(1),
        f64::MIN_POSITIVE,
        1.0,
        f64::MAX,
    ]);
    assert_eq!(
        (sketch.min(), sketch.max(), sketch.collapsed()),
        (Some(0.0), Some(f64::MAX), 0)
    );
    assert_eq!(sketch.quantile(0.33), Some(0.0));
    assert_eq!(sketch.quantile(0.5), Some(f64::from_bits(1)));
    assert_close(
        "the smallest normal",
        0.6,
        sketch.quantile(0.6).unwrap(),
        f64::MIN_POSITIVE,
    );
}
