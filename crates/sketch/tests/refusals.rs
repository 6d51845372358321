//! What a sketch does not take, and that it is unchanged then.

use codex_sketch::{MAX_COUNT, OutOfRange, Sketch};

#[test]
fn samples_out_of_range_are_refused_and_change_nothing() {
    let mut sketch = Sketch::new();
    sketch.add(1.0).unwrap();
    let before = sketch.clone();
    assert!(matches!(sketch.add(f64::NAN), Err(OutOfRange::NotFinite(x)) if x.is_nan()));
    assert_eq!(
        sketch.add(f64::INFINITY),
        Err(OutOfRange::NotFinite(f64::INFINITY))
    );
    assert_eq!(
        sketch.add(f64::NEG_INFINITY),
        Err(OutOfRange::NotFinite(f64::NEG_INFINITY))
    );
    assert_eq!(sketch.add(-1e-9), Err(OutOfRange::Negative(-1e-9)));
    assert_eq!(sketch, before);
}

#[test]
fn the_message_names_the_value() {
    let message = Sketch::new().add(-2.5).unwrap_err().to_string();
    assert_eq!(message, "a sample must not be negative, and -2.5 is");
}

/// A sketch of 2^52 samples, made by doubling.
fn two_to_the_52(sample: f64) -> Sketch {
    let mut sketch = Sketch::new();
    sketch.add(sample).unwrap();
    for _ in 0..52 {
        let same = sketch.clone();
        sketch.merge(&same).unwrap();
    }
    sketch
}

#[test]
fn counting_ends_at_the_maximum_without_overflow() {
    for (left, right) in [(0.0, 0.0), (1.0, 1.0), (1.0, 2.0), (0.0, 1e-9)] {
        let mut sketch = two_to_the_52(left);
        let other = two_to_the_52(right);
        assert_eq!(sketch.merge(&other), Err(OutOfRange::TooMany));
        assert_eq!(
            sketch,
            two_to_the_52(left),
            "a refused merge changes nothing"
        );

        // Up to the maximum: 2^51 + 2^50 + … + 1 more.
        let mut half = Sketch::new();
        half.add(right).unwrap();
        while sketch.count() < MAX_COUNT {
            sketch.merge(&half).unwrap();
            let same = half.clone();
            half.merge(&same).unwrap();
        }
        assert_eq!(sketch.count(), MAX_COUNT);
        assert_eq!(sketch.add(1.0), Err(OutOfRange::TooMany));
        assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch));
    }
}
