//! The size bound, and what fits without a collapse: the table in the crate documentation.

mod support;

use codex_sketch::{MAX_BYTES, Sketch};
use support::{DISTRIBUTIONS, Random, draw, sketch_of};

/// A sketch with `count` samples of one value.
fn repeated(sample: f64, count: u64) -> Sketch {
    let mut power = Sketch::new();
    power.add(sample).unwrap();
    let mut sketch = Sketch::new();
    for bit in 0..u64::BITS - count.leading_zeros() {
        if count >> bit & 1 == 1 {
            sketch.merge(&power).unwrap();
        }
        let same = power.clone();
        power.merge(&same).unwrap();
    }
    sketch
}

/// The largest sketch that `count` samples within `groups` neighbouring groups can make: one bucket
/// in each group (a group is a fifth of a power of two), all counts of about the same number of bits.
fn worst_case(groups: u64, count: u64) -> Sketch {
    let bits = (count / groups).ilog2();
    let mut left = count - (groups << bits);
    let mut sketch = Sketch::new();
    for group in 0..groups {
        // The next larger number of bits, as long as there are samples for it.
        let more = left.min(1 << bits) & (1 << bits);
        left -= more;
        // 2^(3/10) is 2^(1/5) and half a group more.
        let sample = 2_f64.powf(group as f64 / 5.0 + 0.1);
        sketch.merge(&repeated(sample, (1 << bits) + more)).unwrap();
    }
    sketch
}

#[test]
fn the_table_of_what_fits_is_right() {
    for (count, groups, factor) in [
        (10_000, 281, 1e16),
        (1_000_000, 135, 1e8),
        (1_000_000_000, 78, 40_000.0),
        ((1 << 53) - 1, 40, 200.0),
    ] {
        // The largest sample may lie anywhere in its group: one group less is certain.
        let certain = 2_f64.powf((groups - 1) as f64 / 5.0);
        assert!(
            certain >= factor,
            "{groups} groups are a factor of {certain}"
        );
        let sketch = worst_case(groups, count);
        assert_eq!(sketch.collapsed(), 0, "{count} samples");
        assert!(
            sketch.to_bytes().len() > MAX_BYTES - 100,
            "{count} samples fill the room"
        );
        assert!(
            worst_case(groups + 2, count).collapsed() > 0,
            "{count} samples, two groups more"
        );
    }
}

#[test]
fn five_hundred_samples_fit_wherever_they_are() {
    let mut random = Random(1);
    for _ in 0..100 {
        let samples: Vec<f64> = (0..500)
            .map(|_| f64::from_bits(random.bits() % f64::INFINITY.to_bits()))
            .collect();
        assert_eq!(sketch_of(&samples).collapsed(), 0);
    }
}

#[test]
fn four_thousand_five_hundred_samples_fit_from_1e_9_to_1e12() {
    // 350 groups, 149.5 of them below 1.
    let mut samples: Vec<f64> = (0..350)
        .map(|group| {
            2_f64
                .powf((f64::from(group) - 149.0) / 5.0 - 0.08)
                .max(1e-9)
        })
        .flat_map(|sample| [sample; 12])
        .collect();
    samples.extend(vec![1e12; 300]);
    assert_eq!((samples.len(), sketch_of(&samples).collapsed()), (4500, 0));
}

#[test]
fn a_million_log_uniform_samples_keep_the_upper_half() {
    let sketch = sketch_of(&draw(DISTRIBUTIONS[10], 1_000_000));
    assert!(sketch.to_bytes().len() <= MAX_BYTES);
    assert!(
        (300_000..500_000).contains(&sketch.collapsed()),
        "{} are collapsed",
        sketch.collapsed()
    );
    // A rank among the collapsed is answered too high, never below what is collapsed.
    let p10 = sketch.quantile(0.1).unwrap();
    assert!(p10 > 10_f64.powf(-9.0 + 2.1) && p10 < sketch.quantile(0.5).unwrap());
}

#[test]
fn the_bound_holds_while_samples_of_all_sizes_arrive() {
    let mut random = Random(3);
    let mut sketch = Sketch::new();
    for count in 1..=30_000 {
        sketch
            .add(f64::from_bits(random.bits() % f64::INFINITY.to_bits()))
            .unwrap();
        if count % 100 == 0 || count < 1000 {
            let bytes = sketch.to_bytes();
            assert!(
                bytes.len() <= MAX_BYTES,
                "{} bytes at {count} samples",
                bytes.len()
            );
            assert_eq!(Sketch::from_bytes(&bytes).as_ref(), Ok(&sketch));
        }
    }
    assert!(sketch.collapsed() > 0);
    assert_eq!(sketch.count(), 30_000);
}

#[test]
fn usual_sizes() {
    let size = |samples: &[f64]| sketch_of(samples).to_bytes().len();
    assert_eq!(size(&[]), 7);
    assert_eq!(size(&[0.0; 100]), 7);
    assert_eq!(size(&[1.5]), 27);
    for (count, at_most) in [
        (10, 50),
        (100, 100),
        (1000, 200),
        (10_000, 300),
        (100_000, 450),
    ] {
        let bytes = size(&draw(DISTRIBUTIONS[1], count));
        assert!(
            bytes <= at_most,
            "{count} log-normal samples take {bytes} bytes"
        );
    }
}

#[test]
fn a_million_wide_log_normal_samples_fit() {
    assert_eq!(sketch_of(&draw(DISTRIBUTIONS[2], 1_000_000)).collapsed(), 0);
}

#[test]
fn zeros_are_never_collapsed_and_rank_below_what_is() {
    let mut sketch = sketch_of(&draw(DISTRIBUTIONS[10], 1_000_000));
    let collapsed = sketch.collapsed();
    for _ in 0..10 {
        sketch.add(0.0).unwrap();
    }
    assert_eq!(
        (sketch.zeros(), sketch.collapsed(), sketch.min()),
        (10, collapsed, Some(0.0))
    );
    assert_eq!(sketch.quantile(10.0 / 1_000_010.0), Some(0.0));
    let first_kept = (collapsed + 11) as f64 / 1_000_010.0;
    let last_collapsed = (collapsed + 10) as f64 / 1_000_010.0;
    assert!(sketch.quantile(last_collapsed) < sketch.quantile(first_kept));
    assert_eq!(sketch.quantile(last_collapsed), sketch.quantile(0.1));
}
