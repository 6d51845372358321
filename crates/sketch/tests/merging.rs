//! A sketch is a function of its samples: neither order nor partition shows in the bytes.

mod support;

use codex_sketch::Sketch;
use proptest::prelude::*;
use support::{Random, sketch_of};

/// Samples of all sizes that occur, and of all that can.
fn sample() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => Just(0.0),
        6 => (-9.0..12.0).prop_map(|exponent| 10_f64.powf(exponent)),
        2 => 0.5..2.0,
        1 => (0_u64..f64::INFINITY.to_bits()).prop_map(f64::from_bits),
    ]
}

fn samples() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(sample(), 0..1500)
}

fn merged(left: &Sketch, right: &Sketch) -> Sketch {
    let mut merged = left.clone();
    merged.merge(right).expect("few samples");
    merged
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_adding_all(a in samples(), b in samples()) {
        let all = sketch_of(&[a.clone(), b.clone()].concat());
        prop_assert_eq!(merged(&sketch_of(&a), &sketch_of(&b)).to_bytes(), all.to_bytes());
    }

    #[test]
    fn merging_is_commutative_and_associative(a in samples(), b in samples(), c in samples()) {
        let (a, b, c) = (sketch_of(&a), sketch_of(&b), sketch_of(&c));
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &Sketch::new()), a);
    }

    #[test]
    fn the_order_of_samples_does_not_show(mut a in samples()) {
        let sketch = sketch_of(&a);
        a.sort_by(f64::total_cmp);
        prop_assert_eq!(&sketch_of(&a), &sketch);
        a.reverse();
        prop_assert_eq!(&sketch_of(&a), &sketch);
    }

    #[test]
    fn stored_and_read_it_is_the_same(a in samples()) {
        let sketch = sketch_of(&a);
        prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch));
    }
}

/// The properties hold where samples are collapsed: the case that a design without care gets wrong.
#[test]
fn a_collapse_does_not_depend_on_order_or_partition() {
    let mut random = Random(7);
    // Large counts in every eighth bucket over the whole range, heavier towards the low end.
    let mut parts = vec![Sketch::new(); 40];
    let mut all = Sketch::new();
    for _ in 0..200_000 {
        let exponent = -300.0 + 600.0 * random.unit().powi(3);
        let sample = 2_f64.powf((exponent * 5.0).round() / 5.0);
        let part = random.bits() as usize % parts.len();
        parts[part].add(sample).unwrap();
        all.add(sample).unwrap();
    }
    assert!(
        all.collapsed() > 100_000,
        "only {} are collapsed",
        all.collapsed()
    );
    assert!(parts.iter().all(|part| part.collapsed() > 0));

    let one_by_one = parts
        .iter()
        .fold(Sketch::new(), |sum, part| merged(&sum, part));
    let backwards = parts
        .iter()
        .rev()
        .fold(Sketch::new(), |sum, part| merged(&sum, part));
    let mut pairwise = parts;
    while pairwise.len() > 1 {
        pairwise = pairwise
            .chunks(2)
            .map(|pair| {
                pair.iter()
                    .fold(Sketch::new(), |sum, part| merged(&sum, part))
            })
            .collect();
    }
    assert_eq!(one_by_one.to_bytes(), all.to_bytes());
    assert_eq!(backwards.to_bytes(), all.to_bytes());
    assert_eq!(pairwise[0].to_bytes(), all.to_bytes());
}
